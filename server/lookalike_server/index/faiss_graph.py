"""Graphs by Faiss; the only module that imports `faiss`.

Every call of it releases the interpreter's lock, copies and files included. Where the metric is cosine, a node is kept
in half precision: its error is small beside the distances of vectors of length 1, and candidates are measured exactly
anyway. Euclidean vectors may have any size, so they are kept in single precision.
"""

from __future__ import annotations

import os
from typing import IO, Any, Self

import numpy as np

# Before the import, which starts OpenMP: its threads would else spin for milliseconds after each piece of work.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")

import faiss

from lookalike_server.domain.inference import Floats, Metric
from lookalike_server.index.brute_force import rounding_margin
from lookalike_server.index.graph import Graph, HnswSettings
from lookalike_server.index.row_storage import Slots

_untyped: Any = faiss  # its type stubs lack some classes

_IO_BYTES = 1 << 20  # of a file, read or written at once
_HALF_MARGIN = 5e-4  # a half has 11 bits, so the products of two vectors of length 1 sum up to an error of 2 ** -11


class FaissGraph(Graph):
    """A `Graph` as an index of Faiss."""

    def __init__(self, index: Any, metric: Metric, settings: HnswSettings) -> None:
        """Wrap an index; see `create` and `read`."""
        # Its default for searches; a search for more raises it.
        index.hnsw.efSearch = settings.ef_search
        self._index = index
        self._metric = metric
        self._settings = settings

    @classmethod
    def create(cls, dim: int, metric: Metric, settings: HnswSettings, capacity: int) -> Self:
        index: Any
        if metric is Metric.COSINE:
            half: Any = faiss.ScalarQuantizer.QT_fp16
            index = faiss.IndexHNSWSQ(dim, half, settings.m, faiss.METRIC_INNER_PRODUCT)
        else:
            index = faiss.IndexHNSWFlat(dim, settings.m, faiss.METRIC_L2)
        index.hnsw.efConstruction = settings.ef_construction
        return cls(index, metric, settings)

    @classmethod
    def read(cls, file: IO[bytes], dim: int, metric: Metric, settings: HnswSettings) -> Self:
        try:
            index = faiss.read_index(_untyped.PyCallbackIOReader(file.read, _IO_BYTES))
        except RuntimeError as error:
            raise ValueError(f"Faiss cannot read it: {error}") from error
        wanted = faiss.METRIC_INNER_PRODUCT if metric is Metric.COSINE else faiss.METRIC_L2
        if (index.d, index.metric_type) != (dim, wanted):
            raise ValueError("it is over other vectors")
        return cls(index, metric, settings)

    def write(self, file: IO[bytes]) -> None:
        faiss.write_index(self._index, _untyped.PyCallbackIOWriter(file.write, _IO_BYTES))

    def __len__(self) -> int:
        return int(self._index.ntotal)

    def copy(self, capacity: int) -> Self:
        return type(self)(faiss.clone_index(self._index), self._metric, self._settings)

    def add(self, vectors: Floats, threads: int) -> None:
        faiss.omp_set_num_threads(threads)  # of calls from this thread only
        self._index.add(np.ascontiguousarray(vectors))

    def nearest(self, queries: Floats, count: int) -> tuple[Slots, Floats]:
        faiss.omp_set_num_threads(1)  # searches run beside each other
        count = min(len(self), max(count, self._settings.ef_search))
        found, nodes = self._index.search(np.ascontiguousarray(queries), count)
        if self._metric is Metric.COSINE:
            return nodes, np.float32(1.0) - found
        return nodes, np.sqrt(np.maximum(found, 0.0))

    def margin(self, distance: float) -> float:
        return _HALF_MARGIN if self._metric is Metric.COSINE else rounding_margin(distance, self._metric)
