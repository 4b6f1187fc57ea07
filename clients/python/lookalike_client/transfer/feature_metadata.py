"""Metadata of products whose vectors come from an array: at least the category."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Protocol

from lookalike_client.inputs import ProductInput
from lookalike_client.transfer.catalog_csv import CatalogFile
from lookalike_client.transfer.catalog_error import CatalogError, FailedRow
from lookalike_client.transfer.npy_file import name_at, open_names


class Metadata(Protocol):
    """Looks up products by their ids and their rows in the arrays."""

    @property
    def rows(self) -> tuple[Path, int] | None:
        """The file with an entry for each row, and their number; None where there is no such file."""

    @property
    def notes(self) -> list[str]:
        """Sentences for the end of the import."""

    def product(self, product_id: str, rows: list[int]) -> ProductInput:
        """Return a product, without its vectors.

        Raises:
            ValueError: Why it has no metadata; written for the user.
        """


class OneCategory:
    """All products are in one category, and have no other metadata."""

    rows = None

    def __init__(self, category: str) -> None:
        self.notes: list[str] = []
        self._category = category

    def product(self, product_id: str, rows: list[int]) -> ProductInput:  # noqa: ARG002 - the same for all
        """Return the product, as `Metadata.product`."""
        return ProductInput(product_id, self._category)


class CategoryPerRow:
    """An array has the category of each row.

    Args:
        path: Strings, UTF-8 bytes or integers, of shape [n].

    Raises:
        CatalogError: As `open_names`.
    """

    def __init__(self, path: Path) -> None:
        self.notes: list[str] = []
        self._path = path
        self._categories = open_names(path)

    @property
    def rows(self) -> tuple[Path, int]:
        """Return the file and its length."""
        return self._path, len(self._categories)

    def product(self, product_id: str, rows: list[int]) -> ProductInput:
        """Return the product, as `Metadata.product`."""
        first = name_at(self._categories, rows[0])
        for row in rows[1:]:
            other = name_at(self._categories, row)
            if other != first:
                raise ValueError(f"has category {first!r} in row {rows[0]} and {other!r} in row {row}")
        return ProductInput(product_id, first)


class CatalogMetadata:
    """A catalog's CSV has title, category and attributes by id. All rows are in memory; images are not read.

    Args:
        catalog: The CSV; its rows need no images.

    Raises:
        CatalogError: It cannot be read, or has no rows.
    """

    rows = None

    def __init__(self, catalog: CatalogFile) -> None:
        self._file_name = catalog.path.name
        self._products: dict[str, ProductInput | str] = {}
        nameless = []
        for row in catalog.rows():
            if isinstance(row, FailedRow) and not row.product_id:
                nameless.append(row)
            elif row.product_id in self._products:
                self._products[row.product_id] = f"is in {self._file_name} more than once, again in row {row.number}"
            elif isinstance(row, FailedRow):
                self._products[row.product_id] = f"row {row.number} of {self._file_name} {row.reason}"
            else:
                self._products[row.product_id] = ProductInput(
                    row.product_id, row.category, row.title, row.image, row.attributes
                )
        if not self._products:
            raise CatalogError(f"{catalog.path} has no rows")
        self.notes = list(catalog.notes.lines())
        if nameless:
            first = f"row {nameless[0].number} {nameless[0].reason}"
            self.notes.append(
                f"{len(nameless):,} of the rows of {self._file_name} have no id that can be read; {first}"
            )

    def product(self, product_id: str, rows: list[int]) -> ProductInput:  # noqa: ARG002 - found by id
        """Return the product, as `Metadata.product`."""
        product = self._products.get(product_id, f"is not in {self._file_name}")
        if isinstance(product, str):
            raise ValueError(product)  # noqa: TRY004 - the value of the id is wrong
        return product

    def count_missing(self, ids: Iterable[str]) -> int:
        """Return how many products of the catalog are not among these ids."""
        return len(self._products.keys() - set(ids))
