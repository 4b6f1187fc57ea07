"""Our server over a catalog of given vectors: started, watched through its log, and waited for until it is idle."""

from __future__ import annotations

import json
import os
import subprocess
import time
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

import grpc

from benchmarks.catalog import messages
from benchmarks.catalog.footprint import processor_seconds
from benchmarks.environment import ROOT
from benchmarks.processes import ServerProcess, StartError, serving
from benchmarks.servers.ours import packages_of
from lookalike.v1 import catalog_service_pb2

COMMAND = ".venv/bin/lookalike-server"
FILE = "catalog.sqlite"

# the model does nothing here; measuring how to run it would only lengthen the start
_MODEL_FLAGS = ("--max-concurrent-batches", "1", "--preferred-batch-size", "1")
_START_SECONDS = 600.0
_REST = 0.03  # of a core, over `_WINDOW` seconds: less than this is rest
_WINDOW = 1.5


@dataclass(frozen=True, slots=True)
class Served:
    """A running server.

    Attributes:
        pid: The id of its process.
        address: Where it listens.
        data: The catalog's folder.
        full_scan_threshold: Rows up to which a category needs no graph.
        launched: When its process was started (`time.time()`).
        process: Its process, whose log is read; None where nothing reads it.
        events: Seconds from there to the first of each event of its log, until it served.
        graphs: `time.time()` of the graphs built so far, since it served; `rest` reads the log.
    """

    pid: int
    address: str
    data: Path
    full_scan_threshold: int
    launched: float
    events: Mapping[str, float]
    process: ServerProcess | None = None
    graphs: list[float] = field(default_factory=list)

    def read_log(self) -> None:
        """Note when graphs were built."""
        for event in filter(None, map(_event, self.process.lines() if self.process else ())):
            if event["event"] == "graph_built":
                self.graphs.append(_time_of(event))


@dataclass(frozen=True, slots=True)
class Rest:
    """How a wait for the background work ended.

    Attributes:
        rested: Whether all graphs were built and the process idle before the time was up.
        seconds: How long it took.
        busy_until: `time.time()` of when the server was last seen busy.
        kinds: Number of categories by their index, at the end.
    """

    rested: bool
    seconds: float
    busy_until: float = 0.0
    kinds: Mapping[str, int] = field(default_factory=dict)


@contextmanager
def served(model: Path, data: Path, flags: Sequence[str], port: int = 0) -> Iterator[Served]:
    """Run the server for as long as the block runs, which begins when the server serves."""
    limit = int(settings_in_force(model, flags)["full_scan_threshold"])
    arguments = [str(ROOT / COMMAND), "serve", "--model", str(model), "--data-dir", str(data)]
    arguments += ["--listen", f"127.0.0.1:{port}", "--log-format", "json", *_MODEL_FLAGS, *flags]
    launched = time.time()
    events: dict[str, float] = {}

    def port_of(line: str) -> str | None:
        if (event := _event(line)) is None:
            return None
        events.setdefault(event["event"], round(_time_of(event) - launched, 4))
        return str(event["port"]) if event["event"] == "serving" else None

    # as installed packages are: compiled already, whatever this process's environment says
    compiled = {"PYTHONDONTWRITEBYTECODE": "", "PYTHONPYCACHEPREFIX": str(data.parent / "bytecode")}
    with serving(arguments, packages_of(ROOT) | compiled) as process:
        found = process.wait_for(port_of, _START_SECONDS)
        yield Served(process.process.pid, f"127.0.0.1:{found}", data, limit, launched, events, process)


def settings_in_force(model: Path, flags: Sequence[str]) -> dict[str, str]:
    """Return the server's settings with these flags, as it prints them."""
    command = [str(ROOT / COMMAND), "show-config", "--model", str(model), *_MODEL_FLAGS, *flags]
    environment = os.environ | packages_of(ROOT)
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=120, check=False)
    if done.returncode:
        raise StartError(f"show-config: {done.stderr.strip()[-300:]}")
    return {name: str(value) for name, value in tomllib.loads(done.stdout).items()}


def backup(data: Path, target: Path) -> None:
    """Copy a catalog that may be being served."""
    command = [str(ROOT / COMMAND), "backup", "--data-dir", str(data), str(target)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300, check=False)
    if done.returncode:
        raise StartError(f"backup: {done.stderr.strip()[-300:]}")


def rest(server: Served, seconds: float) -> Rest:
    """Wait until every category that needs a graph has one and the process was idle, twice in a row."""
    begun = time.perf_counter()
    busy_until = time.time()
    quiet = 0
    while True:
        before = processor_seconds(server.pid)
        time.sleep(_WINDOW)
        busy = (processor_seconds(server.pid) - before) / _WINDOW
        kinds, wanting = _kinds(server)
        quiet = quiet + 1 if busy < _REST and not wanting else 0
        if not quiet:
            busy_until = time.time()
        spent = time.perf_counter() - begun
        if quiet == 2 or spent > seconds:
            server.read_log()
            return Rest(quiet == 2, round(spent, 1), busy_until, kinds)


def _event(line: str) -> Any:
    return json.loads(line) if line.startswith("{") else None


def _time_of(event: Mapping[str, str]) -> float:
    return datetime.fromisoformat(event["timestamp"]).timestamp()


def _kinds(server: Served) -> tuple[dict[str, int], int]:
    """Return the categories by kind, and how many of them need a graph and have none."""
    with grpc.insecure_channel(server.address) as channel:
        ask: Any = channel.unary_unary(messages.CATEGORIES)
        answer: bytes = ask(b"", timeout=30)
    kinds: dict[str, int] = {}
    wanting = 0
    for category in catalog_service_pb2.ListCategoriesResponse.FromString(answer).categories:
        name = catalog_service_pb2.IndexKind.Name(category.index_kind).removeprefix("INDEX_KIND_").lower()
        kinds[name] = kinds.get(name, 0) + 1
        wanting += name != "hnsw" and category.count > server.full_scan_threshold
    return kinds, wanting
