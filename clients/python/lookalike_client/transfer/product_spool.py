"""Products on their way into a catalog's CSV, whose columns are known only when all have been seen.

They wait in a file of JSON lines, so that only the names of their attributes are in memory.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator
from itertools import chain, count
from pathlib import Path

from lookalike_client.types import Product

_OWN = ("product_id", "title", "image")


class ProductSpool:
    """Products in the order in which they were added, each with the number of its vectors.

    Args:
        path: The file they wait in; overwritten.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file = path.open("w", encoding="ascii")
        self._attributes: set[str] = set()
        self.longest_id = 0
        """Characters of the longest id."""
        self.left_out: list[str] = []
        """The first products that have an attribute which a CSV cannot hold."""

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def add(self, product: Product, vectors: int) -> None:
        """Keep a product and the number of its vectors."""
        written = {name: value for name, value in product.attributes.items() if _fits(name, value)}
        if len(written) < len(product.attributes) and len(self.left_out) < 3:
            self.left_out.append(product.id)
        self._attributes.update(written)
        self.longest_id = max(self.longest_id, len(product.id))
        line = (product.id, vectors, product.category, product.title, product.image_uri, written)
        self._file.write(json.dumps(line) + "\n")

    def ids(self) -> Iterator[str]:
        """The ids, each as often as it has vectors."""
        for product, vectors in self._products():
            yield from (product.id for _ in range(vectors))

    def category_column(self) -> str:
        """A name for the column of categories that no attribute has: if it can be `gender`, which `import` expects."""
        names = chain(("gender", "category"), (f"category_{number}" for number in count(2)))
        return next(name for name in names if name not in self._attributes)

    def write_csv(self, path: Path) -> None:
        """Write the catalog's CSV: a row for each product.

        Raises:
            OSError: It cannot be written.
        """
        attributes = sorted(self._attributes)
        with path.open("w", encoding="utf-8", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(["product_id", self.category_column(), "title", "image", *attributes])
            for product, _ in self._products():
                facts = (product.id, product.category, product.title, product.image_uri)
                writer.writerow([*facts, *(product.attributes.get(name, "") for name in attributes)])

    def _products(self) -> Iterator[tuple[Product, int]]:
        self._file.flush()
        with self._path.open(encoding="ascii") as file:
            for line in file:
                product_id, vectors, category, title, image_uri, attributes = json.loads(line)
                yield Product(product_id, category, title, image_uri, attributes), vectors


def _fits(name: str, value: str) -> bool:
    """Whether a CSV can hold an attribute: an empty cell is none, and the file's own columns are taken."""
    return bool(value) and name == name.strip() and name not in _OWN
