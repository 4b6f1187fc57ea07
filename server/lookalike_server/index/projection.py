"""Projection of vectors to fewer dimensions for graphs, which makes building and searching them many times cheaper.

The directions are the principal ones of a sample of the rows (uncentered: the leading eigenvectors of X^T X), as in
principal component analysis. How many suffice is tested: the rows' own nearest neighbors must stay among the candidates
that a search measures exactly.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from lookalike_server.domain.inference import Floats, Metric
from lookalike_server.index.row_storage import Rows, Slots, copies, rows_in

MIN_RECALL = 0.995
"""The share of true neighbors that must be among a search's candidates for a new projection to be used."""

MIN_RECALL_SHARED = 0.99
"""The same for a projection that other graphs use: with one for all, a query is projected once."""

NEIGHBORS = 10
"""Neighbors of a row that are searched to test a projection or a graph."""

_PROBES = 64  # rows whose neighbors are searched
_SAMPLES_PER_DIMENSION = 4  # rows to fit on
_NEGLIGIBLE = 1e-6  # of the largest eigenvalue; smaller ones are rounding errors
_SAMPLE_BYTES = 256 << 20  # of the rows to fit on
_BASIS_BYTES = 128 << 20  # of a projection, which is in memory and in the file of each graph that uses it

CHUNK_BYTES = 32 << 20
"""Bytes of rows projected or compared at once; the basis, which can be as large, is read once for each chunk."""


@dataclass(frozen=True, slots=True, eq=False)
class Projection:
    """Projects float32 [n, dim] to float32 [n, p] by `basis`, float32 [dim, p] with orthonormal columns."""

    basis: Floats

    def __call__(self, vectors: Floats) -> Floats:
        """Project vectors: float32 [n, dim] to [n, p]."""
        projected: Floats = vectors @ self.basis
        return projected

    def preserves_neighbors(
        self, vectors: Rows, slots: Slots, metric: Metric, candidates: int, min_recall: float = MIN_RECALL
    ) -> bool:
        """Test on some rows whether their nearest rows are among the `candidates` nearest projected ones.

        Args:
            vectors: float32 [n, dim]; of length 1 where the metric is cosine.
            slots: int64 [m], the rows that count.
            metric: How distance is measured.
            candidates: How many rows a search measures exactly.
            min_recall: The share of the nearest rows that must be among them, 0 to 1.
        """
        probes = _shuffled(slots)[:_PROBES]
        near = nearest(vectors, slots, vectors[probes], metric, NEIGHBORS + 1)
        # One more of each, because a probe finds itself.
        found = nearest(vectors, slots, vectors[probes], metric, candidates + 1, self)
        return neighbor_recall(probes, near, found) >= min_recall


def fit_projection(vectors: Rows, slots: Slots, metric: Metric, dim: int, candidates: int) -> Projection | None:
    """Fit the smallest projection that preserves neighbors; None if none does.

    The arguments are those of `Projection.preserves_neighbors`; `dim` is the first number of dimensions to try, then
    twice as many and so on; 0 fits none.
    """
    length = vectors.shape[1]
    while 0 < dim <= min(length // 2, rows_in(_BASIS_BYTES, length)) and dim + _PROBES < len(slots):
        projection = _fit(vectors, slots, dim)
        if projection.preserves_neighbors(vectors, slots, metric, candidates):
            return projection
        dim *= 2
    return None


def _fit(vectors: Rows, slots: Slots, dim: int) -> Projection:
    """Find the leading directions of some rows, none of which is a probe: a test on those would be too good."""
    count = min(_SAMPLES_PER_DIMENSION * dim, rows_in(_SAMPLE_BYTES, vectors.shape[1]))
    sample = vectors[_shuffled(slots)[_PROBES : _PROBES + count]]
    # The eigenvectors of X^T X (dim x dim) from those of X X^T, which is smaller where vectors are long.
    energies, mixtures = np.linalg.eigh(sample @ sample.T)
    leading = [index for index in range(len(energies))[: -dim - 1 : -1] if energies[index] > _NEGLIGIBLE * energies[-1]]
    basis = sample.T @ (mixtures[:, leading] / np.sqrt(energies[leading]))
    return Projection(np.ascontiguousarray(basis, dtype=np.float32))


def _shuffled(slots: Slots) -> Slots:
    return np.random.default_rng(0).permutation(slots)


def neighbor_recall(probes: Slots, near: Sequence[Slots], found: Sequence[Slots]) -> float:
    """Return the share of each probe's nearest slots, without itself, that was found: 0 to 1 over all probes."""
    found_count = total = 0
    for probe, expected, candidates in zip(probes.tolist(), near, found, strict=True):
        others = set(expected.tolist()) - {probe}
        found_count += len(others & set(candidates.tolist()))
        total += len(others)
    return found_count / total if total else 1.0


def nearest(
    vectors: Rows, slots: Slots, queries: Floats, metric: Metric, count: int, projection: Projection | None = None
) -> list[Slots]:
    """Return the `count` nearest slots of each query (float32 [m, dim]), unordered; projected, if there is one."""
    if projection is not None:
        queries = projection(queries)
    lengths = np.einsum("ij,ij->i", queries, queries)
    far = np.empty((len(queries), len(slots)), dtype=np.float32)
    begin = 0
    for rows in copies(vectors, slots, CHUNK_BYTES):
        if projection is not None:
            rows = projection(rows)
        distances = -(queries @ rows.T)
        if metric is Metric.EUCLIDEAN:
            distances = np.einsum("ij,ij->i", rows, rows) + 2 * distances + lengths[:, None]
        far[:, begin : begin + len(rows)] = distances
        begin += len(rows)
    count = min(count, len(slots))
    return [slots[each] for each in np.argpartition(far, count - 1, axis=1)[:, :count]]
