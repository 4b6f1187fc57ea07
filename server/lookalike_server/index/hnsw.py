"""A sealed HNSW graph over rows of a segment; the only place that imports `hnswlib`.

Sealed: built once, then only queried, because hnswlib's queries are safe beside each other but not beside adds,
resizes or saves; a graph grows by growing a copy. Its own deletion is not used: it loses rows when labels return. Nor
are its files: they carry no checksum, and hnswlib neither reports a failing disk nor survives a damaged file. Its
pickling gives the graph as arrays, which `files.py` keeps.
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
    AT_ONCE,
    KEPT_SHARED,
    NEIGHBORS,
    Projection,
    fitting_projection,
    nearest,
    share_found,
)
from lookalike_server.index.row_storage import Rows, Slots, copies

Arrays = Mapping[str, npt.NDArray[Any]]

_WHOLE = 16_384  # numbers; a graph over longer vectors as they are would be as large as they, and slow
_PROBES = 64  # rows whose neighbors a graph that grew must find
_FOUND = 0.99  # the share of them: less than a projection must keep, because a graph misses some by itself
_PROJECTION = "projection"
_NUMBERS = "numbers"


@dataclass(frozen=True, slots=True)
class HnswSettings:
    """How graphs are built and searched.

    Attributes:
        m: Links a node keeps (hnswlib's M).
        ef_construction: Candidates weighed while a node is linked.
        ef_search: Candidates weighed by a query, and measured exactly where the graph is over projected vectors; more
            where more rows are wanted.
        numbers: Numbers that vectors are projected to for the graph, more where these do not do; 0 projects nothing.
    """

    m: int = 16
    ef_construction: int = 200
    ef_search: int = 192
    numbers: int = 256

    @property
    def sure(self) -> int:
        """Of the weighed candidates so many are taken to be the nearest ones: towards their end a graph misses some."""
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
        """Wrap an index that is finished; see `built`, `extended` and `from_arrays`."""
        self.origin = origin or object()
        """The same for a graph and all that it was extended to."""
        index.set_ef(settings.ef_search)
        self._index = index
        self._metric = metric
        self._settings = settings
        self.projection = projection

    @classmethod
    def built(
        cls,
        vectors: Rows,
        offsets: Slots,
        metric: Metric,
        settings: HnswSettings,
        earlier: Projection | None = None,
    ) -> HnswGraph | None:
        """Build a graph; None where the vectors are very long and no projection does, so that a graph does not pay.

        Args:
            vectors: float32 [n, dim]; of length 1 where the metric is cosine.
            offsets: int64 [m], m >= 1: the rows that are in it.
            metric: How distance is measured.
            settings: How to build and search it.
            earlier: A projection that is taken if it does, so that graphs share it.
        """
        projection = earlier
        if earlier is None or not earlier.keeps(vectors, offsets, metric, settings.sure, KEPT_SHARED):
            projection = fitting_projection(vectors, offsets, metric, settings.numbers, settings.sure)
        if projection is None and settings.numbers and vectors.shape[1] > _WHOLE:
            return None
        dim = projection.basis.shape[1] if projection else vectors.shape[1]
        # 'ip' on vectors of length 1 is cosine without hnswlib normalizing each of them again.
        index = hnswlib.Index(space=_space(metric), dim=dim)
        index.init_index(max_elements=len(offsets), M=settings.m, ef_construction=settings.ef_construction)
        graph = cls(index, projection, metric, settings)
        graph._add(vectors, offsets)
        return graph

    @classmethod
    def from_arrays(cls, arrays: Arrays, dim: int, metric: Metric, settings: HnswSettings) -> HnswGraph:
        """The graph that `arrays` gave; they must be exactly those.

        Raises:
            ValueError: It was built with other settings, over vectors of another length or by another metric.
        """
        state = {name: value.item() if value.ndim == 0 else value for name, value in arrays.items()}
        basis = state.pop(_PROJECTION, None)
        found = (state["space"], state["M"], state["ef_construction"], state.pop(_NUMBERS))
        rows = state["dim"] if basis is None else len(basis)
        if (*found, rows) != (_space(metric), settings.m, settings.ef_construction, settings.numbers, dim):
            raise ValueError("it was built with other settings")
        return cls(hnswlib.Index(state), None if basis is None else Projection(basis), metric, settings)

    def arrays(self) -> dict[str, npt.NDArray[Any]]:
        """All of it as arrays, numbers and texts as arrays without dimensions."""
        arrays = {name: np.asarray(value) for name, value in self._state().items()}
        arrays[_NUMBERS] = np.asarray(self._settings.numbers)
        if self.projection is not None:
            arrays[_PROJECTION] = self.projection.basis
        return arrays

    def extended(self, vectors: Rows, offsets: Slots) -> HnswGraph:
        """A graph with these rows as well; arguments as of `built`."""
        index = hnswlib.Index(self._state())
        index.resize_index(len(self) + len(offsets))
        graph = HnswGraph(index, self.projection, self._metric, self._settings, self.origin)
        graph._add(vectors, offsets)
        return graph

    def still_keeps(self, vectors: Rows, offsets: Slots) -> bool:
        """Whether the projection does for these rows (arguments as of `built`), as one that is shared must."""
        if self.projection is None:
            return True
        return self.projection.keeps(vectors, offsets, self._metric, self._settings.sure, KEPT_SHARED)

    def finds(self, vectors: Rows, offsets: Slots, new: Slots) -> bool:
        """Whether a search finds the neighbors of rows that joined late, tried on some of them.

        Args:
            vectors: float32 [n, dim], as of `built`.
            offsets: int64 [m], all rows that count.
            new: int64, those that joined.
        """
        if self.projection is None:
            return True
        probes = new[np.linspace(0, len(new) - 1, min(_PROBES, len(new)), dtype=np.int64)]
        near = nearest(vectors, offsets, vectors[probes], self._metric, NEIGHBORS + 1)
        try:
            found, _ = self.nearest(self.projection(vectors[probes]), self.weighed(NEIGHBORS))
        except RuntimeError:
            return False
        return share_found(probes, near, list(found)) >= _FOUND

    def __len__(self) -> int:
        """Rows in it."""
        return int(self._index.element_count)

    def weighed(self, rows: int) -> int:
        """How many of its nearest should be asked for, so that the `rows` nearest are among them."""
        # Projected, the nearest need not come first.
        return rows if self.projection is None else max(2 * rows, self._settings.ef_search)

    def nearest(self, vectors: Floats, rows: int) -> tuple[Slots, Floats]:
        """About the `rows` nearest to each of the vectors, as `projection` made them.

        Returns:
            Their offsets, int64 [m, rows or all], and how far they seem, float32 of the same shape: by that graphs of
            one projection can be compared.

        Raises:
            RuntimeError: The graph reaches fewer rows than were asked for.
        """
        labels, far = self._index.knn_query(vectors, k=min(rows, len(self)), num_threads=1)
        return labels.astype(np.int64), far

    def _state(self) -> dict[str, Any]:
        # What pickle would take and give back; `__setstate__` on an index that exists leaves one that crashes.
        (state,) = self._index.__getstate__()
        return dict(state)

    def _add(self, vectors: Rows, offsets: Slots) -> None:
        begin = 0
        for rows in copies(vectors, offsets, AT_ONCE):
            labels = offsets[begin : begin + len(rows)]
            # One thread: searches and the model share the cores with this.
            self._index.add_items(self.projection(rows) if self.projection else rows, labels, num_threads=1)
            begin += len(rows)


def _space(metric: Metric) -> str:
    return "ip" if metric is Metric.COSINE else "l2"
