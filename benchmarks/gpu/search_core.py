"""Exact search in a GPU's memory without a server: the index's own `DeviceSearch`, over rows in one array."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from benchmarks.catalog.vectors import Floats
from lookalike_server.device_search.matrix import BLOCK_BYTES, MAX_BLOCK_ROWS, Matrix
from lookalike_server.device_search.memory import HostMemory
from lookalike_server.device_search.opening import OnnxSearchDevice
from lookalike_server.device_search.runs import CHUNK_ROWS, Runs
from lookalike_server.domain.inference import Metric
from lookalike_server.index.brute_force import FlatView
from lookalike_server.index.device_search import DeviceSearch
from lookalike_server.index.row_storage import Matrix as RowMatrix
from lookalike_server.inference.onnx_session import import_onnxruntime
from lookalike_server.inference.providers import PROVIDERS

_PIECE = 8_192  # rows that are moved to the device at a time
_CPU_CHUNK_ROWS = 64


@dataclass(frozen=True, slots=True)
class Answer:
    """What was found for one query.

    Attributes:
        rows: int64 [k], the numbers of the nearest rows, nearest first.
        more: Whether that took the scores of all rows, since the candidates left a doubt.
    """

    rows: npt.NDArray[np.int64]
    more: bool


class SearchCore:
    """Rows in a device's memory, float32 [n, dim] of length 1 in the host's."""

    def __init__(self, rows: Floats, provider: str) -> None:
        """Move the rows to the device.

        Raises:
            DeviceSearchError: There is none, or it has too little memory.
        """
        device = _device(rows.shape[1], provider)
        # A matrix for each block, so that several threads round the rows; searched together they are as one.
        block = min(MAX_BLOCK_ROWS, BLOCK_BYTES // (2 * rows.shape[1])) // CHUNK_ROWS * CHUNK_ROWS
        begins = range(0, len(rows), block)
        with ThreadPoolExecutor(len(begins)) as threads:
            matrices = list(threads.map(lambda begin: _filled(device, rows[begin : begin + block], begin), begins))
        self.nbytes = sum(matrix.nbytes for matrix in matrices)
        """Bytes of the rows on the device."""
        self.device_seconds = 0.0
        """How long the last search took on the device, copies and choice of candidates included."""
        self._view = FlatView(RowMatrix([rows], 0, len(rows)), np.ones(len(rows), dtype=np.bool_))
        views = [matrix.view() for matrix in matrices]
        self._rows = replace(views[0], blocks=tuple(block for view in views for block in view.blocks))

    def search(self, queries: Floats, k: int) -> list[Answer]:
        """Find the `k` nearest rows of each query, float32 [q, dim], as `Snapshot.search` does.

        Raises:
            DeviceSearchError: The device failed.
        """
        begun = time.perf_counter()
        search = DeviceSearch(self._rows, self._view, list(queries[:, np.newaxis]), k, filtered=False)
        self.device_seconds = time.perf_counter() - begun
        answers = []
        for number, query in enumerate(queries[:, np.newaxis]):
            found = search.nearest(number)
            slots, farthest = self._nearest(found.slots, query, k)
            if more := found.others <= farthest:
                slots, _ = self._nearest(search.nearest_of_all(number, farthest), query, k)
            answers.append(Answer(slots, more))
        return answers

    def _nearest(self, slots: npt.NDArray[np.int64], query: Floats, k: int) -> tuple[npt.NDArray[np.int64], float]:
        distances = self._view.measured(slots, query, Metric.COSINE)
        order = np.argsort(distances, kind="stable")[:k]
        return slots[order], float(distances[order[-1]])


def _filled(device: OnnxSearchDevice, rows: Floats, first: int) -> Matrix:
    """Return a matrix with these rows, whose slots begin with `first`."""
    matrix = device.matrix()
    for begin in range(0, len(rows), _PIECE):
        piece = rows[begin : begin + _PIECE]
        slots = np.arange(first + begin, first + begin + len(piece))
        matrix.append(piece, slots, expected=len(rows) - begin - len(piece))
    return matrix


def _device(dim: int, provider: str) -> OnnxSearchDevice:
    ort = import_onnxruntime()
    if provider != "cpu":
        return OnnxSearchDevice.cuda(ort, dim)
    memory = HostMemory()
    return OnnxSearchDevice(
        Runs(ort, (PROVIDERS["cpu"], {}), memory, threads=1, chunk_rows=_CPU_CHUNK_ROWS), memory, dim
    )
