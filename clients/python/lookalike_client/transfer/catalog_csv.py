"""Reads a catalog's CSV one row at a time, so that it may be of any size.

Columns: `product_id`, the partition column, `title`, `image` (a path relative to the CSV); every further column is an
attribute; an empty cell means that the product does not have it. UTF-8, with or without a byte order mark.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path


class CatalogError(Exception):
    """Why a file as a whole cannot be used; written for the user."""


@dataclass(frozen=True, slots=True)
class CatalogRow:
    """A valid row; `number` is its row in a spreadsheet, where the header is row 1."""

    number: int
    product_id: str
    category: str
    title: str
    image: str
    attributes: dict[str, str]


@dataclass(frozen=True, slots=True)
class FailedRow:
    """A row that was not imported, and why; `number` is as in CatalogRow, or counted from 0 in an array."""

    number: int
    product_id: str
    reason: str


class CatalogFile:
    """A catalog's CSV with a valid header.

    Args:
        path: The CSV.
        category_column: The column whose value is the product's category.
        needs_images: Whether every row must have an image; if not, the column may be missing and cells may be empty.

    Raises:
        CatalogError: It cannot be read, or lacks a column.
    """

    def __init__(self, path: Path, category_column: str = "gender", *, needs_images: bool = True) -> None:
        self.path = path
        self.folder = path.parent
        self.category_column = category_column
        self.needs_images = needs_images
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
        for number, cells in self._records():
            if number == 1 or not cells:
                continue
            if limit is not None and count == limit:
                return
            count += 1
            yield self._row(number, cells)

    def _row(self, number: int, cells: list[str]) -> CatalogRow | FailedRow:
        values = dict(zip(self._columns, cells, strict=False))
        product_id = values.get("product_id", "")
        if len(cells) != len(self._columns):
            reason = f"has {len(cells)} cells where the header has {len(self._columns)}"
            return FailedRow(number, product_id, reason)
        if not product_id:
            return FailedRow(number, product_id, "product_id is empty")
        image = values.get("image", "")
        if self.needs_images and not image:
            return FailedRow(number, product_id, "image is empty")
        own_columns = ("product_id", self.category_column, "title", "image")
        return CatalogRow(
            number=number,
            product_id=product_id,
            category=values[self.category_column],
            title=values["title"],
            image=image,
            attributes={name: value for name, value in values.items() if name and value and name not in own_columns},
        )

    def _header(self) -> list[str]:
        _, columns = next(self._records(), (1, []))
        columns = [column.strip() for column in columns]
        required = ["product_id", self.category_column, "title", *(["image"] if self.needs_images else [])]
        missing = [column for column in required if column not in columns]
        if missing:
            hint = "" if len(columns) > 1 else " (are its cells separated by commas?)"
            raise CatalogError(
                f"{self.path} lacks {_list(missing)}; its columns are: {', '.join(columns) or 'none'}{hint}"
            )
        # spreadsheets and data frames write index columns without a name, which are ignored
        repeated = sorted({column for column in columns if column and columns.count(column) > 1})
        if repeated:
            raise CatalogError(f"{self.path} has {_list(repeated)} more than once")
        return columns

    def _records(self) -> Iterator[tuple[int, list[str]]]:
        number = 0
        try:
            with self.path.open(encoding="utf-8-sig", newline="") as file:
                for number, cells in enumerate(csv.reader(file), start=1):
                    yield number, cells
        except OSError as error:
            raise CatalogError(f"{self.path} cannot be read: {error.strerror}") from error
        except UnicodeDecodeError as error:
            raise CatalogError(f"{self.path} is not UTF-8 near row {number + 1}: {error.reason}") from error
        except csv.Error as error:
            raise CatalogError(f"{self.path} is not a CSV at row {number + 1}: {error}") from error


def _list(columns: list[str]) -> str:
    return f"the column{'s' if len(columns) > 1 else ''} {', '.join(columns)}"
