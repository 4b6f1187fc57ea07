"""A forked process: what the supervisor knows of it, and what it does until it exits."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import sys
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from functools import partial
from typing import Any, NoReturn

import structlog
import uvloop

from lookalike_server.config import Settings
from lookalike_server.domain.errors import LookalikeError
from lookalike_server.frontend.control_channel import FAILED, ControlChannel
from lookalike_server.telemetry import configure_log
from lookalike_server.watchdog.beats import Beats
from lookalike_server.watchdog.silence import Silence
from lookalike_server.watchdog.thread import Watchdog

Main = Callable[[ControlChannel, Watchdog], Coroutine[Any, Any, None]]


@dataclass(eq=False, slots=True)
class Child:
    """One of the processes, across its restarts.

    Attributes:
        name: "engine", "frontend 1", "frontend 2", ...
        main: What the process runs.
        slot: Where it beats.
        pid: Of the process; 0 while there is none.
        channel: The supervisor's end of its control channel.
        ready_at: When it reported that it is ready; 0.0 before.
        exits: Exits in a row, without a stable process in between.
        start_at: When to start the next process.
        error: Why the process could not start, in words for the user.
        silence: Judges its beats; None while there is no process.
        killed: Whether it was killed because it hung.
    """

    name: str
    main: Main
    slot: int
    pid: int = 0
    channel: socket.socket | None = None
    ready_at: float = 0.0
    exits: int = 0
    start_at: float = 0.0
    error: str = ""
    silence: Silence | None = None
    killed: bool = False


def run_child(
    settings: Settings,
    child: Child,
    channel: socket.socket,
    inherited: list[socket.socket],
    beats: Beats,
    read_settings: Callable[[], Settings] | None = None,
) -> NoReturn:
    """Run a forked process to its end; never returns into the supervisor's code."""
    status = 1
    try:
        # Ctrl-C reaches every process of a terminal, and some service managers signal them all.
        signal.set_wakeup_fd(-1)
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, signal.SIG_IGN)
        for other in inherited:  # or a child would not notice when the supervisor dies
            other.close()
        configure = partial(configure_log, settings.log_format, process=child.name, pid=os.getpid())
        configure(settings.log_level)
        control = ControlChannel(channel)
        if read_settings is not None:
            control.reloads.add("log_level", lambda: configure(read_settings().log_level))
        status = _run_main(child, control, beats)
    finally:
        sys.stderr.flush()
        os._exit(status)


def _run_main(child: Child, control: ControlChannel, beats: Beats) -> int:
    """Run a process's event loop and return its exit status."""
    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(_run_watched(child, control, beats))
    except LookalikeError as error:
        control.report(FAILED, str(error))
        return 1
    except Exception as error:  # noqa: BLE001 - nothing above could log it
        structlog.get_logger().error("process_failed", exc_info=error)
        return 1
    return 0


async def _run_watched(child: Child, control: ControlChannel, beats: Beats) -> None:
    """Run a process's coroutine, and beat from its event loop to the end of that."""
    with Watchdog(partial(beats.beat, child.slot)) as watchdog:
        await child.main(control, watchdog)
