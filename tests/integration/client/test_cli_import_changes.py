"""`lookalike import` again, of a catalog that has changed."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result

from lookalike.v1 import catalog_service_pb2
from lookalike_client import Client, ProductInput
from lookalike_client.cli import main
from support.catalogs import COLUMNS, good_row, image_file, put, stored, stored_vectors, write_catalog, write_products
from support.scripted_server import ScriptedServer

Lookalike = Callable[..., Result]


def sent(server: ScriptedServer) -> list[str]:
    """Return the ids of all products that were sent."""
    requests = server.requests("UpsertProducts")
    assert all(isinstance(each, catalog_service_pb2.UpsertProductsRequest) for each in requests)
    return [product.id for request in requests for product in request.products]


def rows_of(folder: Path, ids: str) -> list[list[str]]:
    """Write images, and return a row for each id with a price."""
    return [[*good_row(folder, product_id), "9.90"] for product_id in ids]


def write(folder: Path, rows: list[list[str]]) -> Path:
    """Write a catalog with prices."""
    return write_catalog(folder, rows, columns=(*COLUMNS, "price"))


def test_only_changed_rows_are_sent(lookalike: Lookalike, server: ScriptedServer, real: Client, tmp_path: Path) -> None:
    """A new title, category and image path and a new row are sent; of others only changed attributes are updated."""
    rows = rows_of(tmp_path, "abcdefg")
    lookalike("import", write(tmp_path, rows), "--changed-only")
    before = len(sent(server))
    rows[0][2] = "Another title"
    rows[1][5] = "7.90"
    rows[2][1] = "Women"
    rows[3][3] = "images/a.jpg"
    rows[4][4] = ""
    rows.append([*good_row(tmp_path, "h"), "1"])
    rows.append(["i", "Men", "t", "none.jpg", "", ""])
    result = lookalike("import", write(tmp_path, rows), "--changed-only", "--concurrency", "1")
    first = result.stdout.splitlines()[0]
    assert first.startswith("imported 6 of 9 rows in ")
    assert first.endswith(": added 1, changed 5, unchanged 2, failed 1")
    assert before == 7
    assert sent(server)[before:] == list("acdh")
    assert [each.id for each in server.requests("UpdateAttributes")] == ["b", "e"]
    products = stored(real)
    assert (products["a"].title, products["b"].attributes["price"]) == ("Another title", "7.90")
    assert (products["c"].category, products["e"].attributes) == ("Women", {"price": "9.90"})


def test_the_counts_as_json(lookalike: Lookalike, real: Client, tmp_path: Path) -> None:
    """Added, changed, and as `skipped` those that are unchanged; without --changed-only nobody looked."""
    put(real, "old")
    rows = rows_of(tmp_path, "abc")
    lookalike("import", write(tmp_path, rows[:2]))
    rows[0][2] = "Another title"
    report = json.loads(lookalike("--json", "import", write(tmp_path, rows), "--changed-only").stdout)
    names = ("rows", "imported", "added", "changed", "skipped", "failed", "missing", "deleted")
    assert [report[name] for name in names] == [3, 2, 1, 1, 1, 0, 1, 0]
    report = json.loads(lookalike("--json", "import", write(tmp_path, rows)).stdout)
    assert [report[name] for name in names] == [3, 3, None, None, 0, 0, None, 0]


def test_an_image_that_was_replaced_under_its_name(
    lookalike: Lookalike, server: ScriptedServer, real: Client, tmp_path: Path
) -> None:
    """`--compare-images` finds it, and the row alone does not; the others are not sent."""
    path = write_products(tmp_path, *"abc")
    lookalike("import", path)
    old = stored_vectors(real)["b"]
    (tmp_path / "images" / "b.jpg").write_bytes(image_file("another"))
    assert "unchanged 3" in lookalike("import", path, "--changed-only").stdout
    assert "added 0, changed 1, unchanged 2" in lookalike("import", path, "--changed-only", "--compare-images").stdout
    assert sent(server) == [*"abc", "b"]
    assert (stored_vectors(real)["b"] != old).any()


def test_a_product_without_a_stored_image_is_sent(lookalike: Lookalike, real: Client, tmp_path: Path) -> None:
    """Where the server keeps no image there is nothing to compare: the row is imported again."""
    path = write_products(tmp_path, "a")
    lookalike("import", path)
    (exported,) = real.export_products()
    product = exported.product
    real.upsert(
        [
            ProductInput(
                product.id,
                product.category,
                product.title,
                product.image_uri,
                product.attributes,
                vectors=list(exported.vectors),
            )
        ]
    )
    assert "unchanged 1" in lookalike("import", path, "--changed-only").stdout
    assert "changed 1" in lookalike("import", path, "--changed-only", "--compare-images").stdout


@pytest.mark.parametrize("option", [[], ["--compare-images"]])
def test_a_new_price_leaves_the_images_alone(
    lookalike: Lookalike, server: ScriptedServer, real: Client, tmp_path: Path, option: list[str]
) -> None:
    """Attributes are set, also in a product of two images, and those that the row lacks now are removed."""
    rows = rows_of(tmp_path, "a")
    images = [image_file("a"), image_file("another")]
    real.upsert([ProductInput("a", "Men", "Product a", "images/a.jpg", {"price": "1", "old": "x"}, images=images)])
    assert "changed 1" in lookalike("import", write(tmp_path, rows), "--changed-only", *option).stdout
    assert real.get("a").product.attributes == {"color": "red", "price": "9.90"}
    assert real.get("a").image_count == 2
    assert sent(server) == []


def test_an_update_that_is_rejected_is_sent_as_a_whole(
    lookalike: Lookalike, server: ScriptedServer, real: Client, tmp_path: Path
) -> None:
    """A busy server, or one that lost the product meanwhile, gets the whole row, with the retries of an import."""
    rows = rows_of(tmp_path, "ab")
    lookalike("import", write(tmp_path, rows))
    rows[0][5] = rows[1][5] = "1"
    server.hooks["UpdateAttributes"] = lambda: real.delete(["a"])
    result = lookalike("import", write(tmp_path, rows), "--changed-only", "--concurrency", "1")
    assert "changed 2" in result.stdout
    assert sent(server) == [*"ab", "a"]
    assert stored(real)["a"].attributes["price"] == stored(real)["b"].attributes["price"] == "1"


def run(server: ScriptedServer, answer: str, *arguments: str | Path) -> Result:
    """Run `lookalike import` with a text on its standard input."""
    return CliRunner().invoke(main, ["--server", server.address, "import", *map(str, arguments)], input=answer)


@pytest.mark.parametrize(("answer", "left"), [("y\n", "ab"), ("n\n", "abxy")])
def test_rows_that_went_are_deleted_once_confirmed(
    server: ScriptedServer, real: Client, tmp_path: Path, answer: str, left: str
) -> None:
    """The question says how many and which; a no deletes nothing, and is no error."""
    put(real, "x")
    put(real, "y")
    result = run(server, answer, write_products(tmp_path, *"ab"), "--delete-missing")
    assert "Delete 2 of the server's 4 products, which the file does not have (x, y)? [y/N]" in result.stderr
    assert result.exit_code == 0
    assert ("deleted 2" in result.stdout) == (answer == "y\n")
    assert sorted(stored(real)) == list(left)


def test_nothing_is_deleted_where_nobody_can_confirm(server: ScriptedServer, real: Client, tmp_path: Path) -> None:
    """Without an answer the products stay, exit status 1; --yes needs none."""
    put(real, "x")
    path = write_products(tmp_path, *"ab")
    result = run(server, "", path, "--delete-missing")
    assert result.exit_code == 1
    assert "products were not deleted: nobody confirmed it; --yes deletes without asking" in result.stderr
    assert sorted(stored(real)) == ["a", "b", "x"]
    result = run(server, "", path, "--delete-missing", "--yes", "--changed-only")
    assert result.exit_code == 0, result.output
    assert result.stdout.splitlines()[0].endswith("unchanged 2, failed 0; deleted 1")
    assert sorted(stored(real)) == ["a", "b"]


def test_a_product_whose_row_failed_is_not_missing(
    lookalike: Lookalike, server: ScriptedServer, real: Client, tmp_path: Path
) -> None:
    """A row that cannot be imported today still has its product; one without an id that can be read keeps all."""
    for product_id in "abx":
        put(real, product_id)
    rows = [good_row(tmp_path, "a"), ("b", "Men", "t", "none.jpg", "")]
    result = run(server, "", write_catalog(tmp_path, rows), "--delete-missing", "--yes")
    assert "deleted 1" in result.stdout
    assert sorted(stored(real)) == ["a", "b"]
    put(real, "x")
    result = run(server, "", write_catalog(tmp_path, [*rows, ("", *rows[0][1:])]), "--delete-missing", "--yes")
    assert "products were not deleted: a row has no id that can be read" in result.stderr
    assert sorted(stored(real)) == ["a", "b", "x"]


def test_an_empty_file_deletes_nothing(server: ScriptedServer, real: Client, tmp_path: Path) -> None:
    """A catalog without rows is rather a mistake than the wish to delete all."""
    put(real, "x")
    result = run(server, "", write_catalog(tmp_path, []), "--delete-missing", "--yes")
    assert (result.exit_code, sorted(stored(real))) == (1, ["x"])
    assert "products were not deleted: there are no rows" in result.stderr


def test_more_products_than_a_request_takes_are_deleted(server: ScriptedServer, real: Client, tmp_path: Path) -> None:
    """1,001 ids are two requests."""
    vector = stored_vector(real)
    products = [ProductInput(f"x{number:04}", "Men", vectors=[vector]) for number in range(1001)]
    for begin in (0, 1000):
        assert all(status.ok for status in real.upsert(products[begin : begin + 1000]))
    result = run(server, "", write_products(tmp_path, "a"), "--delete-missing", "--yes")
    assert result.stdout.splitlines()[0].endswith("; deleted 1,001")
    assert sorted(stored(real)) == ["a"]


def stored_vector(client: Client) -> np.ndarray:
    """Return any vector of the server's model."""
    return client.embed(image_file("any")).values


def test_quickstart_finds_changes_and_asks_about_its_catalog(
    lookalike: Lookalike, server: ScriptedServer, real: Client, tmp_path: Path
) -> None:
    """Changed rows and images are sent, products without a row are noted, and the example is one of the file's."""
    put(real, "0", title="Red striped shirt")
    rows = [list(good_row(tmp_path, each)) for each in "abcd"]
    lookalike("quickstart", "--catalog", write_catalog(tmp_path, rows))
    rows[0][2] = "Another title"
    (tmp_path / "images" / "b.jpg").write_bytes(image_file("another"))
    result = lookalike("quickstart", "--catalog", write_catalog(tmp_path, rows[:3]))
    assert result.exit_code == 0, result.output
    assert "added 0, changed 2, unchanged 1, failed 0" in result.stdout
    assert "note: the server has 2 products that the file does not have; `lookalike import --del" in result.stdout
    assert "Products similar to 'Another title' (a, Men):" in result.stdout
    assert sent(server)[4:] == ["a", "b"]
