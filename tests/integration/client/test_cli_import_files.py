"""`lookalike import` of files as shops have them, into a real server."""

from __future__ import annotations

import csv
import json
import os
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from click.testing import Result

from lookalike_client import Between, Client
from lookalike_client.transfer.importer import MAX_FAILURES
from support.catalogs import (
    COLUMNS,
    FASHION_COLOR,
    FASHION_HEADER,
    good_row,
    image_file,
    stored,
    write_catalog,
    write_products,
)
from support.scripted_server import ScriptedServer

Lookalike = Callable[..., Result]


def counts(result: Result) -> dict[str, int]:
    """Return the counts of a report's first line, which must add up to the rows."""
    line = result.stdout.splitlines()[0]
    numbers = {name: int(number.replace(",", "")) for name, number in re.findall(r"(\w+) ([\d,]+)(?=[, ;]|$)", line)}
    (rows,) = re.findall(r"of ([\d,]+) rows", line)
    skipped = numbers.get("skipped", 0) + numbers.get("unchanged", 0)
    assert numbers["imported"] + skipped + numbers["failed"] == int(rows.replace(",", "")), line
    return {name: numbers[name] for name in ("imported", "skipped", "failed")} | {"rows": int(rows.replace(",", ""))}


def failures(result: Result) -> list[list[str]]:
    """Return the failed rows of a report: row, id and reason."""
    lines = result.stdout.splitlines()
    if len(lines) < 2 or not lines[1].startswith("row "):
        return []
    failed: list[list[str]] = []
    for line in lines[2:]:
        if line.startswith("note: "):
            break
        if line[: lines[1].index("id")].strip():
            failed.append([each.strip() for each in line.split(maxsplit=2)])
        else:  # a reason that is longer than a line
            failed[-1][2] += f" {line.strip()}"
    return failed


def test_every_row_is_stored_skipped_or_listed(lookalike: Lookalike, real: Client, tmp_path: Path) -> None:
    """A file with a row of every fault: the counts add up to its rows, and each row that is not stored is listed."""
    good = [",".join(good_row(tmp_path, each)) for each in "abcd"]
    lookalike("import", write_catalog(tmp_path, [good[0].split(",")]))
    os.mkfifo(tmp_path / "pipe.jpg")
    (tmp_path / "text.jpg").write_text("no image")
    faults = {
        "q1": 'q1,Men,"24 inch,images/a.jpg,red',
        "q2": 'q2,Men,"12" TV,images/a.jpg,red',
        "cells": "cells,Men,t,images/a.jpg,red,more",
        "few": "few,Men",
        "none": "none,Men,t,images/none.jpg,red",
        "noname": "noname,Men,t,,red",
        "pipe": "pipe,Men,t,pipe.jpg,red",
        "url": "url,Men,t,https://shop.example/a.jpg,red",
        "data": f"data,Men,t,data:image/png;base64{'A' * 100_000},red",
        "text": "text,Men,t,text.jpg,red",
        "title": f"title,Men,{'t' * 140_000},images/a.jpg,red",
        "nocategory": "nocategory,,t,images/a.jpg,red",
        "b": good[1],
    }
    lines = [",".join(COLUMNS), good[0], good[1], *faults.values(), "", good[2], " , ,,,", good[3]]
    path = tmp_path / "catalog.csv"
    path.write_text("\n".join(lines), encoding="utf-8")
    result = lookalike("import", path, "--skip-existing")
    assert result.exit_code == 1
    assert counts(result) == {"imported": 3, "skipped": 1, "failed": len(faults), "rows": 4 + len(faults)}
    assert [id_ for _, id_, _ in failures(result)] == list(faults)
    assert [int(row) for row, _, _ in failures(result)] == list(range(4, 4 + len(faults)))
    assert sorted(stored(real)) == ["a", "b", "c", "d"]
    assert max(len(reason) for _, _, reason in failures(result)) < 300


def test_a_quote_left_open_costs_its_row_alone(lookalike: Lookalike, real: Client, tmp_path: Path) -> None:
    """The two rows after it are stored, the row itself is listed with the line of the quote."""
    b, c = (",".join(good_row(tmp_path, each)) for each in "bc")
    path = tmp_path / "catalog.csv"
    path.write_text(f'{",".join(COLUMNS)}\na,Men,"24 inch,images/b.jpg,red\n{b}\n{c}\nd,Men,"12" TV,images/c.jpg,red\n')
    result = lookalike("import", path)
    assert failures(result) == [
        ["2", "a", "the quote that opens in line 2 is not closed"],
        ["5", "d", 'the quote that opens in line 5 closes in the middle of a cell; write "" for a quote in a cell'],
    ]
    assert sorted(stored(real)) == ["b", "c"]


def test_blanks_around_cells_make_no_second_category(lookalike: Lookalike, real: Client, tmp_path: Path) -> None:
    """`Men ` is Men, and ` images/a.jpg` is a file."""
    a, b = good_row(tmp_path, "a"), good_row(tmp_path, "b")
    result = lookalike("import", write_catalog(tmp_path, [a, (b[0], "Men ", " t ", f" {b[3]}", " red")]))
    assert result.exit_code == 0, result.output
    assert [(each.name, each.count) for each in real.categories()] == [("Men", 2)]
    assert (stored(real)["b"].title, stored(real)["b"].attributes) == ("t", {"color": "red"})


def test_long_texts_and_wide_files(lookalike: Lookalike, real: Client, tmp_path: Path) -> None:
    """A 5 KB description is left out with a note; a row of 300 attributes fails until columns are chosen."""
    wide = [f"c{number}" for number in range(300)]
    columns = (*COLUMNS, "description", *wide)
    rows = [(*good_row(tmp_path, "a"), "x" * 5000, *[""] * 300), (*good_row(tmp_path, "b"), "short", *wide)]
    path = write_catalog(tmp_path, rows, columns=columns)
    result = lookalike("import", path)
    assert [id_ for _, id_, _ in failures(result)] == ["b"]
    assert "has 302 attributes, and a product has at most 64; choose with --columns" in result.stdout
    assert "note: description: 1 value is longer than 4,096 bytes and left out" in result.stdout
    assert stored(real)["a"].attributes == {"color": "red"}
    result = lookalike("import", path, "--columns", "color,c7", "--ignore-columns", "description")
    assert (result.exit_code, result.stdout.count("\n")) == (0, 1), result.output
    assert stored(real)["b"].attributes == {"color": "red", "c7": "c7"}


def test_a_fashion_data_set_as_it_is_unpacked(lookalike: Lookalike, real: Client, tmp_path: Path) -> None:
    """Its header is recognized, and its images are found in its folders by their names."""
    for folder, product_id in (("Apparel/Boys", "10037"), ("Footwear/Women", "42419")):
        images = tmp_path / folder / "Images" / "images_with_product_ids"
        images.mkdir(parents=True)
        (images / f"{product_id}.jpg").write_bytes(image_file(product_id))
    url = "http://assets.example/x.jpg"
    rows = [
        f"10037,Boys,Apparel,Topwear,Tshirts,Black,Casual,A T-shirt,10037.jpg,{url}",
        f"42419,Women,Footwear,Shoes,Heels,Red,Casual,A heel,42419.jpg,{url}",
        f"1,Women,Footwear,Shoes,Heels,Red,Casual,A heel,1.jpg,{url}",
    ]
    path = tmp_path / "fashion.csv"
    path.write_text("\n".join([FASHION_HEADER, *rows]))
    result = lookalike("import", path)
    assert failures(result) == [["4", "1", "image 1.jpg: No such file or directory"]]
    product = stored(real)["42419"]
    assert (product.category, product.title, product.image_uri) == ("Women", "A heel", "42419.jpg")
    assert product.attributes[FASHION_COLOR] == "Red"


def test_columns_by_options(lookalike: Lookalike, real: Client, tmp_path: Path) -> None:
    """Every column of an own header can be named."""
    row = good_row(tmp_path, "a")
    path = write_catalog(tmp_path, [row], columns=("sku", "brand", "name", "file", "color"))
    rejected = lookalike("import", path)
    assert rejected.exit_code == 1
    for option in ("--id-column", "--category-column", "--title-column", "--image-column"):
        assert option in rejected.stderr
    options = ("--id-column=sku", "--category-column=brand", "--title-column=name", "--image-column=file")
    assert lookalike("import", path, *options).exit_code == 0
    assert (stored(real)["a"].category, stored(real)["a"].title) == ("Men", "Product a")


def test_prices(lookalike: Lookalike, real: Client, tmp_path: Path) -> None:
    """Prices that a range would miss are counted; `--numeric` stores them as numbers, and the range finds them."""
    values = ["1,299", "12.50 EUR", "$12", "on request"]
    rows = [(*good_row(tmp_path, id_), value) for id_, value in zip("abcd", values, strict=True)]
    path = write_catalog(tmp_path, rows, columns=(*COLUMNS, "price"))

    def in_range() -> list[str]:
        found = real.search(product_id="a", k=10, category="Men", filters=[Between("price", 1, 2000)]).neighbors
        return sorted(each.product.id for each in found)

    result = lookalike("import", path)
    assert result.exit_code == 0
    note = "price: 3 of 4 values are numbers that filters do not read, the first '1,299' in row 2; --numeric price"
    assert f"note: {note} converts them\n" in result.stdout
    assert note in json.loads(lookalike("--json", "import", path).stdout)["notes"][0]
    assert in_range() == []
    result = lookalike("import", path, "--numeric", "price")
    assert failures(result) == [["5", "d", "price is 'on request', which is not a number"]]
    assert counts(result)["imported"] == 3
    assert in_range() == ["b", "c"]
    assert stored(real)["a"].attributes["price"] == "1299"


def test_files_outside_the_folder(lookalike: Lookalike, real: Client, tmp_path: Path) -> None:
    """Absolute paths, `..` and links are rejected, and followed with --allow-outside; a pipe never."""
    folder = tmp_path / "shop"
    folder.mkdir()
    (tmp_path / "x.jpg").write_bytes(image_file("x"))
    (folder / "link.jpg").symlink_to("../x.jpg")
    os.mkfifo(folder / "pipe.jpg")
    images = [str(tmp_path / "x.jpg"), "../x.jpg", "link.jpg", "pipe.jpg"]
    path = write_catalog(folder, [(str(n), "Men", "t", image, "") for n, image in enumerate(images)])
    assert [id_ for _, id_, _ in failures(lookalike("import", path))] == ["0", "1", "2", "3"]
    assert stored(real) == {}
    result = lookalike("import", path, "--allow-outside")
    assert failures(result) == [["5", "3", "image pipe.jpg: is not a regular file"]]
    assert sorted(stored(real)) == ["0", "1", "2"]


def test_a_file_for_all_failed_rows(lookalike: Lookalike, tmp_path: Path) -> None:
    """`--failed-rows` has every row, where the report lists the first thousand; the catalog is not overwritten."""
    rows = [(f"p{number}", "Men", "t", "none.jpg", "") for number in range(MAX_FAILURES + 5)]
    path = write_catalog(tmp_path, rows)
    result = lookalike("import", path, "--failed-rows", tmp_path / "failed.csv")
    assert counts(result)["failed"] == len(rows)
    assert "... and 5 more; --failed-rows FILE.csv has all" in result.stdout
    with (tmp_path / "failed.csv").open(encoding="utf-8", newline="") as file:
        failed = list(csv.reader(file))
    assert failed[0] == ["row", "id", "reason"]
    assert failed[1:] == [
        [str(number + 2), row[0], "image none.jpg: No such file or directory"] for number, row in enumerate(rows)
    ]
    result = lookalike("import", path, "--failed-rows", path)
    assert "--failed-rows would overwrite the catalog" in result.stderr
    assert len(path.read_text().splitlines()) == len(rows) + 1


def test_the_catalog_of_vectors_is_read_alike(lookalike: Lookalike, real: Client, tmp_path: Path) -> None:
    """With --vectors the CSV's options hold too, its notes are shown, and rows without an id are counted."""
    np.save(tmp_path / "v.npy", np.eye(2, 48, dtype=np.float32))
    np.save(tmp_path / "i.npy", np.array(["a", "b"]))
    path = tmp_path / "c.csv"
    path.write_text('sku,brand,title,price\n a ,Men,t,"1,299"\nb,Men,t,$12\n"c,Men\n', encoding="utf-16")
    arrays = ("--vectors", tmp_path / "v.npy", "--ids", tmp_path / "i.npy", "--catalog", path)
    result = lookalike("import", *arrays, "--id-column", "sku", "--category-column", "brand")
    assert result.exit_code == 0, result.output
    assert result.stdout.startswith("imported 2 of 2 products in ")
    assert "note: price: 2 of 2 values are numbers that filters do not read" in result.stdout
    note = (
        "note: 1 of the rows of c.csv have no id that can be read; row 4 the quote that opens in line 4 is not closed\n"
    )
    assert note in result.stdout
    assert sorted(stored(real)) == ["a", "b"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("--columns= ", "must be names of columns separated by commas"),
        ("--numeric a,,b", "must be names of columns separated by commas"),
        ("--changed-only --skip-existing", "Give one of --changed-only and --skip-existing"),
        ("--compare-images", "--compare-images needs --changed-only"),
        ("--yes", "--yes needs --delete-missing"),
        ("--delete-missing --limit 3", "--delete-missing needs the whole file"),
    ],
)
def test_options_that_do_not_go_together(
    lookalike: Lookalike, server: ScriptedServer, tmp_path: Path, words: str, message: str
) -> None:
    """They are reported before any call; exit status 2."""
    result = lookalike("import", write_products(tmp_path, "a"), *words.split(" "))
    assert result.exit_code == 2
    assert message in " ".join(result.stderr.split())
    assert server.calls == []
