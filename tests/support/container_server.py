"""A server in a container, as an operator would run it: read-only, as a user, without capabilities."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from support.containers import IMAGE, Podman, limits
from support.paths import ROOT


@dataclass(frozen=True)
class ContainerServer:
    """A container and where it listens."""

    podman: Podman
    name: str
    address: str

    def start(self) -> float:
        """Start the container, and return the seconds until it serves."""
        began = time.monotonic()
        before = len(self.log("serving"))
        self.podman("start", self.name)
        logs = self.podman.popen("logs", "--follow", self.name)
        try:
            assert logs.stdout is not None
            served = 0
            for line in logs.stdout:
                served += b'"event": "serving"' in line
                if served > before:
                    return time.monotonic() - began
            raise AssertionError(f"{self.name} ended before it served: {self.podman('logs', self.name).stdout}")
        finally:
            logs.kill()
            logs.communicate()

    def log(self, event: str) -> list[dict[str, Any]]:
        """Return what was logged of an event."""
        done = self.podman("logs", self.name)
        lines = [json.loads(line) for line in (done.stdout + done.stderr).splitlines() if line.startswith("{")]
        return [line for line in lines if line["event"] == event]

    def run(self, *command: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Run a command inside."""
        return self.podman("exec", self.name, *command, check=check)

    def exit_status(self) -> int:
        """Return the exit status of the server."""
        return int(self.podman.inspect(self.name)["State"]["ExitCode"])


@contextmanager
def container_server(
    podman: Podman, name: str, model: Path, *options: str, listen: str = "", **settings: str
) -> Iterator[ContainerServer]:
    """Create a container and its volume; both are removed in the end."""
    # An address of its own, on which the port is free.
    address = listen or f"127.{'.'.join(str(2 + byte % 250) for byte in os.urandom(3))}:50051"
    environment = {"listen": address, "shutdown_grace_seconds": "600"} | settings
    podman(
        *("create", "--name", name, "--network", "host", "--read-only", "--cap-drop", "all", *limits()),
        *("--security-opt", "no-new-privileges", "--volume", f"{name}:/data", "--volume", f"{model}:/model:ro"),
        *(part for key, value in environment.items() for part in ("--env", f"LOOKALIKE_{key.upper()}={value}")),
        *options,
        IMAGE,
    )
    try:
        yield ContainerServer(podman, name, address)
    finally:
        podman("rm", "--force", "--time", "0", "--volumes", name, check=False)
        podman("volume", "rm", "--force", name, check=False)


def lookalike(server: ContainerServer, *arguments: str | Path) -> str:
    """Return what the `lookalike` command prints of this server."""
    command = (Path(sys.executable).with_name("lookalike"), "--server", server.address, *arguments)
    done = subprocess.run(
        list(map(str, command)),
        cwd=ROOT,
        env=dict(os.environ) | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout
