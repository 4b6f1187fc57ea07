"""Recently read products in memory, never older than the last commit that the index knows."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping, Sequence
from sys import getsizeof

from lookalike_server.domain.catalog import Product

_OVERHEAD = 400
"""Bytes that a product takes beside its texts, about: the objects that hold them, and its place in the cache."""

Read = Callable[[Sequence[str]], Mapping[str, Product]]
"""Reads products by id from the file; unknown ones are missing from the result."""


class ProductCache:
    """An LRU cache of products by id. Any thread may use it."""

    def __init__(self, capacity: int) -> None:
        """Hold about `capacity` bytes; with 0 every product is read."""
        self._capacity = capacity
        self._lock = threading.Lock()
        self._products: OrderedDict[str, tuple[Product, int]] = OrderedDict()  # each with its size
        self._bytes = 0
        self._commits = 0

    def __len__(self) -> int:
        """Count the products in it."""
        return len(self._products)

    def get(self, ids: Sequence[str], read: Read) -> dict[str, Product]:
        """Return products by id, and `read` those that are not in the cache; unknown ids are missing."""
        if not self._capacity:
            return dict(read(ids))
        found: dict[str, Product] = {}
        missing = []
        with self._lock:
            before = self._commits
            for product_id in ids:
                entry = self._products.get(product_id)
                if entry is None:
                    missing.append(product_id)
                else:
                    self._products.move_to_end(product_id)
                    found[product_id] = entry[0]
        if missing:
            products = read(missing)
            found.update(products)
            self._put(products.values(), before)
        return found

    def forget(self, ids: Iterable[str]) -> None:
        """Drop products that a commit changed, once it can be read and before anybody learns of it."""
        with self._lock:
            self._commits += 1
            for product_id in ids:
                entry = self._products.pop(product_id, None)
                if entry is not None:
                    self._bytes -= entry[1]

    def _put(self, products: Iterable[Product], commits: int) -> None:
        sized = [(product, _size(product)) for product in products]
        with self._lock:
            if commits != self._commits:
                return  # a product may have been read before a commit that changed it
            for product, size in sized:
                _, before = self._products.pop(product.id, (product, 0))
                self._products[product.id] = product, size
                self._bytes += size - before
            while self._bytes > self._capacity:
                _, (_, size) = self._products.popitem(last=False)
                self._bytes -= size


def _size(product: Product) -> int:
    texts = [product.id, product.category, product.title, product.image_uri]
    attributes = product.attributes
    return _OVERHEAD + getsizeof(attributes) + sum(map(getsizeof, [*texts, *attributes, *attributes.values()]))
