"""Our server, as `make run` starts it, on an empty catalog."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from benchmarks.environment import ROOT, Model
from benchmarks.processes import serving
from benchmarks.servers.base import ServerVariant, Target


def ours(model: Model, flags: tuple[str, ...] = (), checkout: Path = ROOT, variant: str = "") -> ServerVariant:
    """Return our server with these flags, none for its defaults.

    Args:
        model: The model.
        flags: Its flags.
        checkout: Whose `.venv` has it, with `make setup` done there.
        variant: What to call it beside another.
    """
    command = checkout.resolve() / ".venv" / "bin" / "lookalike-server"

    @contextmanager
    def start() -> Iterator[Target]:
        with tempfile.TemporaryDirectory(prefix="lookalike-bench-") as data:
            arguments = [str(command), "serve", "--model", str(model.folder), "--data-dir", data]
            arguments += ["--listen", "127.0.0.1:0", "--log-format", "json", *flags]
            with serving(arguments, packages_of(checkout)) as server:
                port = server.wait_for(port_of, 180)
                yield Target("lookalike", f"127.0.0.1:{port}", server.process.pid)

    return ServerVariant("ours", variant, start, " ".join(flags) or "defaults")


def packages_of(checkout: Path) -> dict[str, str]:
    """Return the environment in which a checkout's server is its own, whatever its `.venv` was made for."""
    return {"PYTHONPATH": os.pathsep.join(str(checkout.resolve() / folder) for folder in ("server", "proto/python"))}


def port_of(line: str) -> str | None:
    """Return the port where a line of the log says that the server serves."""
    if not line.startswith("{"):
        return None
    event = json.loads(line)
    return str(event["port"]) if event.get("event") == "serving" else None
