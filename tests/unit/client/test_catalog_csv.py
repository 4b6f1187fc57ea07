"""Reading a catalog's CSV."""

from __future__ import annotations

from pathlib import Path

import pytest

from lookalike_client.transfer.catalog_columns import CatalogOptions
from lookalike_client.transfer.catalog_csv import CatalogFile, CatalogRow
from lookalike_client.transfer.catalog_error import CatalogError, FailedRow
from support.catalogs import COLUMNS, write_catalog

ROW = ("1", "Men", "Schuh, groß", "a.jpg", "red")


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig"])
def test_a_row_becomes_a_product(tmp_path: Path, encoding: str) -> None:
    """With or without a byte order mark: the named columns, every further one as an attribute, row 2 is the first."""
    catalog = CatalogFile(write_catalog(tmp_path, [ROW], encoding=encoding))
    assert list(catalog.rows()) == [CatalogRow(2, "1", "Men", "Schuh, groß", "a.jpg", {"color": "red"})]


def test_empty_cells_and_nameless_columns_are_no_attributes(tmp_path: Path) -> None:
    """A product lacks an attribute whose cell is empty; an index column without a name is nobody's attribute."""
    path = write_catalog(tmp_path, [("0", *ROW[:4], "")], columns=("", *COLUMNS))
    (row,) = CatalogFile(path).rows()
    assert isinstance(row, CatalogRow)
    assert row.attributes == {}


def test_another_column_can_partition(tmp_path: Path) -> None:
    """With another category column, the default one is an attribute like any other."""
    (row,) = CatalogFile(write_catalog(tmp_path, [ROW]), options=CatalogOptions(category_column="color")).rows()
    assert isinstance(row, CatalogRow)
    assert (row.category, row.attributes) == ("red", {"gender": "Men"})


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        (("product_id", "gender", "title"), "lacks the column image; its columns are: product_id, gender, title"),
        (("product_id", "title"), "lacks the columns gender, image; "),
        (("product_id;gender;title;image",), "are its cells separated by commas"),
        ((*COLUMNS, "color"), "has the column color more than once"),
    ],
)
def test_a_header_that_will_not_do(tmp_path: Path, columns: tuple[str, ...], message: str) -> None:
    """Missing and doubled columns are named before anything is read."""
    with pytest.raises(CatalogError, match=message.replace("(", r"\(")):
        CatalogFile(write_catalog(tmp_path, [], columns=columns))


def test_an_empty_file_is_no_catalog(tmp_path: Path) -> None:
    """A file without a header lacks all columns."""
    path = tmp_path / "catalog.csv"
    path.write_bytes(b"")
    with pytest.raises(CatalogError, match="its columns are: none"):
        CatalogFile(path)


def test_rows_that_cannot_be_used_fail_alone(tmp_path: Path) -> None:
    """A row without an id or an image, or with too few or too many cells, is failed with its number and the reason."""
    rows = [ROW, ("", *ROW[1:]), ("2", "Men", "t", "", "red"), ("3", "Men"), (*ROW, "x"), ("4", *ROW[1:])]
    read = list(CatalogFile(write_catalog(tmp_path, rows)).rows())
    assert read[1:5] == [
        FailedRow(3, "", "product_id is empty"),
        FailedRow(4, "2", "image is empty"),
        FailedRow(5, "3", "has 2 cells where the header has 5"),
        FailedRow(6, "1", "has 6 cells where the header has 5"),
    ]
    assert [type(each) for each in (read[0], read[5])] == [CatalogRow, CatalogRow]


def test_row_numbers_are_those_of_a_spreadsheet(tmp_path: Path) -> None:
    """A title of two lines is one row, and an empty line is a row that is passed over."""
    path = tmp_path / "catalog.csv"
    path.write_text('product_id,gender,title,image\n1,Men,"two\nlines",a.jpg\n\n2,Men,t,b.jpg\n', encoding="utf-8")
    assert [(each.number, each.product_id) for each in CatalogFile(path).rows()] == [(2, "1"), (4, "2")]


def test_a_limit_counts_rows(tmp_path: Path) -> None:
    """`rows` and `count` stop after the limit, and do without one."""
    catalog = CatalogFile(write_catalog(tmp_path, [(str(number), *ROW[1:]) for number in range(5)]))
    assert (len(list(catalog.rows(3))), catalog.count(3), catalog.count(9), catalog.count()) == (3, 3, 5, 5)


def test_another_encoding_is_said(tmp_path: Path) -> None:
    """A file that is not UTF-8 is rejected with the place, not read wrong."""
    path = write_catalog(tmp_path, [ROW], encoding="latin-1")
    with pytest.raises(CatalogError, match="not UTF-8 near row 1"):
        CatalogFile(path)


def test_rows_are_read_as_they_are_asked_for(tmp_path: Path) -> None:
    """The first row is there before the rest has been read, so that the size of a file does not matter."""
    path = write_catalog(tmp_path, [ROW] * 20_000)
    with path.open("ab") as file:
        file.write(b"\xff\xff\n")
    rows = CatalogFile(path).rows()
    assert next(rows).number == 2
    with pytest.raises(CatalogError):
        list(rows)


def test_a_row_with_a_quote_left_open_fails_alone(tmp_path: Path) -> None:
    """The row is listed with its id and the line of the quote, and the rows that a parser would take into it are in."""
    path = tmp_path / "catalog.csv"
    path.write_text('product_id,gender,title,image\n1,Men,"24 inch,a.jpg\n2,Men,5",b.jpg\n3,Men,"x",c.jpg\n')
    first, *others = CatalogFile(path).rows()
    assert first == FailedRow(2, "1", "the quote that opens in line 2 is not closed")
    assert others == [CatalogRow(3, "2", "Men", '5"', "b.jpg", {}), CatalogRow(4, "3", "Men", "x", "c.jpg", {})]


def test_rows_without_names_of_images_are_kept_apart_by_their_files(tmp_path: Path) -> None:
    """A line whose image is a file in the folder is a row, whatever the file's name."""
    (tmp_path / "b").write_bytes(b"")
    path = tmp_path / "catalog.csv"
    path.write_text('product_id,gender,title,image\n1,Men,"24 inch,a\n2,Men,5",b\n')
    assert [row.product_id for row in CatalogFile(path).rows()] == ["1", "2"]


def test_a_header_with_an_open_quote(tmp_path: Path) -> None:
    """A header that is not closed is no header."""
    path = tmp_path / "catalog.csv"
    path.write_text('product_id,"gender,title,image\n1,Men,t,a.jpg\n')
    with pytest.raises(CatalogError, match="has no header: the quote that opens in line 1 is not closed"):
        CatalogFile(path)


def test_blanks_around_cells_and_empty_rows(tmp_path: Path) -> None:
    """Cells are trimmed as the header is, no-break spaces too, and a row of nothing but commas is no row."""
    path = write_catalog(tmp_path, [(" 1", "Men ", "t\xa0", " a.jpg", "\tred "), ("", " ", "", "", "")])
    assert list(CatalogFile(path).rows()) == [CatalogRow(2, "1", "Men", "t", "a.jpg", {"color": "red"})]
