"""Which encodings and kinds of files a catalog may have."""

from __future__ import annotations

import gzip
import os
import re
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lookalike_client.transfer.catalog_columns import CatalogOptions
from lookalike_client.transfer.catalog_csv import CatalogFile, CatalogRow
from lookalike_client.transfer.catalog_error import CatalogError
from support.catalogs import COLUMNS, write_catalog

ROW = ("1", "Men", "Schuh, groß", "a.jpg", "red")


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be", "utf-32", "utf-8-sig"])
@pytest.mark.parametrize("compressed", [False, True])
def test_encodings_that_are_recognized(tmp_path: Path, encoding: str, compressed: bool) -> None:
    """UTF-16 with and without its mark, UTF-32 and UTF-8, each also compressed with gzip, whatever the file's name."""
    path = write_catalog(tmp_path, [ROW], encoding=encoding)
    if compressed:
        path.write_bytes(gzip.compress(path.read_bytes()))
    (row,) = CatalogFile(path).rows()
    assert isinstance(row, CatalogRow)
    assert row.title == "Schuh, groß"


def test_a_mark_is_none_of_the_header(tmp_path: Path) -> None:
    """A byte order mark counts as none also where the encoding is named without it."""
    for encoding in ("utf-8", "utf-16-le"):
        path = write_catalog(tmp_path, [ROW], columns=("\ufeffproduct_id", *COLUMNS[1:]), encoding=encoding)
        (row,) = CatalogFile(path, CatalogOptions(encoding=encoding)).rows()
        assert row.product_id == "1"


def test_unicode_text_of_excel(tmp_path: Path) -> None:
    """UTF-16 with tabs between the cells is read."""
    path = tmp_path / "catalog.txt"
    path.write_bytes("product_id\tgender\ttitle\timage\r\n1\tMen\tSchuh, groß\ta.jpg\r\n".encode("utf-16"))
    assert list(CatalogFile(path).rows()) == [CatalogRow(2, "1", "Men", "Schuh, groß", "a.jpg", {})]


def test_another_encoding_can_be_named(tmp_path: Path) -> None:
    """Without the option the message names it; with it the file is read; a wrong or unknown one is said."""
    path = write_catalog(tmp_path, [ROW], encoding="cp1252")
    with pytest.raises(
        CatalogError, match=r"not UTF-8 near row 1: .*; save it as CSV UTF-8, or name .*--encoding cp1252"
    ):
        CatalogFile(path)
    (row,) = CatalogFile(path, CatalogOptions(encoding="cp1252")).rows()
    assert isinstance(row, CatalogRow)
    assert row.title == "Schuh, groß"
    with pytest.raises(CatalogError, match="is not ascii near row 1"):
        list(CatalogFile(path, CatalogOptions(encoding="ascii")).rows())
    for unknown in ("latin-99", "hex"):
        with pytest.raises(CatalogError, match=f"--encoding {unknown} is not known"):
            CatalogFile(path, CatalogOptions(encoding=unknown))


@pytest.mark.parametrize(
    ("first", "message"),
    [
        (b"PK\x03\x04\x14", "an Excel workbook (.xlsx) or another zip archive; save the sheet as CSV UTF-8"),
        (b"\xd0\xcf\x11\xe0\xa1", "an Excel workbook (.xls); save"),
        (b"PAR1", "a Parquet file"),
        (b"BZh91AY", "compressed with bzip2; decompress it"),
        (b"\xfd7zXZ\0", "compressed with xz"),
        (b"\x28\xb5\x2f\xfd\x04", "compressed with zstd"),
    ],
)
@pytest.mark.parametrize("compressed", [False, True])
def test_other_kinds_of_files_are_named(tmp_path: Path, first: bytes, message: str, compressed: bool) -> None:
    """Workbooks and other containers are called what they are, with the remedy."""
    path = tmp_path / "catalog.csv"
    path.write_bytes(gzip.compress(first) if compressed else first)
    with pytest.raises(CatalogError, match=re.escape(f"is not a CSV but {message}")):
        CatalogFile(path)


@pytest.mark.parametrize("damage", ["cut", "flipped", "no gzip"])
def test_damaged_gzip(tmp_path: Path, damage: str) -> None:
    """A compressed file that ends early, is damaged, or only begins like one: one sentence."""
    path = write_catalog(tmp_path, [(str(number), *ROW[1:]) for number in range(2000)])
    data = bytearray(gzip.compress(path.read_bytes()))
    if damage == "cut":
        del data[-100:]
    elif damage == "flipped":
        data[len(data) // 2] ^= 255
    else:
        data = data[:2] + b"no gzip at all"
    path.write_bytes(data)
    with pytest.raises(CatalogError, match="is damaged: its gzip data end or break near row"):
        list(CatalogFile(path).rows())


@pytest.mark.timeout(30)
def test_a_pipe_is_no_catalog(tmp_path: Path) -> None:
    """A named pipe would wait for a writer, and cannot be read twice."""
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(CatalogError, match="pipe is not a regular file"):
        CatalogFile(tmp_path / "pipe")


TEXT = 'product_id,gender,title,image,price\n1,Men,"a, b",a.jpg,1\n2,Men,"two\nlines",b.jpg,"1,299"\n3,Men,t,c.jpg,\n'
damage = st.tuples(
    st.integers(0, 250),
    st.integers(0, 6),
    st.one_of(st.binary(max_size=3), st.sampled_from([b'"', b'""', b"\n", b"\r", b"\0", b"\xff\xfe", b" "])),
)


@given(st.sampled_from(["utf-8", "utf-16", "utf-8-sig"]), st.booleans(), st.lists(damage, min_size=1, max_size=3))
@settings(max_examples=150, suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture])
def test_any_damage_is_a_sentence_or_costs_rows(
    tmp_path: Path, encoding: str, compressed: bool, damages: list[tuple[int, int, bytes]]
) -> None:
    """Bytes replaced, removed and inserted: the file is read the same twice, or the error is one line."""
    data = TEXT.encode(encoding)
    if compressed:
        data = gzip.compress(data)
    for place, removed, inserted in damages:
        data = data[:place] + inserted + data[place + removed :]
    path = tmp_path / "catalog.csv"
    path.write_bytes(data)
    error = ""
    try:
        catalog = CatalogFile(path)
        assert catalog.count() == len(list(catalog.rows()))
    except CatalogError as raised:
        error = str(raised)
    assert "\n" not in error
