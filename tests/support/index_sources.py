"""Stores whose reads a test holds or breaks, and short ways to fill one and to search what was loaded from it."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import replace
from itertools import islice
from pathlib import Path

import numpy as np

from lookalike_server.domain.catalog import EmbeddedProduct, IndexRow, Labels, SegmentFile
from lookalike_server.domain.inference import Floats, Metric
from lookalike_server.domain.protocols import RowSource
from lookalike_server.domain.search import IndexQuery
from lookalike_server.index.category_index import CategoryIndex
from lookalike_server.store.catalog_store import Store
from support.index_model import DIM, vectors
from support.store_fixtures import MODEL, opened, product

COSINE = replace(MODEL, dim=DIM, metric=Metric.COSINE)
VECTORS = vectors(600, DIM, Metric.COSINE, seed=1)


class HeldSource(RowSource):
    """A store whose reads can be held after their first row."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self.reading = threading.Event()
        self.resume = threading.Event()

    def row_counts(self) -> Mapping[str, int]:
        """Count the rows of each category."""
        return self._store.row_counts()

    def labels(self, category: str) -> Labels:
        """Read the labels of a category."""
        return self._store.labels(category)

    def attributes(self, category: str) -> Iterator[tuple[int, Mapping[str, str]]]:
        """Read the attributes of a category."""
        return self._store.attributes(category)

    def rows_with(self, labels: Labels) -> Iterator[IndexRow]:
        """Read rows, and wait after the first of them."""
        rows = self._store.rows_with(labels)
        yield from islice(rows, 1)
        self.reading.set()
        assert self.resume.wait(60)
        yield from rows

    def rows_of(self, categories: Sequence[str]) -> Iterator[tuple[str, IndexRow]]:
        """Read rows, and wait after the first of them."""
        rows = self._store.rows_of(categories)
        yield from islice(rows, 1)
        self.reading.set()
        assert self.resume.wait(60)
        yield from rows

    def wait_until_applied(self) -> None:
        """Wait for the commits before."""
        self._store.wait_until_applied()

    def segments(self) -> Mapping[str, list[SegmentFile]]:
        """Return the files of the index."""
        return self._store.segments()

    def replace_segments(self, category: str, files: Sequence[SegmentFile]) -> Future[None]:
        """Trust these files."""
        return self._store.replace_segments(category, files)


class HeldBatches(HeldSource):
    """A store in which only the reads of several categories are held."""

    def rows_of(self, categories: Sequence[str]) -> Iterator[tuple[str, IndexRow]]:
        """Read rows, and wait after the first of them if there are several categories."""
        return super().rows_of(categories) if len(categories) > 1 else self._store.rows_of(categories)


class BrokenSource(HeldSource):
    """A store that cannot be read while `broken`."""

    broken = True

    def rows_with(self, labels: Labels) -> Iterator[IndexRow]:
        """Read rows, or fail."""
        if self.broken:
            raise OSError("the disk does not answer")
        return self._store.rows_with(labels)

    def rows_of(self, categories: Sequence[str]) -> Iterator[tuple[str, IndexRow]]:
        """Read rows, or fail."""
        if self.broken:
            raise OSError("the disk does not answer")
        return self._store.rows_of(categories)


def put(store: Store, product_id: str, vector: Floats, category: str = "Shoes") -> None:
    """Store one product with one vector and wait until it is durable."""
    store.upsert(EmbeddedProduct(product(product_id, category), vector[np.newaxis])).result(timeout=60)


def fill(folder: Path, category: str = "Shoes", first: int = 0, count: int = 300) -> None:
    """Make a catalog whose product pN has the vector VECTORS[N]."""
    with opened(folder, COSINE) as store:
        for number in range(first, first + count):
            put(store, f"p{number}", VECTORS[number], category)


def nearest(index: CategoryIndex, vector: Floats, category: str | None = "Shoes", k: int = 1) -> list[str]:
    """Return the ids of the nearest products."""
    (result,) = index.search([IndexQuery(vector[np.newaxis], k)], category=category, exact=False)
    return [hit.product_id for hit in result.hits]


def in_thread(call: Callable[[], list[str]]) -> Future[list[str]]:
    """Call in a new thread."""
    future: Future[list[str]] = Future()
    threading.Thread(target=lambda: future.set_result(call()), daemon=True).start()
    return future
