"""Splitting a CSV into records: strict quotes, and no row lost."""

from __future__ import annotations

import csv
import io

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lookalike_client.transfer.csv_records import Record, read_records


def read(text: str, delimiter: str = ",") -> list[Record]:
    """Return the records of a text; a line with four cells of which the last is a JPEG is a row."""

    def is_row(line: str) -> bool:
        cells = line.split(delimiter)
        return len(cells) == 4 and cells[3].strip(' "\r\n').endswith(".jpg")

    return list(read_records(iter(io.StringIO(text, newline="")), delimiter, is_row))


@pytest.mark.parametrize(
    ("text", "cells"),
    [
        ("a,b\r\n", [["a", "b"]]),
        ("a,b\rc,d", [["a", "b"], ["c", "d"]]),
        (" a , b\xa0,\tc\n", [["a", "b", "c"]]),
        ('"a, ""b""",c\n', [['a, "b"', "c"]]),
        ('"two\r\nlines",c\n', [["two\r\nlines", "c"]]),
        (' "a,b" , "c" \n', [["a,b", "c"]]),
        (' a ," b ",c\n', [["a", " b ", "c"]]),
        ('12" TV,5\'10"\n', [['12" TV', "5'10\""]]),
        ('"",""\n', [["", ""]]),
        ('a,""', [["a", ""]]),
        ("\n,\n", [[""], ["", ""]]),
        ("", []),
    ],
)
def test_good_records(text: str, cells: list[list[str]]) -> None:
    """Cells are without blanks around them, but with those in quotes; a quote inside a cell stands for itself."""
    assert read(text) == [Record(each) for each in cells]


GOOD = ["1,Men,t,a.jpg", "2,Men,t,b.jpg", "3,Men,t,c.jpg"]
UNCLOSED = "is not closed"
MIDDLE = 'closes in the middle of a cell; write "" for a quote in a cell'


@pytest.mark.parametrize(
    ("row", "following", "problem"),
    [
        ('9,Men,"24 inch,x.jpg', GOOD, UNCLOSED),
        ('9,Men,"24 inch,x.jpg', ['1,Men,"t",a.jpg', *GOOD[1:]], UNCLOSED),
        ('9,Men,"24 inch,x.jpg', ['1,Men,"t",a.png', *GOOD[1:]], UNCLOSED),
        ('9,Men,"24 inch,x.jpg', ['1,Men,24",a.jpg', *GOOD[1:]], UNCLOSED),
        ('9,Men,"24 inch,x.jpg', ['1,Men,"",a.jpg', *GOOD[1:]], UNCLOSED),
        ('9,Men,"24 inch,x.jpg', [], UNCLOSED),
        ('9,Men,"24 inch,x.jpg', ["no row"] * 1200, f"{UNCLOSED} within 1,000 lines"),
        ('9,Men,"12" TV,x.jpg', GOOD, MIDDLE),
        ('9,Men,"12" TV",x.jpg', GOOD, MIDDLE),
        ('9,Men,t,"x.jpg', GOOD, UNCLOSED),
        ('"9,Men,t,x.jpg', GOOD, UNCLOSED),
    ],
)
def test_a_bad_quote_costs_its_own_row_alone(row: str, following: list[str], problem: str) -> None:
    """The record with the quote names its line and has the cells before it; all lines after it are read."""
    records = read("\n".join(["id,gender,title,image", *GOOD, row, *following]))
    plain = list(csv.reader(following))
    bad = records[4]
    assert bad.problem == f"the quote that opens in line 5 {problem}"
    assert bad.cells == [] if row.startswith('"') else bad.cells[0] == "9"
    assert [each.cells for each in records[5:]] == plain
    assert [each.problem for each in records if each.problem] == [bad.problem]


def test_reading_resumes_after_the_line_with_the_quote_not_after_the_one_with_the_row() -> None:
    """A record whose second cell is whole over two lines, and whose third is not closed, resumes on its third line."""
    records = read('1,"two\nlines","open,a.jpg\n2,Men,t,b.jpg\n')
    assert records == [
        Record(["1", "two\nlines"], "the quote that opens in line 2 is not closed"),
        Record(["2", "Men", "t", "b.jpg"]),
    ]


def test_a_first_cell_of_two_lines_is_no_lost_row() -> None:
    """The line that ends a record's first cell has as many cells as a row, and is none."""
    assert read('"two\nlines",Men,t,a.jpg\n') == [Record(["two\nlines", "Men", "t", "a.jpg"])]


def test_tabs_separate_and_are_no_blanks() -> None:
    """With tabs between cells an empty one stays empty."""
    assert read('a\t\t"b\tc"\t \n', "\t") == [Record(["a", "", "b\tc", ""])]


cell = st.text(st.sampled_from('ab,"\r\n \xe9'), max_size=8).map(str.strip)


@given(st.lists(st.lists(cell, min_size=2, max_size=5), max_size=6))
@settings(max_examples=150)
def test_what_pythons_writer_writes_is_read(rows: list[list[str]]) -> None:
    """Any cells without blanks around them come back from a CSV of Python's own module."""
    file = io.StringIO(newline="")
    csv.writer(file).writerows(rows)
    assert [each.cells for each in read_records(iter(io.StringIO(file.getvalue(), newline="")))] == rows


@given(
    st.lists(st.tuples(st.sampled_from(["{}", '"{}"', '5" {}', '"{} ""x"""']), st.booleans()), min_size=1, max_size=12)
)
@settings(max_examples=150)
def test_no_row_of_a_file_with_bad_quotes_is_lost(rows: list[tuple[str, bool]]) -> None:
    """Wherever quotes are left open, every row is a record, in its order, with its own id."""
    titles = ['"24 inch' if bad else form.format("t") for form, bad in rows]
    lines = [f"{number},Men,{title},{number}.jpg" for number, title in enumerate(titles)]
    records = read("\n".join(lines))
    assert [each.cells[0] for each in records] == [str(number) for number in range(len(rows))]
    assert [bool(each.problem) for each in records] == [bad for _, bad in rows]
