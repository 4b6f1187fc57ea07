"""The peers as servers: each at its defaults, and with the settings that its documentation offers for such a model.

"Defaults" means: batching switched on, batches of up to 16 as ours, and no other setting. The candidates are tried by
the benchmark itself and the best one is the peer "tuned".
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence
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


def peer(name: str, model: Model, runtimes: Sequence[str], precision: str) -> Peer:
    """Return a peer by name.

    Args:
        name: The peer.
        model: The model.
        runtimes: The runtimes that can run the model here; "onnxruntime" is everybody's default.
        precision: What OpenVINO computes in, a key of `openvino_runtime.HINTS`.

    Raises:
        StartError: Its environment cannot be made.
    """
    cores = threads()
    if name == "plain":
        return Peer(
            plain(model, streams=1, stream_threads=0, variant="defaults"),
            [
                plain(model, streams=cores, stream_threads=1, variant="candidate", runtime=runtime, precision=precision)
                for runtime in runtimes
            ],
        )
    # narrow workers side by side, one image each or a few; and one wide worker with less or no waiting
    narrow = {"workers": cores, "threads": 1, "streams": 1}
    wide = {"workers": 1, "threads": 0, "streams": 1}
    settings: list[dict[str, Any]] = []
    for runtime in runtimes:
        # OpenVINO's own way to use all cores is a stream on each
        one = wide if runtime == "onnxruntime" else {"workers": 1, "threads": 1, "streams": cores}
        on = {"runtime": runtime, "precision": precision}
        settings += [
            narrow | on | {"batch": 1, "wait_ms": 0},
            narrow | on | {"batch": 4, "wait_ms": 1},
            one | on | {"batch": 8, "wait_ms": 0},
        ]
    defaults = wide | {"runtime": "onnxruntime", "precision": precision, "batch": _BATCH, "wait_ms": None}
    return Peer(
        _program(name, model, "defaults", defaults), [_program(name, model, "candidate", each) for each in settings]
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
