"""Runs of the graph `nearest_rows.onnx` on a device, whose inputs and outputs stay in the device's memory.

`tools/device_search_graph.py` writes the graph. For queries float16 [q, dim], rows float16 [n, dim] and allowed bool
[n] it computes scores float16 [q, n], the negative of the cosine distance, which is about -60,000 where a row is not
allowed; and the `count` highest of each query.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from lookalike_server.device_search.memory import Buffer, DeviceMemory
from lookalike_server.domain.inference import Floats
from lookalike_server.index.device import DeviceSearchError

CHUNK_ROWS = 4096
"""The rows of which a block of threads selects the best; a run compares a multiple of them."""

MAX_QUERIES = 64
"""The most queries of a run; more are compared in several."""

QUERIES = (1, 4, 16, MAX_QUERIES)
"""The numbers of queries to which runs are padded, so that few shapes occur."""

MAX_COUNT = 1024
"""The most rows that a run selects for each query."""

_LEAST_SCORE = -30_000.0  # below which a row is not allowed
_GRAPH = Path(__file__).with_name("nearest_rows.onnx")

Halves = npt.NDArray[np.float16]
Mask = npt.NDArray[np.bool_]
Positions = npt.NDArray[np.int64]
Binding = tuple[str, type[np.generic], tuple[int, ...], int]


class Operand(NamedTuple):
    """Rows that a run compares.

    Attributes:
        rows: float16 [n, dim] on the device, none of them NaN.
        padded: n, a multiple of the chunk's rows.
        allowed: bool [n], on the device or not.
    """

    rows: Buffer
    padded: int
    allowed: Buffer | Mask


class Runs:
    """An ONNX Runtime session and the memory of one run. Any thread may call it; calls wait for each other."""

    def __init__(
        self,
        ort: Any,
        provider: tuple[str, dict[str, str]],
        memory: DeviceMemory,
        *,
        threads: int = 0,
        chunk_rows: int = CHUNK_ROWS,
    ) -> None:
        """Load the graph.

        Args:
            ort: The module `onnxruntime`.
            provider: ONNX Runtime's name of what runs it, and its options.
            memory: The memory that it uses.
            threads: Threads of a run on a CPU; 0 lets ONNX Runtime use every core.
            chunk_rows: See `CHUNK_ROWS`.

        Raises:
            DeviceSearchError: The provider does not start.
        """
        self.chunk_rows = chunk_rows
        self.max_count = min(MAX_COUNT, chunk_rows)
        self._ort = ort
        self._memory = memory
        self._lock = threading.Lock()
        self._buffers: dict[str, Buffer] = {}
        self._chunks = np.array([0, -1, chunk_rows], dtype=np.int64)
        options = ort.SessionOptions()
        options.intra_op_num_threads = threads
        options.add_session_config_entry("session.force_spinning_stop", "1")
        options.log_severity_level = 3  # errors only: they are raised anyway
        name, values = provider
        try:
            self._session = ort.InferenceSession(
                str(_GRAPH), options, providers=[name], provider_options=[values], enable_fallback=0
            )
        except Exception as error:  # ONNX Runtime's exceptions share no base
            raise DeviceSearchError(f"ONNX Runtime cannot load {_GRAPH.name}: {error}") from error
        if self._session.get_providers()[0] != name:
            raise DeviceSearchError(f"{name} did not start (no usable device)")

    def reserve(self, rows: int, dim: int) -> None:
        """Reserve memory for runs over up to so many rows.

        Raises:
            DeviceSearchError: There is too little memory.
        """
        sizes = {
            "queries": 2 * MAX_QUERIES * dim,
            "allowed": rows,
            "scores": 2 * MAX_QUERIES * rows,
            "found": 18 * MAX_QUERIES * self.max_count,
        }
        with self._lock:
            for name, size in sizes.items():
                if name not in self._buffers or self._buffers[name].size < size:
                    self._buffers[name] = self._memory.allocate(size)

    def best(self, queries: Halves, operands: Sequence[Operand], count: int) -> list[tuple[Floats, Positions]]:
        """Return the highest scores of each operand, float32 [q, count], highest first, and their rows, int64.

        Where fewer rows are allowed, others follow with the score -inf.

        Args:
            queries: float16 [q, dim], at most `MAX_QUERIES`.
            operands: Whose rows to compare, one after the other.
            count: At most `max_count`.

        Raises:
            DeviceSearchError: The device failed.
        """
        with self._lock:
            padded = self._put(queries)
            found = []
            for operand in operands:
                self._run(operand, padded, queries.shape[1], count)
                found.append(self._found(padded, len(queries), count))
        return found

    def scores(self, query: Halves, operands: Sequence[Operand]) -> list[Floats]:
        """Return all scores of each operand, float32 [n], for a query float16 [1, dim]; -inf where not allowed.

        Raises:
            DeviceSearchError: The device failed.
        """
        results = []
        with self._lock:
            self._put(query)
            for operand in operands:
                self._run(operand, 1, query.shape[1], 1)
                scores = np.empty(operand.padded, dtype=np.float16)
                self._memory.copy_out(scores, self._buffers["scores"].address)
                results.append(_scores(scores))
        return results

    def _put(self, queries: Halves) -> int:
        """Copy queries to the device, and return how many there are with those that fill up the run."""
        padded = next(size for size in QUERIES if size >= len(queries))
        filled = np.zeros((padded, queries.shape[1]), dtype=np.float16)
        filled[: len(queries)] = queries
        self._memory.copy_in(self._buffers["queries"].address, filled)
        return padded

    def _run(self, operand: Operand, queries: int, dim: int, count: int) -> None:
        if isinstance(operand.allowed, Buffer):
            allowed = operand.allowed.address
        else:
            allowed = self._buffers["allowed"].address
            self._memory.copy_in(allowed, operand.allowed)
        kind = self._memory.kind
        binding = self._session.io_binding()
        binding.bind_cpu_input("chunks", self._chunks)
        binding.bind_cpu_input("count", np.array([count], dtype=np.int64))
        rows = operand.padded
        inputs: Sequence[Binding] = (
            ("queries", np.float16, (queries, dim), self._buffers["queries"].address),
            ("rows", np.float16, (rows, dim), operand.rows.address),
            ("allowed", np.bool_, (rows,), allowed),
        )
        place = self._buffers["found"].address
        within = place + 8 * queries * count
        outputs: Sequence[Binding] = (
            ("scores", np.float16, (queries, rows), self._buffers["scores"].address),
            ("place", np.int64, (queries, count), place),
            ("within", np.int64, (queries, count), within),
            ("best", np.float16, (queries, count), within + 8 * queries * count),
        )
        for name, dtype, shape, address in inputs:
            binding.bind_input(name, kind, 0, dtype, shape, address)
        for name, dtype, shape, address in outputs:
            binding.bind_output(name, kind, 0, dtype, shape, address)
        try:
            self._session.run_with_iobinding(binding)  # returns when the device is done
        except Exception as error:
            raise DeviceSearchError(f"ONNX Runtime cannot search: {error}") from error

    def _found(self, padded: int, queries: int, count: int) -> tuple[Floats, Positions]:
        """Copy what the run found, all outputs at once."""
        size = padded * count
        memory = np.empty(18 * size, dtype=np.uint8)
        self._memory.copy_out(memory, self._buffers["found"].address)
        place, within = memory[: 16 * size].view(np.int64).reshape(2, padded, count)[:, :queries]
        best = memory[16 * size :].view(np.float16).reshape(padded, count)[:queries]
        return _scores(best), place // count * self.chunk_rows + within


def _scores(halves: Halves) -> Floats:
    scores = halves.astype(np.float32)
    scores[scores < _LEAST_SCORE] = -np.inf
    return scores
