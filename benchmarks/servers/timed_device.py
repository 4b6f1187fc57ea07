"""Our server over a device that only takes time, so that what is measured is how calls get to a GPU and back.

`python -m benchmarks.servers.timed_device MICROSECONDS FLAGS ...` serves like `lookalike-server serve`; each image of a
batch takes the device that long, one batch after the other, and no processor time.
"""

from __future__ import annotations

import asyncio
import os
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

import click
import numpy as np
import uvloop

from benchmarks.environment import ROOT, Model
from benchmarks.processes import ServerProcess, serving
from benchmarks.servers.base import Target
from benchmarks.servers.ours import port_of

GATHER = ("--max-batch-size", "64", "--max-concurrent-batches", "2", "--preferred-batch-size", "64")
"""Flags for a device that is fast: large batches, of which the next is gathered while one runs."""

_PACKAGES = (".", "server", "proto/python", "clients/python", "clients/loadtest")


@contextmanager
def timed_device(
    model: Model, frontends: int, device_us: float, flags: Sequence[str] = GATHER
) -> Iterator[tuple[Target, ServerProcess]]:
    """Run our server over such a device, with so many front ends; by default a batch is gathered while another runs."""
    with tempfile.TemporaryDirectory(prefix="lookalike-bench-") as data:
        arguments = [str(ROOT / ".venv" / "bin" / "python"), "-m", __name__, str(device_us)]
        arguments += [
            "--model",
            str(model.folder),
            "--data-dir",
            data,
            "--listen",
            "127.0.0.1:0",
            "--log-format",
            "json",
        ]
        arguments += ["--frontend-processes", str(frontends), *flags]
        with serving(arguments, {"PYTHONPATH": os.pathsep.join(str(ROOT / folder) for folder in _PACKAGES)}) as server:
            port = server.wait_for(port_of, 180)
            yield Target("lookalike", f"127.0.0.1:{port}", server.process.pid), server


def main() -> None:
    """Serve."""
    # not at the top: the benchmark itself runs where the server is not installed
    from threadpoolctl import threadpool_limits

    from lookalike_server.app import serve
    from lookalike_server.commands.options import settings_options
    from lookalike_server.config import Settings
    from lookalike_server.config_loading import load_settings
    from lookalike_server.domain.inference import Floats, Pixels
    from lookalike_server.domain.protocols import Session
    from lookalike_server.frontend.supervisor import supervise
    from lookalike_server.inference.manifest import ModelFolder
    from lookalike_server.telemetry import configure_log

    class TimedDevice(Session):
        """Sleeps for each image, and returns the same embedding for all."""

        provider = "TimedDevice"
        library = "NumPy"
        precision = "fp32"
        fixed_shapes = False
        gains_from_concurrency = False

        def __init__(self, seconds: float, dim: int) -> None:
            self._seconds = seconds
            self._busy = threading.Lock()
            self._answer = np.ones((1, dim), dtype=np.float32)

        def run(self, images: Pixels) -> Floats:
            """Sleep for these images."""
            with self._busy:
                time.sleep(self._seconds * len(images))
            return np.repeat(self._answer, len(images), axis=0)

    def load(seconds: float, folder: ModelFolder, settings: Settings) -> TimedDevice:
        del settings
        return TimedDevice(seconds, folder.model.dim)

    @click.command()
    @click.argument("microseconds", type=float)
    @settings_options
    def command(microseconds: float, config: Any, **flags: Any) -> None:
        settings = load_settings(flags, config)
        configure_log(settings.log_format, settings.log_level)
        threadpool_limits(limits=1, user_api="blas")
        loader = partial(load, microseconds / 1e6)
        if settings.frontend_processes:
            supervise(settings, loader)
            return
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(serve(settings, loader))

    command(sys.argv[1:])


if __name__ == "__main__":
    main()
