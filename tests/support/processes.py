"""The real commands as processes, as a user starts them."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

SERVE = (sys.executable, "-m", "lookalike_server", "serve")


@dataclass(frozen=True)
class ServerProcess:
    """A server process and its address; `log` has, once the block has ended, what it logged since it serves.

    `metrics_port` is 0 where it has no metrics.
    """

    process: subprocess.Popen[bytes]
    address: str
    log: list[bytes]
    metrics_port: int = 0

    def stop(self, number: int) -> int:
        """Send a signal and return the exit status."""
        self.process.send_signal(number)
        return self.process.wait(60)


@contextmanager
def server_process(
    model: Path, data: Path, *arguments: str, command: tuple[str, ...] = SERVE
) -> Iterator[ServerProcess]:
    """Run `lookalike-server serve` on a free port from when it serves until the block ends.

    It runs the model by ONNX Runtime, unless the arguments say otherwise: to try both takes a fifth of a start.
    """
    process = subprocess.Popen(
        (
            *command,
            *("--model", str(model), "--data-dir", str(data), "--listen", "127.0.0.1:0", "--log-format", "json"),
            *("--lame-duck-seconds", "0", "--provider", "cpu"),
            *arguments,
        ),
        stderr=subprocess.PIPE,
    )
    assert process.stderr is not None
    rest: list[bytes] = []
    reader = threading.Thread(target=rest.extend, args=(process.stderr,))
    try:
        log = []
        metrics_port = 0
        for line in process.stderr:
            log.append(line)
            if b'"event": "metrics_listening"' in line:
                metrics_port = int(json.loads(line)["port"])
            if b'"event": "serving"' in line:
                serving = json.loads(line)
                break
        else:
            raise AssertionError(f"the server ended before it served: {b''.join(log).decode()}")
        # A full pipe would block the server.
        reader.start()
        address = f"127.0.0.1:{serving['port']}" if "port" in serving else serving["listen"]
        yield ServerProcess(process, address, rest, metrics_port)
    finally:
        if process.poll() is None:
            process.kill()
        process.wait()
        if reader.is_alive():
            reader.join()
        process.stderr.close()


async def output_of(*command: str, cwd: Path | None = None, environment: Mapping[str, str] | None = None) -> str:
    """Return what a command prints; it must succeed, and has no proxies but those of `environment`."""
    process = await asyncio.create_subprocess_exec(
        *command,
        cwd=cwd,
        env={key: value for key, value in os.environ.items() if "proxy" not in key.lower()} | dict(environment or {}),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        out, errors = await asyncio.wait_for(process.communicate(), 120)
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    assert process.returncode == 0, errors.decode()
    return out.decode()
