"""How many rows this machine compares in a given time, which bounds how many may be outside of graphs."""

from __future__ import annotations

import time

import numpy as np

from lookalike_server.index.row_storage import rows_in

_SCAN_BYTES = 16 << 20  # compared to measure the rate: more than the processor's caches usually have for one core
_ROUNDS = 5


def rows_compared_in(seconds: float, dim: int) -> int:
    """Measure how many vectors of `dim` dimensions are compared with one in this time, by one thread; at least 1."""
    # Not zeros, which the system would give as one page of memory that stays in the caches.
    vectors = np.ones((rows_in(_SCAN_BYTES, dim), dim), dtype=np.float32)
    vector = vectors[:1].T.copy()
    best = float("inf")
    for _ in range(_ROUNDS):
        began = time.perf_counter()
        vectors @ vector
        best = min(best, time.perf_counter() - began)
    return max(1, int(seconds * len(vectors) / best))
