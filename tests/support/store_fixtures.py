"""Real catalogs for tests, and short ways to write and read them."""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from lookalike_server.domain.catalog import EmbeddedProduct, IndexChange, Product
from lookalike_server.domain.inference import Floats, Metric, Model, Resize
from lookalike_server.store.catalog_store import Store

DIM = 4
MODEL = Model(
    name="small",
    backbone="none",
    weights="none",
    digest="a" * 64,
    height=8,
    width=8,
    resize=Resize.BILINEAR,
    pooling="avg",
    dim=DIM,
    metric=Metric.EUCLIDEAN,
    precision="fp32",
)


def ignore(_: IndexChange) -> None:
    """Stand in for an index that is never searched."""


@contextmanager
def opened(folder: Path, model: Model = MODEL, on_commit: Callable[[IndexChange], None] = ignore) -> Iterator[Store]:
    """Open the catalog in this folder until the end of the block."""
    store = Store(folder, model, on_commit)
    try:
        yield store
    finally:
        store.close()


def product(product_id: str, category: str = "Shoes", **attributes: str) -> Product:
    """Return a product with a value in every field."""
    return Product(product_id, category, f"Title of {product_id}", f"file:///{product_id}.jpg", attributes)


def vectors(*firsts: float) -> Floats:
    """Return one embedding for each number, which is its first component."""
    return np.array([[first, 0.25, -1.0, 1e-30] for first in firsts], dtype=np.float32)


def embedded(product_id: str, *firsts: float, category: str = "Shoes", **attributes: str) -> EmbeddedProduct:
    """Return a product with one embedding for each number, ready to store."""
    return EmbeddedProduct(product(product_id, category, **attributes), vectors(*firsts))


def put(store: Store, product_id: str, *firsts: float, category: str = "Shoes", **attributes: str) -> None:
    """Store one product and wait until it is durable."""
    store.upsert(embedded(product_id, *(firsts or (1.0,)), category=category, **attributes)).result(timeout=60)


def rows(store: Store) -> list[tuple[str, int, str, int, list[float]]]:
    """Return all rows that an index is loaded from, oldest first."""
    found = [
        (category, row.label, row.product_id, row.image_index, row.vector.tolist())
        for category, row in store.rows_of(list(store.row_counts()))
    ]
    return sorted(found, key=operator.itemgetter(1))
