"""A shop that applies every change to an index under test and to a plain list, and compares their results."""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from itertools import count

import numpy as np

from lookalike_server.domain.catalog import IndexChange, IndexRow
from lookalike_server.domain.filters import Between, Condition, NoneOf, OneOf
from lookalike_server.domain.inference import Floats, Metric
from lookalike_server.domain.protocols import VectorIndex
from lookalike_server.domain.search import Hit, IndexQuery
from lookalike_server.index.category_index import CategoryIndex

DIM = 16
"""Dimensions of the vectors in the tests of the `CategoryIndex`."""

MakeIndex = Callable[..., CategoryIndex]
"""Makes an index that is closed after the test: the fixture `make_index`."""


def one_image_each(rows: Floats, prefix: str = "p") -> dict[str, Floats]:
    """Return a product for every row."""
    return {f"{prefix}{number:05}": row[np.newaxis] for number, row in enumerate(rows)}


def vectors(count_: int, dim: int, metric: Metric, seed: int) -> Floats:
    """Return random embeddings as the engine passes them: float32 [count, dim], of length 1 if the metric is cosine."""
    return prepared(np.random.default_rng(seed).normal(size=(count_, dim)), metric)


def prepared(values: np.ndarray[tuple[int, ...], np.dtype[np.float64]], metric: Metric) -> Floats:
    """Return these vectors as the engine passes them."""
    if metric is Metric.COSINE:
        lengths = np.linalg.norm(values, axis=-1, keepdims=True)
        values = np.divide(values, lengths, out=np.zeros_like(values), where=lengths > 0)
    return values.astype(np.float32)


def distance(row: Floats, query: Floats, metric: Metric) -> float:
    """Return the textbook distance of two vectors, rounded to float32 as in a response.

    A zero vector has cosine 0 to everything.
    """
    a, b = row.tolist(), query.tolist()
    if metric is Metric.EUCLIDEAN:
        return float(np.float32(math.dist(a, b)))
    lengths = math.sqrt(_dot(a, a) * _dot(b, b))
    return float(np.float32(1.0 - (_dot(a, b) / lengths if lengths else 0.0)))


def _dot(a: list[float], b: list[float]) -> float:
    return math.fsum(map(operator.mul, a, b))


def meets(attributes: Mapping[str, str], condition: Condition) -> bool:
    """Return whether these attributes meet the condition as the API defines it."""
    value = attributes.get(condition.attribute)
    match condition:
        case OneOf(values=values):
            return value in values
        case NoneOf(values=values):
            return value not in values
        case Between(minimum=minimum, maximum=maximum):
            try:
                return value is not None and minimum <= float(value) <= maximum
            except ValueError:
                return False


class Shop:
    """Products in categories, with labels as the store assigns them, and a brute-force search."""

    def __init__(self, index: VectorIndex, metric: Metric) -> None:
        self._index = index
        self._metric = metric
        self._labels = count(1)
        self.rows: dict[str, list[tuple[str, IndexRow]]] = {}  # by product

    def put(self, product_id: str, images: Floats, category: str = "c") -> None:
        """Store or replace one product with these vectors (float32 [images, dim])."""
        self.put_all({product_id: images}, category)

    def put_all(
        self, images: Mapping[str, Floats], category: str = "c", attributes: Mapping[str, str] | None = None
    ) -> None:
        """Store or replace products in one change, all with these attributes."""
        removed = self._remove_rows(images)
        for product_id, each in images.items():
            self.rows[product_id] = [
                (category, IndexRow(next(self._labels), product_id, image_index, vector, dict(attributes or {})))
                for image_index, vector in enumerate(each)
            ]
        self._index.apply(IndexChange(removed, [row for product_id in images for row in self.rows[product_id]]))

    def update_attributes(self, product_id: str, attributes: Mapping[str, str]) -> None:
        """Replace a product's attributes, if it exists."""
        rows = self.rows.get(product_id, [])
        self.rows[product_id] = [(at, replace(row, attributes=dict(attributes))) for at, row in rows]
        if not rows:
            del self.rows[product_id]
        self._index.apply(IndexChange(updated=[(at, row.label, dict(attributes)) for at, row in rows]))

    def remove(self, *product_ids: str) -> None:
        """Delete products in one change."""
        self._index.apply(IndexChange(self._remove_rows(product_ids), ()))

    def nearest(
        self,
        queries: Floats,
        k: int,
        *,
        category: str | None = "c",
        exclude: str | None = None,
        conditions: Sequence[Condition] = (),
    ) -> list[tuple[str, int, float]]:
        """Return product, nearest image and distance of the k nearest, nearest first, equally near by product id."""
        best = []
        for product_id, rows in self.rows.items():
            measured = [
                (min(distance(row.vector, query, self._metric) for query in queries), row.image_index)
                for at, row in rows
                if category in (None, at) and all(meets(row.attributes, condition) for condition in conditions)
            ]
            if measured and product_id != exclude:
                nearest, image_index = min(measured)
                best.append((nearest, product_id, image_index))
        return [(product_id, image_index, nearest) for nearest, product_id, image_index in sorted(best)[:k]]

    def check(
        self,
        queries: Floats,
        k: int,
        *,
        category: str | None = "c",
        exclude: str | None = None,
        exact: bool = True,
        conditions: Sequence[Condition] = (),
    ) -> list[str]:
        """Search the index, compare the result with brute force, and return the products found.

        If the result is not exact, it may have other products than brute force at equal distances.
        """
        result = self._index.search(
            [IndexQuery(queries, k, exclude)], category=category, exact=exact, conditions=conditions
        )[0]
        expected = self.nearest(queries, k, category=category, exclude=exclude, conditions=conditions)
        np.testing.assert_allclose([hit.distance for hit in result.hits], [far for *_, far in expected], atol=1e-6)
        if exact or result.exact:
            assert result.exact
            assert [(hit.product_id, hit.image_index) for hit in result.hits] == [each[:2] for each in expected]
        self._check_order(result.hits, queries, category)
        return [hit.product_id for hit in result.hits]

    def _check_order(self, hits: Iterable[Hit], queries: Floats, category: str | None) -> None:
        ranks = []
        for hit in hits:
            at, row = self.rows[hit.product_id][hit.image_index]
            assert category in (None, at)
            assert abs(hit.distance - min(distance(row.vector, query, self._metric) for query in queries)) < 1e-6
            ranks.append((hit.distance, hit.product_id))
        assert ranks == sorted(ranks)
        assert len({product_id for _, product_id in ranks}) == len(ranks)

    def _remove_rows(self, product_ids: Iterable[str]) -> list[tuple[str, int]]:
        removed = [self.rows.pop(product_id, []) for product_id in product_ids]
        return [(category, row.label) for rows in removed for category, row in rows]
