"""`lookalike-server serve` with a model that a test can hold or break: run with `--lock FILE` and the usual flags.

While FILE is locked, each run of the model logs "run_held" and waits. Where FILE.broken exists, the process exits when
it loads the model. Each run takes at least `--seconds`. SIGUSR1 holds the event loop of the process that gets it for
`--stall` seconds. With `--frontend-processes 0` all is one process. With `--gpu` the model runs on a fake GPU instead,
which logs "copied_out" for each batch, with the faults until then. Where FILE.breaks exists, it is removed and the
GPU's next run ends with an error of CUDA that the process cannot recover from.
"""

from __future__ import annotations

import asyncio
import fcntl
import os
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import click
import structlog
import uvloop

from lookalike_server.app import serve
from lookalike_server.commands.options import settings_options
from lookalike_server.config import Settings
from lookalike_server.config_loading import load_settings
from lookalike_server.domain.errors import LookalikeError
from lookalike_server.domain.inference import Floats, Pixels
from lookalike_server.domain.protocols import Session
from lookalike_server.engine.model_loading import load_onnx
from lookalike_server.frontend.supervisor import supervise
from lookalike_server.inference.manifest import ModelFolder
from lookalike_server.telemetry import configure_log
from support.fake_device import FakeDevice
from support.fake_device import load as load_on_fake_device
from support.fakes import SlowSession, Wrapped


class LockedSession(Wrapped):
    """Runs another session while the file is not locked."""

    def __init__(self, session: Session, file: Path) -> None:
        super().__init__(session)
        self._file = file

    def run(self, images: Pixels) -> Floats:
        """Wait for the lock, then run."""
        with self._file.open("rb") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError:
                structlog.get_logger().info("run_held", images=len(images))
                fcntl.flock(file, fcntl.LOCK_SH)
        return self._session.run(images)


def load(file: Path, seconds: float, folder: ModelFolder, settings: Settings) -> LockedSession:
    """Load the real model behind the lock."""
    if file.with_suffix(".broken").exists():
        os._exit(7)
    return LockedSession(SlowSession(load_onnx(folder, settings), seconds), file)


def stall_loop(seconds: float) -> None:
    """Hold the event loop, as a call that blocks would."""
    secret = "the value of a local"  # that no log may have
    time.sleep(seconds)
    del secret


class LoggedDevice(FakeDevice):
    """A fake GPU that logs every batch, and breaks where the file says so."""

    def __init__(self, file: Path) -> None:
        super().__init__()
        self._breaks = file.with_suffix(".breaks")

    @contextmanager
    def operation(self, operation: str, slot: int, rows: int) -> Iterator[None]:
        """Log what is copied out."""
        if operation == "run" and self._breaks.exists():
            self._breaks.unlink()
            self.breaks_at = "run"
        with super().operation(operation, slot, rows):
            yield
        if operation == "copy out":
            structlog.get_logger().info("copied_out", rows=rows, faults=self.faults)


def load_on_gpu(file: Path, folder: ModelFolder, settings: Settings) -> Session:
    """Load the real model onto a fake GPU."""
    return load_on_fake_device(folder, settings, LoggedDevice(file))


@click.command()
@settings_options
@click.option("--lock", type=click.Path(path_type=Path), required=True)
@click.option("--seconds", default=0.0)
@click.option("--stall", default=0.0)
@click.option("--gpu", is_flag=True)
def main(config: Path | None, lock: Path, seconds: float, stall: float, gpu: bool, **flags: Any) -> None:
    """Serve."""
    signal.signal(signal.SIGUSR1, lambda *_: stall_loop(stall))
    load_session = partial(load_on_gpu, lock) if gpu else partial(load, lock, seconds)
    try:
        settings = load_settings(flags, config)
        if settings.frontend_processes:
            supervise(settings, load_session)
            return
        configure_log(settings.log_format, settings.log_level)
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(serve(settings, load_session))
    except LookalikeError as error:
        click.echo(f"lookalike-server: {error}", err=True)
        sys.exit(1)


if __name__ == "__main__":
    main()
