"""Vectors that callers give, made what the index compares: scaled to length 1 where the metric is cosine."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate

import numpy as np

from lookalike_server.domain.catalog import EmbeddedProduct, IdempotencyKey, ProductUpsert
from lookalike_server.domain.inference import Floats, Metric

_WIDE_VALUES = 1 << 15  # float64 values that fit into a core's own cache


def normalized(vectors: Floats, metric: Metric) -> Floats:
    """Scale float32 [n, dim] to length 1 where the metric is cosine.

    In float64, so that no length over- or underflows.
    """
    if metric is not Metric.COSINE:
        return vectors
    unit = np.empty_like(vectors)
    step = max(1, _WIDE_VALUES // vectors.shape[1])
    for begin in range(0, len(vectors), step):
        wide = vectors[begin : begin + step].astype(np.float64)
        wide /= np.sqrt(np.vecdot(wide, wide))[:, np.newaxis]
        unit[begin : begin + step] = wide
    return unit


def embedded_products(
    upserts: Sequence[ProductUpsert], metric: Metric
) -> list[tuple[EmbeddedProduct, IdempotencyKey | None]]:
    """Make products with vectors ready to store."""
    if not upserts:
        return []
    rows = normalized(np.array([vector for each in upserts for vector in each.vectors]), metric)
    ends = accumulate(len(each.vectors) for each in upserts)
    return [
        (EmbeddedProduct(each.product, rows[end - len(each.vectors) : end]), each.idempotency_key)
        for each, end in zip(upserts, ends, strict=True)
    ]
