"""Graphs by hnswlib; the only module that imports `hnswlib`.

Its deletion is not used, since it loses rows when labels return, nor are its files: they have no checksum, and hnswlib
neither reports a failing disk nor survives a damaged file. Its pickled state gives the graph as arrays. A copy and a
read hold the interpreter's lock, for about 8 ms for each thousand vectors of 2,048 dimensions.
"""

from __future__ import annotations

import json
from typing import IO, Any, Self

import hnswlib
import numpy as np

from lookalike_server.domain.inference import Floats, Metric
from lookalike_server.index.brute_force import rounding_margin
from lookalike_server.index.graph import Graph, HnswSettings
from lookalike_server.index.row_storage import Slots


class HnswlibGraph(Graph):
    """A `Graph` as an index of hnswlib, over vectors in single precision."""

    def __init__(self, index: Any, metric: Metric, settings: HnswSettings) -> None:
        """Wrap an index; see `create` and `read`."""
        index.set_ef(settings.ef_search)
        self._index = index
        self._metric = metric
        self._settings = settings

    @classmethod
    def create(cls, dim: int, metric: Metric, settings: HnswSettings, capacity: int) -> Self:
        # 'ip' on vectors of length 1 is cosine, without hnswlib normalizing them again.
        index = hnswlib.Index(space=_space(metric), dim=dim)
        index.init_index(max_elements=capacity, M=settings.m, ef_construction=settings.ef_construction)
        return cls(index, metric, settings)

    @classmethod
    def read(cls, file: IO[bytes], dim: int, metric: Metric, settings: HnswSettings) -> Self:
        state: dict[str, Any] = json.loads(file.readline())
        if (state["space"], state["dim"]) != (_space(metric), dim):
            raise ValueError("it is over other vectors")
        for name in json.loads(file.readline()):
            state[name] = np.lib.format.read_array(file, allow_pickle=False)
        return cls(hnswlib.Index(state), metric, settings)

    def write(self, file: IO[bytes]) -> None:
        state = self._state()
        arrays = {name: value for name, value in state.items() if isinstance(value, np.ndarray)}
        file.write(json.dumps({name: value for name, value in state.items() if name not in arrays}).encode() + b"\n")
        file.write(json.dumps(list(arrays)).encode() + b"\n")
        for array in arrays.values():
            np.lib.format.write_array(file, array, allow_pickle=False)

    def __len__(self) -> int:
        return int(self._index.element_count)

    def copy(self, capacity: int) -> Self:
        index = hnswlib.Index(self._state())
        index.resize_index(max(capacity, len(self)))
        return type(self)(index, self._metric, self._settings)

    def add(self, vectors: Floats, threads: int) -> None:
        self._index.add_items(vectors, np.arange(len(self), len(self) + len(vectors)), num_threads=threads)

    def nearest(self, queries: Floats, count: int) -> tuple[Slots, Floats]:
        count = min(len(self), max(count, self._settings.ef_search))
        try:
            nodes, found = self._index.knn_query(queries, k=count, num_threads=1)
        except RuntimeError:  # one of the queries reaches fewer nodes than that
            return np.full((len(queries), 1), -1), np.zeros((len(queries), 1), dtype=np.float32)
        return nodes.astype(np.int64), found if self._metric is Metric.COSINE else np.sqrt(np.maximum(found, 0.0))

    def margin(self, distance: float) -> float:
        return rounding_margin(distance, self._metric)

    def _state(self) -> dict[str, Any]:
        # The state for pickle; `hnswlib.Index(state)` restores it, while `__setstate__` leaves an index that crashes.
        (state,) = self._index.__getstate__()
        return dict(state)


def _space(metric: Metric) -> str:
    return "ip" if metric is Metric.COSINE else "l2"
