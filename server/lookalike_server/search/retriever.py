"""From embedded queries to results: the store reads what a query names, the index finds, and hits become neighbors.

Everything here blocks, so it runs in a pool of threads. Queries with the same `coalescing_key` are searched together.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import replace
from functools import lru_cache

import numpy as np

from lookalike_server.domain.catalog import Product
from lookalike_server.domain.errors import LookalikeError, not_found, vectors_damaged
from lookalike_server.domain.inference import Floats, Metric, ResponseStats
from lookalike_server.domain.protocols import CatalogStore, VectorIndex
from lookalike_server.domain.search import (
    EmbeddedQuery,
    Hit,
    IndexQuery,
    IndexResult,
    Neighbor,
    Query,
    ResultGroup,
    ResultOptions,
    SearchResult,
)
from lookalike_server.search.postprocess import postprocess

_MAX_CHEAP_K = 100  # more products take longer to read and to send
_COMPARED_BYTES = 32 << 20  # of embeddings that are cached to find duplicates
_GROWTH = 4  # times as many hits are requested where those at hand do not fill a result


def coalescing_key(embedded: EmbeddedQuery) -> Hashable:
    """Return what queries share that the index answers in one call: the products to search, and how.

    A query for the neighbors of a product, in its own category, goes alone: only the store knows that category.
    """
    query = embedded.query
    own = query.product_id is not None and query.category is None and not query.all_categories
    return (query.product_id if own else None, query.category, query.all_categories, query.exact, query.conditions)


class Retriever:
    """Searches the index and the store."""

    def __init__(self, index: VectorIndex, store: CatalogStore, metric: Metric) -> None:
        self._index = index
        self._store = store
        self._metric = metric

    def is_cheap(self, embedded: EmbeddedQuery) -> bool:
        """Whether the search takes about a millisecond: a plain query, few products, a category that is fast."""
        query = embedded.query
        plain = query.options == ResultOptions() and not (query.exact or query.conditions or query.all_categories)
        return plain and query.k <= _MAX_CHEAP_K and query.category is not None and self._index.is_cheap(query.category)

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

    def search(self, embedded: Sequence[EmbeddedQuery]) -> list[SearchResult | LookalikeError]:
        """Search queries with the same `coalescing_key`; return the result of each, or its error.

        Of the stats a result has `exact`; the caller knows the rest.
        """
        resolved = [self._resolve(each) for each in embedded]
        valid = [each for each in resolved if isinstance(each, EmbeddedQuery)]
        results: list[SearchResult] = []
        if valid:
            found = self._search_index(valid, [_initial_hits(each.query) for each in valid])
            products = self._products(found)
            results = [self._result(each, own, products) for each, own in zip(valid, found, strict=True)]
        remaining = iter(results)
        return [each if isinstance(each, LookalikeError) else next(remaining) for each in resolved]

    def _resolve(self, embedded: EmbeddedQuery) -> EmbeddedQuery | LookalikeError:
        """Read the vectors of the product that a query names, and its category unless the query has one or none."""
        query = embedded.query
        if query.product_id is None:
            return embedded
        try:
            product, vectors = self.product(query.product_id)
        except LookalikeError as error:
            return error
        if query.within is not None and product.category not in query.within:
            return not_found("product", query.product_id)
        if query.category is None and not query.all_categories:
            query = replace(query, category=product.category)
        vectors = vectors[~np.isnan(vectors).any(axis=1)]
        return EmbeddedQuery(query, vectors) if len(vectors) else vectors_damaged(product.id)

    def _search_index(self, resolved: Sequence[EmbeddedQuery], counts: Sequence[int]) -> list[IndexResult]:
        first = resolved[0].query
        return self._index.search(
            [
                IndexQuery(_vectors(each), count, each.query.product_id)
                for each, count in zip(resolved, counts, strict=True)
            ],
            category=first.category,
            exact=first.exact,
            conditions=first.conditions,
        )

    def _products(self, found: Sequence[IndexResult]) -> Mapping[str, Product]:
        return self._store.products([hit.product_id for each in found for hit in each.hits])

    def _result(self, resolved: EmbeddedQuery, found: IndexResult, products: Mapping[str, Product]) -> SearchResult:
        """Postprocess the hits, and search for more of them until the result is final or there are no more."""
        count = _initial_hits(resolved.query)
        groups, final = self._postprocess(resolved, found, products)
        while not final and len(found.hits) == count:
            count *= _GROWTH
            (found,) = self._search_index([resolved], [count])
            products = self._products([found])
            groups, final = self._postprocess(resolved, found, products)
        neighbors = [
            Neighbor(
                product=products[group.hit.product_id],
                distance=group.hit.distance,
                similarity=self._metric.similarity(group.hit.distance),
                image_index=group.hit.image_index,
                duplicates=[products[duplicate] for duplicate in group.duplicates],
            )
            for group in groups
        ]
        return SearchResult(neighbors, ResponseStats(exact=found.exact))

    def _postprocess(
        self, resolved: EmbeddedQuery, found: IndexResult, products: Mapping[str, Product]
    ) -> tuple[list[ResultGroup], bool]:
        query, query_vectors = resolved.query, _vectors(resolved)

        def vector_of(hit: Hit) -> Floats:
            vectors = self._store.vectors(hit.product_id)
            # A product that changed since the index was searched may have fewer images, or none.
            return vectors[hit.image_index].copy() if hit.image_index < len(vectors) else np.full(1, np.nan, np.float32)

        if not query.options.collapse:
            return postprocess(found.hits, query.k, query.options, products, vector_of, 0.0)
        cached = lru_cache(max(2, _COMPARED_BYTES // (4 * query_vectors.shape[1])))(vector_of)
        query_norm = float(np.linalg.norm(query_vectors, axis=1).max())
        return postprocess(found.hits, query.k, query.options, products, cached, query_norm)


def _vectors(resolved: EmbeddedQuery) -> Floats:
    assert resolved.vectors is not None  # noqa: S101 - a query has an image, a vector or a product, which is read by now
    return resolved.vectors


def _initial_hits(query: Query) -> int:
    """How many hits to request first: some are left out where the result is grouped or collapsed."""
    return 2 * query.k + 8 if query.options.collapse or query.options.group_by else query.k
