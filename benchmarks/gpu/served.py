"""The server as a process, over a catalog of products with drawn vectors."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from benchmarks.catalog.client import import_rows
from benchmarks.catalog.our_server import Rest, Served, rest
from benchmarks.catalog.vectors import draw_clustered
from benchmarks.environment import ROOT, Model
from benchmarks.processes import serving

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


@contextmanager
def server(model: Model, flags: Sequence[str], seconds: float) -> Iterator[Served]:
    """Run the server for as long as the block runs; it must serve within so many seconds."""

    def port(line: str) -> str | None:
        event: dict[str, Any] = json.loads(line) if line.startswith("{") else {}
        return str(event["port"]) if event.get("event") == "serving" else None

    with tempfile.TemporaryDirectory(prefix="lookalike-gpu-") as data:
        command = [sys.executable, "-m", "lookalike_server", "serve", "--model", str(model.folder), "--data-dir", data]
        command += ["--listen", "127.0.0.1:0", "--log-format", "json", *flags]
        with serving(command, environment()) as process:
            found = process.wait_for(port, seconds)
            yield Served(process.process.pid, f"127.0.0.1:{found}", Path(data), 2048, 0.0, {})


def fill(at: Served, rows: int, dim: int, seconds: float) -> Rest:
    """Import `rows` products into each category, and wait for their graphs, for at most so many seconds."""
    with tempfile.TemporaryDirectory(prefix="lookalike-gpu-") as folder:
        import_rows(at.address, draw_clustered(Path(folder), CATEGORIES, rows, 1, dim), CATEGORIES)
    return rest(at, seconds)
