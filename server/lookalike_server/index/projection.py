"""Fewer numbers in place of a vector, for graphs: near rows stay near, and building and walking cost many times less.

The directions are the principal ones of a sample of the rows (uncentered: the leading eigenvectors of X^T X), as in
principal component analysis. How many are enough is not assumed: the rows' own nearest neighbors must stay among the
candidates that a search measures exactly.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from lookalike_server.domain.inference import Floats, Metric
from lookalike_server.index.row_storage import Rows, Slots, copies, rows_in

KEPT = 0.995
"""The share of true neighbors that must be among a search's candidates for a projection to be used."""

KEPT_SHARED = 0.99
"""The same for one that other graphs have already: with one for all, a query is projected once."""

NEIGHBORS = 10
"""Neighbors of a row that are looked for when a projection or a graph is tried."""

_PROBES = 64  # rows whose neighbors are looked for
_SAMPLED = 4  # rows a direction that the directions are fitted on
_NEGLIGIBLE = 1e-6  # of the largest eigenvalue; directions below it are rounding
_SAMPLE_BYTES = 256 << 20  # of rows that directions are fitted on; four a direction up to 65,536 numbers
_BASIS_BYTES = 128 << 20  # of a projection, which is in memory and in the file of each of its graphs

AT_ONCE = 32 << 20
"""Bytes of rows projected or compared at once; a projection as large as they are is read for each such piece."""


@dataclass(frozen=True, slots=True, eq=False)
class Projection:
    """Turns float32 [n, dim] into float32 [n, numbers] by `basis`, float32 [dim, numbers] with orthonormal columns."""

    basis: Floats

    def __call__(self, vectors: Floats) -> Floats:
        """Project vectors: float32 [n, dim] to [n, numbers]."""
        projected: Floats = vectors @ self.basis
        return projected

    def keeps(self, vectors: Rows, slots: Slots, metric: Metric, candidates: int, share: float = KEPT) -> bool:
        """Whether the nearest rows are still among this many nearest projected ones, tried on some of the rows.

        Args:
            vectors: float32 [n, dim]; of length 1 where the metric is cosine.
            slots: int64 [m], the rows that count.
            metric: How distance is measured.
            candidates: How many rows a search measures exactly.
            share: Of the nearest so many must be among them, 0 to 1.
        """
        probes = _shuffled(slots)[:_PROBES]
        near = nearest(vectors, slots, vectors[probes], metric, NEIGHBORS + 1)
        # One more of each: a probe finds itself, which says nothing.
        found = nearest(vectors, slots, vectors[probes], metric, candidates + 1, self)
        return share_found(probes, near, found) >= share


def fitting_projection(vectors: Rows, slots: Slots, metric: Metric, numbers: int, candidates: int) -> Projection | None:
    """The smallest projection that keeps neighbors: to `numbers`, or twice, four times ... as many. None: none does.

    Args as of `Projection.keeps`; `numbers` is where to begin, 0 for no projection.
    """
    dim = vectors.shape[1]
    while 0 < numbers <= min(dim // 2, rows_in(_BASIS_BYTES, dim)) and numbers + _PROBES < len(slots):
        projection = _fitted(vectors, slots, numbers)
        if projection.keeps(vectors, slots, metric, candidates):
            return projection
        numbers *= 2
    return None


def _fitted(vectors: Rows, slots: Slots, numbers: int) -> Projection:
    """The leading directions of some rows, none of which are those it is tried on: it would flatter itself."""
    count = min(_SAMPLED * numbers, rows_in(_SAMPLE_BYTES, vectors.shape[1]))
    sample = vectors[_shuffled(slots)[_PROBES : _PROBES + count]]
    # The eigenvectors of X^T X (dim x dim) from those of X X^T, which is smaller where vectors are long.
    energies, mixtures = np.linalg.eigh(sample @ sample.T)
    leading = [
        index for index in range(len(energies))[: -numbers - 1 : -1] if energies[index] > _NEGLIGIBLE * energies[-1]
    ]
    basis = sample.T @ (mixtures[:, leading] / np.sqrt(energies[leading]))
    return Projection(np.ascontiguousarray(basis, dtype=np.float32))


def _shuffled(slots: Slots) -> Slots:
    return np.random.default_rng(0).permutation(slots)


def share_found(probes: Slots, near: Sequence[Slots], found: Sequence[Slots]) -> float:
    """Of what is near each probe, itself apart, the share that was found, 0 to 1."""
    kept = total = 0
    for probe, right, candidates in zip(probes.tolist(), near, found, strict=True):
        others = set(right.tolist()) - {probe}
        kept += len(others & set(candidates.tolist()))
        total += len(others)
    return kept / total if total else 1.0


def nearest(
    vectors: Rows, slots: Slots, queries: Floats, metric: Metric, count: int, projection: Projection | None = None
) -> list[Slots]:
    """For each query (float32 [m, dim]) the `count` nearest of the slots, unordered, maybe as projected."""
    if projection is not None:
        queries = projection(queries)
    lengths = np.einsum("ij,ij->i", queries, queries)
    far = np.empty((len(queries), len(slots)), dtype=np.float32)
    begin = 0
    for rows in copies(vectors, slots, AT_ONCE):
        if projection is not None:
            rows = projection(rows)
        distances = -(queries @ rows.T)
        if metric is Metric.EUCLIDEAN:
            distances = np.einsum("ij,ij->i", rows, rows) + 2 * distances + lengths[:, None]
        far[:, begin : begin + len(rows)] = distances
        begin += len(rows)
    count = min(count, len(slots))
    return [slots[each] for each in np.argpartition(far, count - 1, axis=1)[:, :count]]
