"""Which columns of a catalog's CSV are what, and what becomes of their values."""

from __future__ import annotations

from pathlib import Path

import pytest

from lookalike_client.transfer.catalog_columns import CatalogOptions
from lookalike_client.transfer.catalog_csv import CatalogFile, CatalogRow
from lookalike_client.transfer.catalog_error import CatalogError, FailedRow
from support.catalogs import COLUMNS, FASHION_COLOR, FASHION_HEADER, write_catalog

ROW = ("1", "Men", "Schuh, groß", "a.jpg", "red")


def test_the_header_of_the_fashion_data_set(tmp_path: Path) -> None:
    """Its id, category, title and image are recognized, and the others are attributes."""
    row = (
        "42419,Girls,Apparel,Topwear,Tops,White,Casual,Gini and Jony Girls Knit White Top,42419.jpg,http://x/42419.jpg"
    )
    path = tmp_path / "fashion.csv"
    path.write_text(f"{FASHION_HEADER}\n{row}\n")
    (read,) = CatalogFile(path).rows()
    assert isinstance(read, CatalogRow)
    assert (read.product_id, read.category, read.image) == ("42419", "Girls", "42419.jpg")
    assert read.title == "Gini and Jony Girls Knit White Top"
    assert list(read.attributes) == ["Category", "SubCategory", "ProductType", FASHION_COLOR, "Usage", "ImageURL"]


def test_every_column_can_be_named(tmp_path: Path) -> None:
    """Id, title, image and category may be any columns, and the usual names are then attributes."""
    columns = ("sku", "brand", "name", "file", "title")
    options = CatalogOptions(id_column="sku", category_column="brand", title_column="name", image_column="file")
    (row,) = CatalogFile(write_catalog(tmp_path, [ROW], columns=columns), options).rows()
    assert row == CatalogRow(2, "1", "Men", "Schuh, groß", "a.jpg", {"title": "red"})


def test_a_missing_column_names_the_option(tmp_path: Path) -> None:
    """What is missing could have another name, and the options that give it are said; a named column must exist."""
    path = write_catalog(tmp_path, [ROW], columns=("sku", "gender", "title", "file", "color"))
    with pytest.raises(
        CatalogError, match=r"lacks the columns product_id, image; .*; --id-column and --image-column can"
    ):
        CatalogFile(path)
    with pytest.raises(CatalogError, match="lacks the column id; "):
        CatalogFile(path, CatalogOptions(id_column="id", image_column="file"))


def test_a_header_is_shown_in_a_line(tmp_path: Path) -> None:
    """Of many columns the first are named, without line ends and what else could control a terminal."""
    columns = ["two\nlines", "\x1b[2J", "x" * 1000, *map(str, range(300))]
    with pytest.raises(CatalogError) as raised:
        CatalogFile(write_catalog(tmp_path, [], columns=columns))
    shown = str(raised.value).partition("its columns are: ")[2]
    assert shown.startswith(f"two lines,  [2J, {'x' * 50}, 0, 1, ")
    assert "46, and 253 more; --id-column and" in shown


def test_columns_to_keep_and_to_ignore(tmp_path: Path) -> None:
    """Only the named columns are attributes, without the ignored ones, which may then even be there twice."""
    path = write_catalog(tmp_path, [(*ROW, "L", "x", "y")], columns=(*COLUMNS, "size", "junk", "junk"))
    for options in (
        CatalogOptions(columns=("size", "color"), ignore_columns=("color",)),
        CatalogOptions(ignore_columns=("junk", "color")),
    ):
        (row,) = CatalogFile(path, options).rows()
        assert isinstance(row, CatalogRow)
        assert row.attributes == {"size": "L"}
    for wrong in (CatalogOptions(columns=("sizes",)), CatalogOptions(ignore_columns=("sizes",))):
        with pytest.raises(CatalogError, match="lacks the column sizes; its columns are: product_id, "):
            CatalogFile(path, wrong)


def test_too_many_attributes_fail_a_row_alone(tmp_path: Path) -> None:
    """Of 300 columns a row may have 64 values; more is a failure that names the options, which help."""
    extra = [f"c{number}" for number in range(300)]
    full, sparse = (*ROW[:4], "", *extra), ("2", *ROW[1:4], "", *extra[:64], *[""] * 236)
    path = write_catalog(tmp_path, [full, sparse], columns=(*COLUMNS, *extra))
    failed, row = CatalogFile(path).rows()
    reason = "has 300 attributes, and a product has at most 64; choose with --columns or --ignore-columns"
    assert failed == FailedRow(2, "1", reason)
    assert isinstance(row, CatalogRow)
    assert all(isinstance(row, CatalogRow) for row in CatalogFile(path, CatalogOptions(columns=("c1", "c2"))).rows())


def test_long_texts_are_left_out_and_said(tmp_path: Path) -> None:
    """Values over 4,096 bytes are no reason to reject a product: 5 KB, 140 KB, and 4,096 bytes of longer letters."""
    values = ["x" * 5000, "x" * 140_000, "ß" * 2049, "ß" * 2048]
    catalog = CatalogFile(write_catalog(tmp_path, [(str(n), *ROW[1:4], value) for n, value in enumerate(values)]))
    rows = list(catalog.rows())
    assert [isinstance(row, CatalogRow) and list(row.attributes) for row in rows] == [[], [], [], ["color"]]
    assert catalog.notes.lines() == [
        "color: 3 values are longer than 4,096 bytes and left out; --ignore-columns leaves out the column"
    ]


PRICES = ["1,299", "12.50 EUR", "$12", "19.90", "", "free"]


def prices(folder: Path) -> Path:
    """Write a catalog with prices as shops write them."""
    rows = [(str(number), *ROW[1:4], price) for number, price in enumerate(PRICES)]
    return write_catalog(folder, rows, columns=(*COLUMNS[:4], "price"))


def test_numbers_that_filters_do_not_read_are_counted(tmp_path: Path) -> None:
    """Prices with currency or grouping are stored as they are, and counted with the first and the remedy."""
    catalog = CatalogFile(prices(tmp_path))
    assert [isinstance(row, CatalogRow) and row.attributes.get("price", "") for row in catalog.rows()] == PRICES
    assert catalog.notes.lines() == [
        "price: 3 of 5 values are numbers that filters do not read, the first '1,299' in row 2;"
        " --numeric price converts them"
    ]


def test_numbers_in_a_column_of_texts_are_no_note(tmp_path: Path) -> None:
    """A size of "EUR 42" among letters is a text like them."""
    rows = [(str(n), *ROW[1:4], size) for n, size in enumerate(["S", "M", "L", "EUR 42"])]
    catalog = CatalogFile(write_catalog(tmp_path, rows))
    assert len(list(catalog.rows())) == 4
    assert catalog.notes.lines() == []


def test_numeric_columns_are_converted_or_rejected(tmp_path: Path) -> None:
    """`numeric` makes every value one that filters read; a row without one fails alone, an empty cell stays empty."""
    catalog = CatalogFile(prices(tmp_path), CatalogOptions(numeric=("price",)))
    *rows, last = catalog.rows()
    read = [isinstance(row, CatalogRow) and row.attributes.get("price", "") for row in rows]
    assert read == ["1299", "12.50", "12", "19.90", ""]
    assert last == FailedRow(7, "5", "price is 'free', which is not a number")
    assert catalog.notes.lines() == []
    with pytest.raises(CatalogError, match="has no attribute prices, which --numeric names"):
        CatalogFile(prices(tmp_path), CatalogOptions(numeric=("prices",)))
