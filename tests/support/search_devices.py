"""A search device in host memory: the code and the graph of a GPU, with chunks and blocks of few rows."""

from __future__ import annotations

from functools import cache

from lookalike_server.device_search.memory import HostMemory
from lookalike_server.device_search.opening import OnnxSearchDevice
from lookalike_server.device_search.runs import Runs
from lookalike_server.inference.onnx_session import import_onnxruntime

CHUNK_ROWS = 64
BLOCK_ROWS = 128


def host_runs(memory: HostMemory, chunk_rows: int = CHUNK_ROWS) -> Runs:
    """Load the graph into ONNX Runtime's CPU provider."""
    return Runs(import_onnxruntime(), ("CPUExecutionProvider", {}), memory, threads=1, chunk_rows=chunk_rows)


def host_device(dim: int, limit: int | None = None) -> tuple[OnnxSearchDevice, HostMemory]:
    """Make a device of so many bytes, and return its memory too; a block has at most `BLOCK_ROWS` rows."""
    memory = HostMemory(limit)
    return OnnxSearchDevice(host_runs(memory), memory, dim, block_bytes=2 * dim * BLOCK_ROWS), memory


@cache
def shared_device(dim: int) -> OnnxSearchDevice:
    """Return a device that tests may share."""
    return host_device(dim)[0]
