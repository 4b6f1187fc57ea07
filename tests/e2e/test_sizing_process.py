"""The formulas of docs/sizing.md beside a server that is measured."""

from __future__ import annotations

import os
import signal
import subprocess
from contextlib import suppress
from pathlib import Path

import pytest

from lookalike_client import Client
from lookalike_server.doctor import sizing
from lookalike_server.inference.processor import available_cores
from support.paths import MODELS
from support.processes import server_process
from support.sized_catalogs import DIM, Memory, disk_of, fill, memory_of, write_model

ROWS = 2000
IN_GRAPHS = ("--full-scan-threshold", "500")
BATCH = 16
M = 16  # the default of hnsw_m


def served(model: Path, data: Path, *, until_indexed: bool = False) -> Memory:
    """Serve a catalog, with its index written if asked for, and return what the process has then."""
    with server_process(model, data, "--provider", "cpu", "--max-batch-size", str(BATCH), *IN_GRAPHS) as server:
        with Client(server.address) as client:
            client.model()
            while until_indexed and not all(disk_of(data).values()):
                # Without calls, for which the graph would wait; a server that ends fails the test.
                with suppress(subprocess.TimeoutExpired):
                    raise AssertionError(f"the server ended with {server.process.wait(0.1)}")
        found = memory_of(server.process.pid)
        assert server.stop(signal.SIGTERM) == 0
    return found


@pytest.mark.slow
@pytest.mark.skipif(not os.path.exists("/proc/self/status"), reason="Linux only")  # noqa: PTH110
def test_a_process_takes_what_the_formulas_say(tmp_path: Path) -> None:
    """Disk, memory and threads of a server with products are within the tolerance that the page states."""
    model, data = write_model(tmp_path / "model"), tmp_path / "data"
    fill(data, model, ROWS)
    served(model, data, until_indexed=True)  # writes the index
    memory, disk = served(model, data), disk_of(data)

    graph = sizing.graph_bytes(ROWS, DIM, M, cosine=True)
    assert 0.95 <= disk["catalog.sqlite"] / sizing.file_bytes(ROWS, DIM, ROWS) <= 1.05
    assert 0.95 <= disk[".graph"] / graph <= 1.05
    assert 0.95 <= disk[".rows"] / sizing.row_bytes(ROWS, DIM) <= 1.05
    idle = sizing.idle_bytes(
        model_bytes=(model / "model.onnx").stat().st_size,
        max_batch_size=BATCH,
        pixels=32 * 32,
        graph_bytes=graph,
        rows=ROWS,
    )
    assert 0.4 <= memory.anonymous / idle <= 1.1
    assert memory.threads <= sizing.threads(available_cores())
    assert memory.open_files <= 256


@pytest.mark.slow
@pytest.mark.skipif(not os.path.exists("/proc/self/status"), reason="Linux only")  # noqa: PTH110
def test_a_process_without_products(tmp_path: Path) -> None:
    """An empty server is within the same tolerance, and would not be with a model of 200 MB."""
    memory = served(MODELS / "tiny", tmp_path)
    small = sizing.idle_bytes(model_bytes=0, max_batch_size=BATCH, pixels=32 * 32)
    large = sizing.idle_bytes(model_bytes=200_000_000, max_batch_size=BATCH, pixels=32 * 32)
    assert 0.4 <= memory.anonymous / small <= 1.1
    assert memory.anonymous / large < 0.4
