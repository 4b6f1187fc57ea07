"""The peers as servers: each at its defaults, and with the settings that its documentation offers for such a model.

"Defaults" means: batching switched on, batches of up to 16 as ours, and no other setting. The candidates are tried by
the benchmark itself and the best one is the peer "tuned".
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from benchmarks.environment import ROOT, Model, threads
from benchmarks.peers.environments import python_of
from benchmarks.processes import free_port, serving
from benchmarks.servers.base import ServerVariant, Target
from benchmarks.servers.small_servers import plain

_START_SECONDS = 180
_READY = "benchmark: ready"
_PROTOCOLS = {"mosec": "http", "pytriton": "kserve", "ray": "lookalike"}
_BATCH = 16


@dataclass(frozen=True, slots=True)
class Peer:
    """One peer's variants."""

    defaults: ServerVariant
    candidates: list[ServerVariant]


def peer(name: str, model: Model) -> Peer:
    """Return a peer by name.

    Raises:
        StartError: Its environment cannot be made.
    """
    cores = threads()
    if name == "plain":
        return Peer(
            plain(model, sessions=1, session_threads=0, variant="defaults"),
            [plain(model, sessions=cores, session_threads=1, variant="candidate")],
        )
    # narrow workers side by side, one image each or a few; and one wide worker with less or no waiting
    narrow = {"workers": cores, "threads": 1}
    wide = {"workers": 1, "threads": 0}
    settings: list[dict[str, Any]] = [
        narrow | {"batch": 1, "wait_ms": 0},
        narrow | {"batch": 4, "wait_ms": 1},
        wide | {"batch": 8, "wait_ms": 0},
    ]
    return Peer(
        _program(name, model, "defaults", wide | {"batch": _BATCH, "wait_ms": None}),
        [_program(name, model, "candidate", each) for each in settings],
    )


def _program(name: str, model: Model, variant: str, settings: dict[str, Any]) -> ServerVariant:
    python = python_of(name, distribution=name == "pytriton")

    @contextmanager
    def start() -> Iterator[Target]:
        port = free_port()
        arguments = json.dumps({"model": str(model.folder), "port": port} | settings)
        environment = {
            "PYTHONPATH": os.pathsep.join((str(ROOT), str(ROOT / "proto" / "python"))),
            "PATH": os.pathsep.join((str(python.parent), os.environ.get("PATH", ""))),
            "PYTHONUNBUFFERED": "1",
        }
        command = [str(python), "-m", f"benchmarks.peers.{name}.serve", arguments]
        with serving(command, environment) as server:
            # anywhere in a line: what a peer itself writes may come in between
            server.wait_for(lambda line: line if _READY in line else None, _START_SECONDS)
            yield Target(_PROTOCOLS[name], f"127.0.0.1:{port}")

    parts = (f"{key}={value}" for key, value in settings.items() if value is not None)
    return ServerVariant(name, variant, start, ", ".join(parts))
