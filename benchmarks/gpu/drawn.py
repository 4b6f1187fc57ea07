"""Vectors for the search on the GPU, drawn in seconds on every core, and what brute force finds among them.

They are drawn as those of `catalog.vectors` are, from one part's clusters, but in blocks that each have a seed.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np

from benchmarks.catalog.vectors import CLUSTERS, NOISE, TIE, Floats, nearest, unit
from benchmarks.environment import threads

_SEED = 1_000_003
_BLOCK = 8_192  # rows that one thread draws at a time


def draw(rows: int, queries: int, dim: int) -> tuple[Floats, Floats]:
    """Return rows and queries, float32 [n, dim] of length 1; the same arguments give the same vectors everywhere."""
    random = np.random.default_rng([_SEED])
    centers = unit(random.standard_normal((CLUSTERS, dim), np.float32))
    drawn = np.empty((rows, dim), dtype=np.float32)
    with ThreadPoolExecutor(threads()) as pool:
        list(pool.map(lambda begin: _fill(drawn[begin : begin + _BLOCK], centers, begin), range(0, rows, _BLOCK)))
    asked = np.empty((queries, dim), dtype=np.float32)
    _fill(asked, centers, rows)  # a seed that no block has
    return drawn, asked


@dataclass(frozen=True, slots=True)
class Truth:
    """The `k` rows nearest to some queries, by brute force in float32."""

    queries: Floats
    nearest: Floats
    rows: Floats

    def holds(self, query: int, found: Sequence[int]) -> bool:
        """Return whether these are `k` different rows that are as near as the nearest ones.

        Rows whose cosine equals that of the last one are as right as it.
        """
        cosines = self.rows[list(found)] @ self.queries[query]
        least = self.nearest[query, -1] - TIE
        return len(set(found)) == self.nearest.shape[1] == len(found) and bool((cosines >= least).all())


def brute_force(rows: Floats, queries: Floats, k: int) -> Truth:
    """Compare every row with every query."""
    return Truth(queries, nearest(rows, queries, k)[1], rows)


def _fill(out: Floats, centers: Floats, seed: int) -> None:
    random = np.random.default_rng([_SEED, seed])
    random.standard_normal(out=out, dtype=np.float32)
    out *= np.float32(NOISE / np.sqrt(out.shape[1]))
    out += centers[random.integers(len(centers), size=len(out))]
    out /= np.linalg.norm(out, axis=1, keepdims=True)
