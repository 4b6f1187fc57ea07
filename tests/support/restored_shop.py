"""A catalog that is written to while it is backed up, and what it answers."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import numpy as np

from lookalike_client import Client, LookalikeError, ProductInput
from support.serving import noise

PRODUCTS = 40
CATEGORIES = ("Shoes", "Hats")
NUMBER = "write"
"""The attribute that every numbered write sets to its number."""

_DELETED = 5
_DIM = 48


def _product(number: int, seed: int) -> ProductInput:
    category = CATEGORIES[number % len(CATEGORIES)]
    return ProductInput(f"p{number}", category, f"Product {number}", images=[noise(seed)])


def fill(client: Client) -> None:
    """Store the products, and delete some."""
    products = [_product(number, number) for number in range(PRODUCTS + _DELETED)]
    statuses = client.upsert(products) + client.delete([product.id for product in products[PRODUCTS:]])
    assert not any(status.error for status in statuses)


def write(client: Client, number: int) -> None:
    """Make the write of this number, which replaces a product, or changes its attributes."""
    product = _product(number * 7 % PRODUCTS, PRODUCTS + number)
    if number % 3 == 2:
        client.update_attributes(product.id, {NUMBER: str(number)})
    else:
        (status,) = client.upsert([replace(product, attributes={NUMBER: str(number)})])
        assert status.error is None


def written(client: Client) -> int:
    """Return how many of the numbered writes, which were made one after the other, a catalog shows."""
    return 1 + max(int(product.attributes.get(NUMBER, "-1")) for product in client.products())


class Writing:
    """Numbered writes, one after the other, until the server is gone."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._changed = threading.Condition()
        self.acknowledged = 0

    def wait_for_more(self, count: int) -> int:
        """Return how many have been acknowledged once there are so many more."""
        with self._changed:
            wanted = self.acknowledged + count
            assert self._changed.wait_for(lambda: self.acknowledged >= wanted, 120), "writes have stopped"
            return self.acknowledged

    def run(self) -> None:
        """Write until the server is gone."""
        try:
            while True:
                write(self._client, self.acknowledged)
                with self._changed:
                    self.acknowledged += 1
                    self._changed.notify_all()
        except LookalikeError:
            pass  # the server was killed


@contextmanager
def writing(client: Client) -> Iterator[Writing]:
    """Write from a thread until the block ends, by when the server must be gone."""
    running = Writing(client)
    thread = threading.Thread(target=running.run)
    thread.start()
    try:
        yield running
    finally:
        thread.join()


def answers(client: Client) -> tuple[Mapping[str, Any], list[float]]:
    """Ask everything: what is stored, and searches by product, vector and image; return the distances apart."""
    products = list(client.products())
    vectors = np.random.default_rng(5).normal(size=(10, _DIM))
    results = [
        *(client.search(product_id=product.id, all_categories=True, k=10) for product in products),
        *(client.search(vector=vector, all_categories=True, k=20) for vector in vectors),
        *(client.search(image=noise(seed), category="Hats", k=5) for seed in range(10)),
    ]
    stored = {
        "categories": [(each.name, each.count) for each in client.categories()],
        "products": products,
        "images": [client.image(product.id) for product in products],
        "vectors": [[vector.tolist() for vector in each.vectors] for each in client.export_products()],
        "found": [[(each.product, each.image_index) for each in result.neighbors] for result in results],
    }
    return stored, [each.distance for result in results for each in result.neighbors]
