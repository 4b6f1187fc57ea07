"""What is known of the products whose vectors come from an array: at least the category."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Protocol

from lookalike_client.inputs import ProductInput
from lookalike_client.transfer.catalog_csv import CatalogError, CatalogFile, FailedRow
from lookalike_client.transfer.npy_file import name_at, open_names


class Facts(Protocol):
    """Tells what is known of products by their ids and their rows in the arrays."""

    @property
    def rows(self) -> tuple[Path, int] | None:
        """The file that has an entry for each row, and how many; None where there is no such file."""

    def of(self, product_id: str, rows: list[int]) -> ProductInput:
        """A product, without its vectors.

        Raises:
            ValueError: It cannot be told, and why; written for the user.
        """


class OneCategory:
    """All products are in one category, and nothing else is known of them."""

    rows = None

    def __init__(self, category: str) -> None:
        self._category = category

    def of(self, product_id: str, rows: list[int]) -> ProductInput:  # noqa: ARG002 - all are alike
        """The product; as `Facts.of`."""
        return ProductInput(product_id, self._category)


class CategoryOfEachRow:
    """An array holds the category of each row.

    Args:
        path: Strings, UTF-8 bytes or integers, of shape [n].

    Raises:
        CatalogError: It cannot be used.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._categories = open_names(path)

    @property
    def rows(self) -> tuple[Path, int]:
        """The file and its length."""
        return self._path, len(self._categories)

    def of(self, product_id: str, rows: list[int]) -> ProductInput:
        """The product; as `Facts.of`."""
        first = name_at(self._categories, rows[0])
        for row in rows[1:]:
            other = name_at(self._categories, row)
            if other != first:
                raise ValueError(f"is in category {first!r} in row {rows[0]} and in {other!r} in row {row}")
        return ProductInput(product_id, first)


class CatalogFacts:
    """A catalog's CSV holds title, category and attributes by id. All of its rows are in memory; images are not read.

    Args:
        catalog: The CSV; its rows need not name images.

    Raises:
        CatalogError: It cannot be read on.
    """

    rows = None

    def __init__(self, catalog: CatalogFile) -> None:
        self._name = catalog.path.name
        self._found: dict[str, ProductInput | str] = {}
        for row in catalog.rows():
            if not row.product_id:
                continue  # nobody's
            if row.product_id in self._found:
                self._found[row.product_id] = f"is in {self._name} more than once, again in row {row.number}"
            elif isinstance(row, FailedRow):
                self._found[row.product_id] = f"row {row.number} of {self._name} {row.reason}"
            else:
                self._found[row.product_id] = ProductInput(
                    row.product_id, row.category, row.title, row.image, row.attributes
                )
        if not self._found:
            raise CatalogError(f"{catalog.path} has no rows")

    def of(self, product_id: str, rows: list[int]) -> ProductInput:  # noqa: ARG002 - the id says it all
        """The product; as `Facts.of`."""
        found = self._found.get(product_id, f"is not in {self._name}")
        if isinstance(found, str):
            raise ValueError(found)  # noqa: TRY004 - the value of the id is to blame
        return found

    def without(self, ids: Iterable[str]) -> int:
        """How many products of the catalog are not among these ids."""
        return len(self._found.keys() - set(ids))
