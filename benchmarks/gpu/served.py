"""The server as a process, over a catalog of products with drawn vectors."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.catalog.client import import_rows
from benchmarks.catalog.our_server import Served
from benchmarks.catalog.vectors import draw_clustered
from benchmarks.environment import ROOT, Model
from benchmarks.load import LoadGenerator, Outcome
from benchmarks.processes import serving
from lookalike_loadtest.worker_messages import WorkerConfig

CATEGORIES = 5
_SOURCES = (ROOT / "server", ROOT / "proto" / "python")


def environment() -> dict[str, str]:
    """Return the environment in which the server runs from its source, whatever is installed."""
    return {"PYTHONPATH": os.pathsep.join(filter(None, (*map(str, _SOURCES), os.environ.get("PYTHONPATH"))))}


def known_settings() -> str:
    """Return the server's settings as it lists them."""
    command = [sys.executable, "-m", "lookalike_server", "serve", "--help"]
    done = subprocess.run(
        command, env=os.environ | environment(), capture_output=True, text=True, timeout=60, check=True
    )
    return done.stdout


@dataclass(frozen=True, slots=True)
class GpuServer:
    """A running server.

    Attributes:
        at: Where it serves.
        metrics_address: Where its metrics are.
        log: The events of its log until it served.
    """

    at: Served
    metrics_address: str
    log: Sequence[Mapping[str, Any]]


@contextmanager
def server(model: Model, flags: Sequence[str], seconds: float) -> Iterator[GpuServer]:
    """Run the server with metrics for as long as the block runs; it must serve within so many seconds."""
    ports: dict[str, int] = {}
    log: list[Mapping[str, Any]] = []

    def port(line: str) -> str | None:
        event: dict[str, Any] = json.loads(line) if line.startswith("{") else {}
        log.append(event)
        if event.get("event") in ("serving", "metrics_listening"):
            ports[event["event"]] = event["port"]
        return str(ports["serving"]) if len(ports) == 2 else None

    with tempfile.TemporaryDirectory(prefix="lookalike-gpu-") as data:
        command = [sys.executable, "-m", "lookalike_server", "serve", "--model", str(model.folder), "--data-dir", data]
        command += ["--listen", "127.0.0.1:0", "--log-format", "json"]
        command += ["--metrics-listen", "0", *flags]
        with serving(command, environment()) as process:
            found = process.wait_for(port, seconds)
            at = Served(process.process.pid, f"127.0.0.1:{found}", Path(data), 2048, 0.0, {})
            yield GpuServer(at, f"127.0.0.1:{ports['metrics_listening']}", log)


def closed_loop(load: LoadGenerator, config: WorkerConfig, seconds: float, concurrency: int) -> Outcome:
    """Send calls for so many seconds, all of which must be answered.

    A turn is repeated, twice as long, where a busy machine let nothing be sent.

    Raises:
        LoadError: A call was not answered.
    """
    while not len((outcome := load.run(config, seconds, concurrency=concurrency)).code):
        seconds *= 2
    return outcome.check(all_answered=True)


def fill(at: Served, rows: int, dim: int) -> None:
    """Import `rows` products into each category."""
    with tempfile.TemporaryDirectory(prefix="lookalike-gpu-") as folder:
        import_rows(at.address, draw_clustered(Path(folder), CATEGORIES, rows, 1, dim, spares=1), CATEGORIES)
