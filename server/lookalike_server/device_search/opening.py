"""Opens the device that searches, and checks that it computes as exactly as `rounding.py` expects."""

from __future__ import annotations

import os
from typing import Any

import numpy as np
import numpy.typing as npt

from lookalike_server.device_search.matrix import BLOCK_BYTES, Matrix
from lookalike_server.device_search.memory import CudaMemory, DeviceMemory
from lookalike_server.device_search.runs import MAX_QUERIES, QUERIES, Runs
from lookalike_server.domain.inference import Floats
from lookalike_server.index.device import Candidates, DeviceSearchError, SearchDevice
from lookalike_server.index.row_storage import rows_in
from lookalike_server.inference.cuda import CudaError
from lookalike_server.inference.providers import PROVIDERS, cuda_runtime, unavailable_reason

_GEMM_OPTIONS = "ORT_CUDA_GEMM_OPTIONS"
_NO_REDUCED_REDUCTION = "2"  # which ONNX Runtime passes to cuBLAS: partial sums are not rounded to half precision

_CHECKED_BYTES = 64 << 20  # of the rows that are searched at the start
_ARENA = {"arena_extend_strategy": "kSameAsRequested"}  # its matrices are not in the arena, and little else is


def forbid_half_sums() -> None:
    """Have cuBLAS sum in float32 only; before anything runs on the GPU, because ONNX Runtime reads this once.

    Raises:
        DeviceSearchError: The environment asks for something else.
    """
    value = os.environ.setdefault(_GEMM_OPTIONS, _NO_REDUCED_REDUCTION)
    if value not in (_NO_REDUCED_REDUCTION, "4", "6"):  # 4: no tensor cores
        raise DeviceSearchError(
            f"{_GEMM_OPTIONS}={value} in the environment allows sums in half precision, with which no answer could be"
            " proven exact; unset it"
        )


class OnnxSearchDevice(SearchDevice):
    """A device with ONNX Runtime on it, whose matrices share the memory of runs."""

    def __init__(self, runs: Runs, memory: DeviceMemory, dim: int, block_bytes: int = BLOCK_BYTES) -> None:
        """Check that the device computes as it should, with vectors of `dim` dimensions.

        Raises:
            DeviceSearchError: It does not, or failed.
        """
        self._runs = runs
        self._memory = memory
        self._dim = dim
        self._block_bytes = block_bytes
        self._check()

    @classmethod
    def cuda(cls, ort: Any, dim: int) -> OnnxSearchDevice:
        """Open the first GPU that CUDA lists.

        Args:
            ort: The module `onnxruntime`.
            dim: Dimensions of vectors.

        Raises:
            DeviceSearchError: There is none that ONNX Runtime can use, or it does not compute as it should.
        """
        problem = unavailable_reason(ort, "cuda")
        if problem is not None:
            raise DeviceSearchError(problem)
        forbid_half_sums()
        try:
            memory = CudaMemory(cuda_runtime(ort))
        except CudaError as error:
            raise DeviceSearchError(str(error)) from error
        return cls(Runs(ort, (PROVIDERS["cuda"], _ARENA), memory), memory, dim)

    def matrix(self) -> Matrix:
        """Return a matrix without rows."""
        return Matrix(self._dim, self._runs, self._memory, self._block_bytes)

    def _check(self) -> None:
        """Search rows whose sums show it if they are not in float32, in every number of queries that a run has."""
        rows = min(2 * self._runs.chunk_rows + 1, rows_in(_CHECKED_BYTES, self._dim))
        vectors = _hard_to_sum(rows, self._dim)
        distances = 1.0 - vectors[:MAX_QUERIES].astype(np.float64) @ vectors.T.astype(np.float64)
        matrix = self.matrix()
        matrix.append(vectors, np.arange(rows))
        for count in QUERIES:
            candidates = matrix.view().candidates(vectors[:count], self._runs.max_count)
            for number, found in enumerate(distances[:count]):
                _check_found(candidates, number, found)


def _hard_to_sum(rows: int, dim: int) -> Floats:
    """Return float32 [rows, dim] of length 1 without negative terms, so that no rounding of sums evens out."""
    vectors = np.abs(np.random.default_rng(0).standard_normal((rows, dim), dtype=np.float32))
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    return vectors


def _check_found(candidates: Candidates, query: int, distances: npt.NDArray[np.float64]) -> None:
    scores, slots = candidates.scores[query], candidates.slots[query]
    there = slots >= 0
    off = np.abs(scores[there] + distances[slots[there]]) - candidates.rounding * np.abs(scores[there])
    others = np.delete(distances, slots[there]).min(initial=np.inf)
    if off.max() > candidates.errors[query] or others < candidates.least_distance(query, float(scores[-1])):
        raise DeviceSearchError(
            f"scores are off by {off.max():.2g}, and half precision explains {candidates.errors[query]:.2g}: this GPU,"
            " or this build of ONNX Runtime, does not sum in float32"
        )
