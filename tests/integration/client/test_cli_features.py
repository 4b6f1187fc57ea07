"""`lookalike import --vectors --ids`: which arrays are taken, what they become, and what is rejected."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import Result
from grpc import StatusCode

from lookalike_client import Client
from support.arrays import features, save, vectors
from support.catalogs import put, stored, stored_vectors, write_catalog
from support.scripted_server import Rejection, ScriptedServer

Lookalike = Callable[..., Result]


@pytest.fixture
def model() -> str:
    """A model whose metric leaves vectors as they are, so that they can be compared exactly."""
    return "tiny-euclidean"


def failures(result: Result) -> list[tuple[int, str, str]]:
    """The failed rows of a report as JSON: number, id and reason."""
    return [(each["number"], each["product_id"], each["reason"]) for each in json.loads(result.stdout)["failures"]]


def test_arrays_become_products(lookalike: Lookalike, real: Client, tmp_path: Path) -> None:
    """Each row is a product of the one category, with the row as its vector; one line, exit status 0."""
    values = vectors(5)
    result = lookalike("import", *features(tmp_path, ["a", "b", "ä", "d", "靴"], values), "--category", "Men")
    assert result.exit_code == 0, result.output
    assert result.stdout.startswith("imported 5 ")
    assert sorted(stored(real)) == ["a", "b", "d", "ä", "靴"]
    assert {product.category for product in stored(real).values()} == {"Men"}
    assert np.array_equal(stored_vectors(real)["ä"], values[2:3])


@pytest.mark.parametrize(
    ("ids", "expected"),
    [
        (np.array(["x", "yy"]), ["x", "yy"]),
        (np.array([b"x", "ä".encode()]), ["x", "ä"]),
        (np.array([7, 2**40]), ["7", "1099511627776"]),
        (np.array([1, 255], np.uint8), ["1", "255"]),
        (np.array([1, -2], ">i4"), ["1", "-2"]),
        (np.array(["x", "y"], ">U3"), ["x", "y"]),
    ],
    ids=["strings", "bytes", "int64", "uint8", "big-endian integers", "big-endian strings"],
)
def test_ids_of_any_kind(
    lookalike: Lookalike, real: Client, tmp_path: Path, ids: np.ndarray, expected: list[str]
) -> None:
    """Strings are ids as they are, bytes as UTF-8 and integers in decimal digits."""
    arguments = ("--vectors", save(tmp_path, "v", vectors(2)), "--ids", save(tmp_path, "i", ids))
    assert lookalike("import", *arguments, "--category", "Men").exit_code == 0
    assert sorted(stored(real)) == sorted(expected)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["<f2", "<f4", "<f8", ">f4", ">f8"])
@pytest.mark.parametrize("order", ["C", "F"])
def test_vectors_of_any_float(lookalike: Lookalike, real: Client, tmp_path: Path, kind: str, order: Any) -> None:
    """Floats of 16, 32 and 64 bits of either byte order, by row or by column, arrive as the same values."""
    values = np.asarray(vectors(3).astype(kind), order=order)
    assert lookalike("import", *features(tmp_path, ["a", "b", "c"], values), "--category", "Men").exit_code == 0
    assert np.array_equal(stored_vectors(real)["b"][0], values[1].astype(np.float32))


def test_rows_of_one_id_are_images_in_order(lookalike: Lookalike, real: Client, tmp_path: Path) -> None:
    """Rows with the same id, adjacent or not, are one product's images in the order of the file."""
    values = vectors(14)
    ids = ["b", "a", "b", "b", *["c"] * 8, "a", "b"]
    result = lookalike("--json", "import", *features(tmp_path, ids, values), "--category", "Men", "--batch", "1")
    assert json.loads(result.stdout)["imported"] == 3
    assert np.array_equal(stored_vectors(real)["b"], values[[0, 2, 3, 13]])
    assert np.array_equal(stored_vectors(real)["a"], values[[1, 12]])
    assert len(stored_vectors(real)["c"]) == 8


def test_categories_of_each_row(lookalike: Lookalike, real: Client, tmp_path: Path) -> None:
    """`--categories` has one entry per row; the rows of a product must agree."""
    arguments = features(tmp_path, ["a", "b", "a", "c", "b"])
    categories = save(tmp_path, "categories", ["Men", "Men", "Men", "Hats", "Women"])
    result = lookalike("--json", "import", *arguments, "--categories", categories)
    assert result.exit_code == 1
    assert {name: product.category for name, product in stored(real).items()} == {"a": "Men", "c": "Hats"}
    assert failures(result) == [(1, "b", "has category 'Men' in row 1 and 'Women' in row 4")]


def test_metadata_from_a_catalog(lookalike: Lookalike, real: Client, tmp_path: Path) -> None:
    """`--catalog` gives title, category, uri and attributes by id; a product without metadata fails alone."""
    catalog = write_catalog(
        tmp_path,
        [
            ("a", "Men", "Shoe", "", "red"),
            ("b", "Men", "short"),
            ("c", "Women", "Bag", "c.jpg", ""),
            ("x", "Men", "x", "", ""),
            ("x", "Men", "x", "", ""),
            ("unused", "Men", "", "", ""),
        ],
    )
    arguments = features(tmp_path, ["x", "c", "b", "a", "nobody"])
    result = lookalike("--json", "import", *arguments, "--catalog", catalog)
    assert result.exit_code == 1
    product = stored(real)["a"]
    assert (product.title, product.category, dict(product.attributes)) == ("Shoe", "Men", {"color": "red"})
    assert stored(real)["c"].image_uri == "c.jpg"
    assert failures(result) == [
        (0, "x", "is in catalog.csv more than once, again in row 6"),
        (2, "b", "row 3 of catalog.csv has 3 cells where the header has 5"),
        (4, "nobody", "is not in catalog.csv"),
    ]
    assert result.stderr.startswith("1 products of ")
    assert " are skipped" in result.stderr


def test_a_catalog_needs_no_column_of_images(lookalike: Lookalike, real: Client, tmp_path: Path) -> None:
    """With vectors the CSV may lack the image column, and be partitioned by another one."""
    catalog = write_catalog(tmp_path, [("a", "Shoes", "t")], columns=("product_id", "kind", "title"))
    arguments = features(tmp_path, ["a"])
    assert lookalike("import", *arguments, "--catalog", catalog, "--category-column", "kind").exit_code == 0
    assert stored(real)["a"].category == "Shoes"


def test_bad_rows_are_listed_by_number(lookalike: Lookalike, real: Client, tmp_path: Path) -> None:
    """A row that is NaN, infinite, too large for float32 or all zeros fails its product, by its number from 0."""
    values = vectors(8).astype(np.float64)
    values[1, 3], values[2, 0], values[3, 7], values[5] = np.nan, np.inf, 1e300, 0
    ids = ["a", "b", "c", "d", "a", "e", "", "b"]
    result = lookalike("--json", "import", *features(tmp_path, ids, values), "--category", "Men")
    assert result.exit_code == 1
    assert sorted(stored(real)) == ["a"]
    assert failures(result) == [
        (1, "b", "row 1 of features.npy has nan at 3, which is not a finite float32"),
        (2, "c", "row 2 of features.npy has inf at 0, which is not a finite float32"),
        (3, "d", "row 3 of features.npy has 1e+300 at 7, which is not a finite float32"),
        (5, "e", "row 5 of features.npy must not be all zeros"),
        (6, "", "the id is empty"),
    ]


def test_more_images_than_a_product_may_have(lookalike: Lookalike, real: Client, tmp_path: Path) -> None:
    """Nine rows of one id fail as one product."""
    result = lookalike("--json", "import", *features(tmp_path, [*["a"] * 9, "b"]), "--category", "Men")
    assert failures(result) == [(0, "a", "has 9 rows, the last in row 8; a product has at most 8 images")]
    assert sorted(stored(real)) == ["b"]


def test_ids_that_are_not_utf_8(lookalike: Lookalike, real: Client, tmp_path: Path) -> None:
    """Bytes that are not UTF-8 fail their row."""
    result = lookalike("--json", "import", *features(tmp_path, [b"\xff", b"b"]), "--category", "Men")
    assert failures(result) == [(0, "", "the entry np.bytes_(b'\\xff') is not UTF-8")]
    assert sorted(stored(real)) == ["b"]


def test_what_the_server_rejects_is_listed_with_its_message(
    lookalike: Lookalike, server: ScriptedServer, tmp_path: Path
) -> None:
    """A product that the server rejects fails alone, without the position in the request."""
    server.item_rejections["b"] = [Rejection(StatusCode.INVALID_ARGUMENT, "no", [("product.id", "is odd")])]
    result = lookalike("--json", "import", *features(tmp_path, ["a", "b"]), "--category", "Men")
    assert failures(result) == [(1, "b", "INVALID_ARGUMENT: id: is odd")]


def test_a_batch_is_retried_while_the_server_is_busy(
    lookalike: Lookalike, server: ScriptedServer, real: Client, tmp_path: Path
) -> None:
    """A product rejected by a full queue is sent again, as in an import of images."""
    server.item_rejections["b"] = [Rejection(StatusCode.RESOURCE_EXHAUSTED, "full")]
    result = lookalike("import", *features(tmp_path, ["a", "b"]), "--category", "Men")
    assert result.exit_code == 0, result.output
    assert "the server is busy (full); retrying in 0.5 s" in result.stderr
    assert sorted(stored(real)) == ["a", "b"]


def test_existing_products_are_skipped_and_a_limit_is_kept(lookalike: Lookalike, real: Client, tmp_path: Path) -> None:
    """`--skip-existing` and `--limit` count products, not rows."""
    put(real, "a")
    arguments = [*features(tmp_path, ["b", "b", "a", "c"]), "--category", "Men", "--limit", "2", "--skip-existing"]
    report = json.loads(lookalike("--json", "import", *arguments).stdout)
    assert (report["imported"], report["skipped"]) == (1, 1)
    assert sorted(stored(real)) == ["a", "b"]


def test_an_import_that_must_stop_counts_products(lookalike: Lookalike, server: ScriptedServer, tmp_path: Path) -> None:
    """It prints why it stopped, how many products are imported, and how to continue."""
    server.hooks["ImportProducts"] = lambda: server.rejections.append(Rejection(StatusCode.UNAUTHENTICATED, "no token"))
    # a stream for each, whose rejection cannot come while more is being written
    arguments = [*features(tmp_path, ["a", "b", "c"]), "--category", "Men", "--batch", "1", "--concurrency", "1"]
    result = lookalike("import", *arguments)
    assert result.exit_code == 1
    assert result.stderr == (
        "lookalike: import stopped: UNAUTHENTICATED: no token. 1 products are imported; "
        "run the same command with --skip-existing to continue.\n"
    )
