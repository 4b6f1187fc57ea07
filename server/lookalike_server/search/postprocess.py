"""Chooses the hits that a result lists: a few of each group, and products with the same embedding only once."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from lookalike_server.domain.catalog import Product
from lookalike_server.domain.inference import Floats
from lookalike_server.domain.search import Hit, ResultGroup, ResultOptions

SAME_EMBEDDING = 1e-4
"""Embeddings at most this far apart, relative to their length, are the same: more than batches of other sizes round."""

VectorOf = Callable[[Hit], Floats]


def postprocess(
    hits: Sequence[Hit],
    k: int,
    options: ResultOptions,
    products: Mapping[str, Product],
    vector_of: VectorOf,
    query_norm: float,
) -> tuple[list[ResultGroup], bool]:
    """Choose at most `k` of the nearest hits, and say whether the choice is final: more hits could not change it.

    Args:
        hits: Nearest first, equally near by product id.
        k: The most groups to return.
        options: Which hits to choose.
        products: By id; a hit whose product is missing was deleted meanwhile and is left out.
        vector_of: The embedding of a hit, float32 [dim].
        query_norm: Length of the query's longest vector.
    """
    groups: list[ResultGroup] = []
    group_sizes: Counter[str] = Counter()
    for hit in hits:
        if hit.distance > options.max_distance:
            return groups, True
        if len(groups) == k and not (options.collapse and _may_be_same(groups[-1].hit, hit, query_norm)):
            return groups, True
        product = products.get(hit.product_id)
        if product is None:
            continue
        original = _original(groups, hit, vector_of, query_norm) if options.collapse else None
        if original is not None:
            original.duplicates.append(hit.product_id)
            continue
        if len(groups) == k:
            continue
        value = product.attributes.get(options.group_by) if options.group_by else None
        if value is not None:
            if group_sizes[value] == options.group_limit:
                continue
            group_sizes[value] += 1
        groups.append(ResultGroup(hit))
    return groups, len(groups) == k and not options.collapse


def _original(groups: Sequence[ResultGroup], hit: Hit, vector_of: VectorOf, query_norm: float) -> ResultGroup | None:
    """Find the group that this hit is a duplicate of; only groups at about the same distance can be it."""
    for group in reversed(groups):
        if not _may_be_same(group.hit, hit, query_norm):
            return None
        if _is_same(vector_of(group.hit), vector_of(hit)):
            return group
    return None


def _may_be_same(nearer: Hit, hit: Hit, query_norm: float) -> bool:
    """Whether two hits can have the same embedding: then their distances differ by at most SAME_EMBEDDING * length.

    A vector is at most as long as the query's vector and the distance between them together. Cosine distances between
    vectors of length 1 differ by at most the distance of those vectors.
    """
    return hit.distance - nearer.distance <= SAME_EMBEDDING * (query_norm + hit.distance)


def _is_same(one: Floats, other: Floats) -> bool:
    length = max(float(np.linalg.norm(one)), float(np.linalg.norm(other)))
    return float(np.linalg.norm(one - other)) <= SAME_EMBEDDING * length
