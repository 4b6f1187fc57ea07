"""Splits the lines of a CSV into records: strict about quotes, and going on after the line with the bad one.

Python's `csv` takes a quote that is never closed for a cell of many lines, and cannot go back to the rows in it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass

_QUOTE = '"'
_MAX_LINES = 1000
"""The most lines of one record; a quote that is open for longer was hardly meant."""

_NOT_CLOSED = "is not closed"
_IN_THE_MIDDLE = 'closes in the middle of a cell; write "" for a quote in a cell'


@dataclass(frozen=True, slots=True)
class Record:
    """A record: its cells without the blanks around them, but with those in quotes; or why it cannot be used.

    Attributes:
        cells: The cells; only those before the quote in question where there is a problem.
        problem: What is wrong with a quote, and in which line; empty when nothing is.
    """

    cells: list[str]
    problem: str = ""

    @property
    def is_blank(self) -> bool:
        """Whether no cell has anything in it, as the rows that spreadsheets add below a table."""
        return not self.problem and not any(cell.strip() for cell in self.cells)


def read_records(
    lines: Iterator[str], delimiter: str = ",", is_row: Callable[[str], bool] = lambda _: False
) -> Iterator[Record]:
    """Yield the records of a CSV in the order of the file.

    A quote within a cell that does not begin with one stands for itself. Where a quote is not closed, or closed in the
    middle of a cell, its record has the problem, and reading resumes on the line after the one in which it opened.

    Args:
        lines: The lines with their ends.
        delimiter: What separates cells.
        is_row: Whether a line is a row of its own, so that it cannot be inside a cell of several lines.
    """
    return iter(_Reader(lines, delimiter, is_row).read, None)


class _Reader:
    def __init__(self, lines: Iterator[str], delimiter: str, is_row: Callable[[str], bool]) -> None:
        self._lines = enumerate(lines, start=1)
        self._again: deque[tuple[int, str]] = deque()
        self._delimiter = delimiter
        self._is_row = is_row
        self._record: list[tuple[int, str]] = []

    def read(self) -> Record | None:
        self._record = []
        text = self._next()
        if text is None:
            return None
        if _QUOTE not in text:
            return Record([cell.strip() for cell in text.split(self._delimiter)])
        cells: list[str] = []
        position = 0
        while True:
            quote = position
            while text[quote : quote + 1] == " ":
                quote += 1
            if text[quote : quote + 1] == _QUOTE:
                opened = self._record[-1][0]
                quoted = self._quoted(text, quote + 1, first=not cells)
                if isinstance(quoted, str):
                    return self._fail(cells, opened, quoted)
                cell, text, end = quoted
                rest = text[end:].lstrip(" ")
                if rest.strip("\r\n") and not rest.startswith(self._delimiter):
                    # a quote further down is rather one that opens a cell of another row
                    problem = _NOT_CLOSED if self._record[-1][0] > opened else _IN_THE_MIDDLE
                    return self._fail(cells, opened, problem)
                end = text.find(self._delimiter, end)
            else:
                end = text.find(self._delimiter, position)
                cell = text[position : None if end < 0 else end].strip()
            cells.append(cell)
            if end < 0:
                return Record(cells)
            position = end + len(self._delimiter)

    def _quoted(self, text: str, position: int, *, first: bool) -> tuple[str, str, int] | str:
        """Return the text of a quoted cell, the line that it ends in and where; or what is wrong with its quote."""
        parts = []
        while True:
            end = text.find(_QUOTE, position)
            if end < 0:
                parts.append(text[position:])
                if len(self._record) == _MAX_LINES:
                    return f"is not closed within {_MAX_LINES:,} lines"
                following = self._next()
                # the last line of a record's first cell looks like a row itself
                if following is None or (not (first and _QUOTE in following) and self._is_row(following)):
                    return _NOT_CLOSED
                text, position = following, 0
                continue
            parts.append(text[position:end])
            if text[end + 1 : end + 2] != _QUOTE:
                return "".join(parts), text, end + 1
            parts.append(_QUOTE)
            position = end + 2

    def _next(self) -> str | None:
        numbered = self._again.popleft() if self._again else next(self._lines, None)
        if numbered is None:
            return None
        self._record.append(numbered)
        return numbered[1]

    def _fail(self, cells: list[str], opened: int, problem: str) -> Record:
        self._again.extendleft(reversed([each for each in self._record if each[0] > opened]))
        return Record(cells, f"the quote that opens in line {opened} {problem}")
