"""An immutable HNSW graph over the rows of a segment; the only module that imports `hnswlib`.

Immutable, because hnswlib's queries may run concurrently with each other but not with adds, resizes or saves: only a
copy of a graph is extended. hnswlib's own deletion is not used, since it loses rows when labels return. Nor are its
files: they have no checksum, and hnswlib neither reports a failing disk nor survives a damaged file. Its pickled state
gives the graph as arrays, which `graph_files.py` stores.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import hnswlib
import numpy as np
import numpy.typing as npt

from lookalike_server.domain.inference import Floats, Metric
from lookalike_server.index.projection import (
    CHUNK_BYTES,
    MIN_RECALL_SHARED,
    NEIGHBORS,
    Projection,
    fit_projection,
    nearest,
    neighbor_recall,
)
from lookalike_server.index.row_storage import Rows, Slots, copies

Arrays = Mapping[str, npt.NDArray[Any]]

_MAX_DIM = 16_384  # a graph over longer vectors, unprojected, would be as large as the vectors, and slow
_PROBES = 64  # rows whose neighbors an extended graph must find
_MIN_FOUND = 0.99  # of those neighbors: less than of a projection, because a graph misses some by itself
_PROJECTION = "projection"
_NUMBERS = "numbers"


@dataclass(frozen=True, slots=True)
class HnswSettings:
    """How graphs are built and searched.

    Attributes:
        m: Links of a node (hnswlib's M).
        ef_construction: Candidates considered while a node is linked.
        ef_search: Candidates considered by a query, and measured exactly if the graph is over projected vectors; more
            for queries that need more rows.
        numbers: Dimensions that vectors are projected to for the graph, more if these do not suffice; 0: no projection.
    """

    m: int = 16
    ef_construction: int = 200
    ef_search: int = 192
    numbers: int = 256

    @property
    def reliable_candidates(self) -> int:
        """How many of a query's candidates count as its nearest rows: among the farthest, a graph misses some."""
        return max(1, self.ef_search * 3 // 4)


class HnswGraph:
    """Approximate nearest rows among those it was built from, by their offsets."""

    def __init__(
        self,
        index: Any,
        projection: Projection | None,
        metric: Metric,
        settings: HnswSettings,
        origin: object | None = None,
    ) -> None:
        """Wrap a finished hnswlib index; see `build`, `extend` and `from_arrays`."""
        self.origin = origin or object()
        """Identifies a graph and all its extensions."""
        index.set_ef(settings.ef_search)
        self._index = index
        self._metric = metric
        self._settings = settings
        self.projection = projection

    @classmethod
    def build(
        cls,
        vectors: Rows,
        offsets: Slots,
        metric: Metric,
        settings: HnswSettings,
        earlier: Projection | None = None,
    ) -> HnswGraph | None:
        """Build a graph; None if the vectors are too long for one and no projection preserves their neighbors.

        Args:
            vectors: float32 [n, dim]; of length 1 if the metric is cosine.
            offsets: int64 [m], m >= 1: the rows to index.
            metric: How distance is measured.
            settings: How to build and search it.
            earlier: A projection to share with other graphs if it preserves neighbors.
        """
        projection = earlier
        if earlier is None or not earlier.preserves_neighbors(
            vectors, offsets, metric, settings.reliable_candidates, MIN_RECALL_SHARED
        ):
            projection = fit_projection(vectors, offsets, metric, settings.numbers, settings.reliable_candidates)
        if projection is None and settings.numbers and vectors.shape[1] > _MAX_DIM:
            return None
        dim = projection.basis.shape[1] if projection else vectors.shape[1]
        # 'ip' on vectors of length 1 is cosine, without hnswlib normalizing them again.
        index = hnswlib.Index(space=_space(metric), dim=dim)
        index.init_index(max_elements=len(offsets), M=settings.m, ef_construction=settings.ef_construction)
        graph = cls(index, projection, metric, settings)
        graph._add(vectors, offsets)
        return graph

    @classmethod
    def from_arrays(cls, arrays: Arrays, dim: int, metric: Metric, settings: HnswSettings) -> HnswGraph:
        """Restore the graph that `arrays` returned; the arrays must be undamaged.

        Raises:
            ValueError: The graph was built with other settings, over vectors of another length or by another metric.
        """
        state = {name: value.item() if value.ndim == 0 else value for name, value in arrays.items()}
        basis = state.pop(_PROJECTION, None)
        found = (state["space"], state["M"], state["ef_construction"], state.pop(_NUMBERS))
        rows = state["dim"] if basis is None else len(basis)
        if (*found, rows) != (_space(metric), settings.m, settings.ef_construction, settings.numbers, dim):
            raise ValueError("it was built with other settings")
        return cls(hnswlib.Index(state), None if basis is None else Projection(basis), metric, settings)

    def arrays(self) -> dict[str, npt.NDArray[Any]]:
        """Return the whole graph as arrays; numbers and strings are 0-dimensional."""
        arrays = {name: np.asarray(value) for name, value in self._state().items()}
        arrays[_NUMBERS] = np.asarray(self._settings.numbers)
        if self.projection is not None:
            arrays[_PROJECTION] = self.projection.basis
        return arrays

    def extend(self, vectors: Rows, offsets: Slots) -> HnswGraph:
        """Return a graph with these rows as well; the arguments are those of `build`."""
        index = hnswlib.Index(self._state())
        index.resize_index(len(self) + len(offsets))
        graph = HnswGraph(index, self.projection, self._metric, self._settings, self.origin)
        graph._add(vectors, offsets)
        return graph

    def projection_suffices(self, vectors: Rows, offsets: Slots) -> bool:
        """Test whether the projection preserves the neighbors of these rows; the arguments are those of `build`."""
        if self.projection is None:
            return True
        return self.projection.preserves_neighbors(
            vectors, offsets, self._metric, self._settings.reliable_candidates, MIN_RECALL_SHARED
        )

    def finds_neighbors(self, vectors: Rows, offsets: Slots, new: Slots) -> bool:
        """Test whether a search finds the neighbors of some of the rows that were added last.

        Args:
            vectors: float32 [n, dim], as in `build`.
            offsets: int64 [m], all live rows.
            new: int64, those that were added.
        """
        if self.projection is None:
            return True
        probes = new[np.linspace(0, len(new) - 1, min(_PROBES, len(new)), dtype=np.int64)]
        near = nearest(vectors, offsets, vectors[probes], self._metric, NEIGHBORS + 1)
        try:
            found, _ = self.nearest(self.projection(vectors[probes]), self.candidates_for(NEIGHBORS))
        except RuntimeError:
            return False
        return neighbor_recall(probes, near, list(found)) >= _MIN_FOUND

    def __len__(self) -> int:
        return int(self._index.element_count)

    def candidates_for(self, rows: int) -> int:
        """Return how many candidates to request so that the `rows` nearest are among them."""
        # By projected vectors the nearest rows need not come first.
        return rows if self.projection is None else max(2 * rows, self._settings.ef_search)

    def nearest(self, vectors: Floats, rows: int) -> tuple[Slots, Floats]:
        """Find about the `rows` nearest to each of the vectors, which `projection` has been applied to.

        Returns:
            Their offsets, int64 [m, rows or all], and their approximate distances, float32 of the same shape, which are
            comparable between graphs of one projection.

        Raises:
            RuntimeError: The graph reaches fewer rows than requested.
        """
        labels, far = self._index.knn_query(vectors, k=min(rows, len(self)), num_threads=1)
        return labels.astype(np.int64), far

    def _state(self) -> dict[str, Any]:
        # The state for pickle; `hnswlib.Index(state)` restores it, while `__setstate__` leaves an index that crashes.
        (state,) = self._index.__getstate__()
        return dict(state)

    def _add(self, vectors: Rows, offsets: Slots) -> None:
        begin = 0
        for rows in copies(vectors, offsets, CHUNK_BYTES):
            labels = offsets[begin : begin + len(rows)]
            # One thread, because searches and the model need the other cores.
            self._index.add_items(self.projection(rows) if self.projection else rows, labels, num_threads=1)
            begin += len(rows)


def _space(metric: Metric) -> str:
    return "ip" if metric is Metric.COSINE else "l2"
