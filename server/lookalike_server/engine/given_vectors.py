"""Vectors that callers give, made what the index compares: scaled to length 1 where the metric is cosine."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate

import numpy as np

from lookalike_server.domain.catalog import EmbeddedProduct, IdempotencyKey, ProductUpsert
from lookalike_server.domain.inference import Floats, Metric
from lookalike_server.domain.vectors import joined

_WIDE_VALUES = 1 << 15  # float64 values that fit into a core's own cache


def normalized(vectors: Floats | Sequence[Floats], metric: Metric) -> Floats:
    """Return vectors, float32 [dim] each, as float32 [n, dim], scaled to length 1 where the metric is cosine.

    In float64, so that no length over- or underflows.
    """
    if metric is not Metric.COSINE:
        return np.asarray(vectors, dtype=np.float32)
    count, dim = len(vectors), len(vectors[0])
    unit = np.empty((count, dim), dtype=np.float32)
    step = max(1, _WIDE_VALUES // dim)
    for begin in range(0, count, step):
        wide = joined(vectors[begin : begin + step]).astype(np.float64)
        lengths = np.sqrt(np.vecdot(wide, wide))[:, np.newaxis]
        np.divide(wide, lengths, out=unit[begin : begin + step], casting="same_kind")
    return unit


def embedded_products(
    upserts: Sequence[ProductUpsert], metric: Metric
) -> list[tuple[EmbeddedProduct, IdempotencyKey | None]]:
    """Make products with vectors ready to store."""
    if not upserts:
        return []
    rows = normalized([vector for each in upserts for vector in each.vectors], metric)
    ends = accumulate(len(each.vectors) for each in upserts)
    return [
        (EmbeddedProduct(each.product, rows[end - len(each.vectors) : end]), each.idempotency_key)
        for each, end in zip(upserts, ends, strict=True)
    ]
