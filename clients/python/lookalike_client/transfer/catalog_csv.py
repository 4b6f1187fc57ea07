"""Reads a catalog's CSV one row at a time, so that it may be of any size.

Columns: `product_id`, the partition column, `title`, `image` (a path relative to the CSV), or others that are named;
every further column is an attribute; an empty cell means that the product does not have it. Blanks around cells do not
count, but for those of a title in quotes. UTF-8, with or without a byte order mark, or UTF-16.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from lookalike_client.transfer.catalog_columns import CatalogColumns, CatalogOptions, find_columns
from lookalike_client.transfer.catalog_error import CatalogError, FailedRow
from lookalike_client.transfer.catalog_notes import MAX_TEXT_BYTES, CatalogNotes
from lookalike_client.transfer.catalog_text import read_lines
from lookalike_client.transfer.csv_records import Record, read_records
from lookalike_client.transfer.plain_numbers import plain_number

MAX_ATTRIBUTES = 64
"""The most attributes of a product, by the API."""

_SHORT = MAX_TEXT_BYTES // 4  # characters, which have at most four bytes each
_IMAGE_FILE = re.compile(r".*\.(jpe?g|png|webp|gif|bmp|avif|heic)", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class CatalogRow:
    """A valid row; `number` is its row in a spreadsheet, where the header is row 1."""

    number: int
    product_id: str
    category: str
    title: str
    image: str
    attributes: dict[str, str]


class CatalogFile:
    """A catalog's CSV with a valid header.

    Args:
        path: The CSV.
        options: How to read it.
        needs_images: Whether every row must have an image; if not, the column may be missing and cells may be empty.

    Raises:
        CatalogError: It cannot be read, or lacks a column.
    """

    def __init__(self, path: Path, options: CatalogOptions | None = None, *, needs_images: bool = True) -> None:
        self.path = path
        self.folder = path.parent
        self.options = options or CatalogOptions()
        self.needs_images = needs_images
        self.notes = CatalogNotes()
        """On the rows that were read last."""
        self._delimiter = ","
        self._columns = self._header()

    def __repr__(self) -> str:
        return f"<CatalogFile {self.path}>"

    def count(self, limit: int | None = None) -> int:
        """Return the number of rows, or `limit` if there are more.

        Raises:
            CatalogError: A row cannot be read; found before the import rather than in the middle of it.
        """
        return sum(1 for _ in self.rows(limit))

    def rows(self, limit: int | None = None) -> Iterator[CatalogRow | FailedRow]:
        """Yield the first `limit` rows (all when None), valid and invalid, in the order of the file.

        Raises:
            CatalogError: The rest of the file cannot be read.
        """
        count = 0
        self.notes = notes = CatalogNotes()
        lines = read_lines(self.path, self.options.encoding)
        for number, record in enumerate(read_records(lines, self._delimiter, self._is_row), start=1):
            if number == 1 or record.is_blank:
                continue
            if limit is not None and count == limit:
                return
            count += 1
            yield self._row(number, record, notes)

    def _row(self, number: int, record: Record, notes: CatalogNotes) -> CatalogRow | FailedRow:
        columns, cells = self._columns, [cell.strip() for cell in record.cells]
        product_id = cells[columns.id] if columns.id < len(cells) else ""
        if record.problem:
            return FailedRow(number, product_id, record.problem)
        if len(cells) != columns.count:
            return FailedRow(number, product_id, f"has {len(cells)} cells where the header has {columns.count}")
        if not product_id:
            return FailedRow(number, product_id, f"{columns.names['id']} is empty")
        image = "" if columns.image is None else cells[columns.image]
        if self.needs_images and not image:
            return FailedRow(number, product_id, f"{columns.names['image']} is empty")
        attributes = {}
        for name, place in columns.attributes:
            value = cells[place]
            if not value:
                continue
            if name in self.options.numeric:
                plain = plain_number(value)
                if plain is None:
                    return FailedRow(number, product_id, f"{name} is {value[:40]!r}, which is not a number")
                value = plain
            elif len(value) > _SHORT and len(value.encode()) > MAX_TEXT_BYTES:
                notes.leave_out(name)
                continue
            else:
                notes.see(name, value, number)
            attributes[name] = value
        if len(attributes) > MAX_ATTRIBUTES:
            reason = (
                f"has {len(attributes)} attributes, and a product has at most {MAX_ATTRIBUTES};"
                " choose with --columns or --ignore-columns"
            )
            return FailedRow(number, product_id, reason)
        return CatalogRow(number, product_id, cells[columns.category], record.cells[columns.title], image, attributes)

    def _is_row(self, line: str) -> bool:
        """Return whether a line can hardly be anything but a row: as many cells, an id, and the name of an image."""
        columns = self._columns
        cells = line.split(self._delimiter)
        if len(cells) != columns.count or columns.image is None or not cells[columns.id].strip():
            return False
        image = cells[columns.image].strip(' "\r\n')
        return _IMAGE_FILE.fullmatch(image) is not None or (self.folder / image).is_file()

    def _header(self) -> CatalogColumns:
        lines = read_lines(self.path, self.options.encoding)
        first = next(lines, "")
        if "," not in first and "\t" in first:  # what Excel saves as "Unicode text"
            self._delimiter = "\t"
        record = next(read_records(_and_then(first, lines), self._delimiter), None) or Record([])
        if record.problem:
            raise CatalogError(f"{self.path} has no header: {record.problem}")
        header = [cell.strip() for cell in record.cells]
        return find_columns(self.path, header, self.options, needs_images=self.needs_images)


def _and_then(first: str, lines: Iterator[str]) -> Iterator[str]:
    if first:
        yield first
        yield from lines
