"""From queries to neighbors: the store resolves them, the index finds, and what is shown is shaped and filled in.

Everything here blocks, so it runs in a worker pool. Queries that `together` gives the same key are asked as one.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np

from lookalike_server.domain.catalog import Product
from lookalike_server.domain.errors import LookalikeError, not_found
from lookalike_server.domain.inference import Floats, Metric
from lookalike_server.domain.protocols import VectorIndex
from lookalike_server.domain.search import Hit, IndexQuery, IndexResult, Neighbor, Query, ResultOptions
from lookalike_server.search.postprocess import Shaped, arrange
from lookalike_server.store.sqlite import Store

_FEW = 100  # products; more take longer to read and to send
_SEEN_BYTES = 32 << 20  # of embeddings that are compared to collapse duplicates
_MORE = 4  # times as many hits are asked for where those at hand do not make an answer


@dataclass(frozen=True, slots=True)
class EmbeddedQuery:
    """A query with its vectors, float32 [images, dim]; None for those of a product that the query names."""

    query: Query
    vectors: Floats | None


@dataclass(frozen=True, slots=True)
class Found:
    """The neighbors, nearest first, and whether every product that could be one was compared."""

    neighbors: Sequence[Neighbor]
    exact: bool


@dataclass(frozen=True, slots=True)
class _Resolved:
    question: IndexQuery
    category: str | None
    query: Query


def together(asked: EmbeddedQuery) -> Hashable:
    """Queries about the same products go to the index as one; a product's own category shows only in the store."""
    query = asked.query
    own = query.product_id is not None and query.category is None and not query.all_categories
    return (query.product_id if own else None, query.category, query.all_categories, query.exact, query.conditions)


class Retriever:
    """Asks the index and the store."""

    def __init__(self, index: VectorIndex, store: Store, metric: Metric) -> None:
        self._index = index
        self._store = store
        self._metric = metric

    def is_cheap(self, asked: EmbeddedQuery) -> bool:
        """Whether answering takes about a millisecond: a plain query to a category that is searched so soon."""
        query = asked.query
        plain = query.options == ResultOptions() and not (query.exact or query.conditions or query.all_categories)
        return plain and query.k <= _FEW and query.category is not None and self._index.is_cheap(query.category)

    def product(self, product_id: str) -> tuple[Product, Floats]:
        """Read a product and its embeddings, float32 [images, dim].

        Raises:
            LookalikeError: NOT_FOUND.
        """
        product = self._store.products([product_id]).get(product_id)
        vectors = self._store.vectors(product_id)
        if product is None or len(vectors) == 0:
            raise not_found("product", product_id)
        return product, vectors

    def answer(self, asked: Sequence[EmbeddedQuery]) -> list[Found | LookalikeError]:
        """SearchResult queries that `together` gives the same key; for each its neighbors, or why there are none."""
        resolved = [self._resolve(each) for each in asked]
        questions = [each for each in resolved if isinstance(each, _Resolved)]
        found: list[Found] = []
        if questions:
            hits = self._hits(questions, [_first(each) for each in questions])
            products = self._products(hits)
            found = [self._fill(each, own, products) for each, own in zip(questions, hits, strict=True)]
        following = iter(found)
        return [each if isinstance(each, LookalikeError) else next(following) for each in resolved]

    def _resolve(self, asked: EmbeddedQuery) -> _Resolved | LookalikeError:
        query, vectors, category = asked.query, asked.vectors, asked.query.category
        if query.product_id is not None:
            try:
                product, vectors = self.product(query.product_id)
            except LookalikeError as error:
                return error
            if category is None and not query.all_categories:
                category = product.category
        assert vectors is not None  # noqa: S101 - a query has an image, a vector or a product
        return _Resolved(IndexQuery(vectors, query.k, query.product_id), category, query)

    def _hits(self, resolved: Sequence[_Resolved], counts: Sequence[int]) -> list[IndexResult]:
        first = resolved[0]
        return self._index.search(
            [replace(each.question, k=count) for each, count in zip(resolved, counts, strict=True)],
            category=first.category,
            exact=first.query.exact,
            conditions=first.query.conditions,
        )

    def _products(self, found: Sequence[IndexResult]) -> Mapping[str, Product]:
        return self._store.products([hit.product_id for hits in found for hit in hits.hits])

    def _fill(self, resolved: _Resolved, found: IndexResult, products: Mapping[str, Product]) -> Found:
        """ResultOptions the hits, and ask for more of them until they make an answer or there are no more."""
        count = _first(resolved)
        shaped = self._shape(resolved, found, products)
        while not shaped.settled and len(found.hits) == count:
            count *= _MORE
            (found,) = self._hits([resolved], [count])
            products = self._products([found])
            shaped = self._shape(resolved, found, products)
        neighbors = [
            Neighbor(
                product=products[each.hit.product_id],
                distance=each.hit.distance,
                similarity=self._metric.similarity(each.hit.distance),
                image_index=each.hit.image_index,
                duplicates=[products[twin] for twin in each.duplicates],
            )
            for each in shaped.shown
        ]
        return Found(neighbors, found.exact)

    def _shape(self, resolved: _Resolved, found: IndexResult, products: Mapping[str, Product]) -> Shaped:
        numbers = resolved.question.vectors.shape[1]

        def vector_of(hit: Hit) -> Floats:
            vectors = self._store.vectors(hit.product_id)
            # A product that changed since the index was asked may have fewer images, or none.
            return vectors[hit.image_index].copy() if hit.image_index < len(vectors) else np.full(1, np.nan, np.float32)

        query = resolved.query
        remembered = lru_cache(max(2, _SEEN_BYTES // (4 * numbers)))(vector_of)
        reach = float(np.linalg.norm(resolved.question.vectors, axis=1).max())
        return arrange(found.hits, query.k, query.options, products, remembered, reach)


def _first(resolved: _Resolved) -> int:
    """How many hits to ask for at first: some are left out where the answer is shaped."""
    query = resolved.query
    return 2 * query.k + 8 if query.options.collapse or query.options.group_by else query.k
