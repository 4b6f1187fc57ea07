"""Spools products for a catalog's CSV, whose columns are known only after the last product.

The products are kept in a file of JSON lines, so that only the names of their attributes are in memory.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator
from itertools import chain, count
from pathlib import Path

from lookalike_client.types import Product

_OWN_COLUMNS = ("product_id", "title", "image")


class ProductSpool:
    """Products in the order in which they were added, each with the count of its vectors.

    Args:
        path: The spool file; overwritten.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file = path.open("w", encoding="ascii")
        self._attributes: set[str] = set()
        self.longest_id = 0
        """The length of the longest id, in characters."""
        self.incomplete: list[str] = []
        """The ids of the first products with an attribute that the CSV cannot have."""

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def add(self, product: Product, vectors: int) -> None:
        """Spool a product and the count of its vectors."""
        attributes = {name: value for name, value in product.attributes.items() if _fits(name, value)}
        if len(attributes) < len(product.attributes) and len(self.incomplete) < 3:
            self.incomplete.append(product.id)
        self._attributes.update(attributes)
        self.longest_id = max(self.longest_id, len(product.id))
        line = (product.id, vectors, product.category, product.title, product.image_uri, attributes)
        self._file.write(json.dumps(line) + "\n")

    def ids(self) -> Iterator[str]:
        """Yield the ids, each repeated for each of its vectors."""
        for product, vectors in self._products():
            yield from (product.id for _ in range(vectors))

    def category_column(self) -> str:
        """Return a column for the categories that no attribute uses: `gender`, the default of `import`, if possible."""
        names = chain(("gender", "category"), (f"category_{number}" for number in count(2)))
        return next(name for name in names if name not in self._attributes)

    def write_csv(self, path: Path) -> None:
        """Write the catalog's CSV: a row for each product.

        Raises:
            OSError: It cannot be written.
        """
        attributes = sorted(self._attributes)
        with path.open("w", encoding="utf-8", newline="") as file:
            writer = csv.writer(file, quoting=csv.QUOTE_ALL)  # so that a title keeps the blanks around it
            writer.writerow(["product_id", self.category_column(), "title", "image", *attributes])
            for product, _ in self._products():
                own = (product.id, product.category, product.title, product.image_uri)
                writer.writerow([*own, *(product.attributes.get(name, "") for name in attributes)])

    def _products(self) -> Iterator[tuple[Product, int]]:
        self._file.flush()
        with self._path.open(encoding="ascii") as file:
            for line in file:
                product_id, vectors, category, title, image_uri, attributes = json.loads(line)
                yield Product(product_id, category, title, image_uri, attributes), vectors


def _fits(name: str, value: str) -> bool:
    """Return whether the CSV can have it: not empty, no blanks around it, and not named as a column of its own."""
    return bool(value) and value == value.strip() and name == name.strip() and name not in _OWN_COLUMNS
