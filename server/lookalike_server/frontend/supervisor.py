"""The process that the user starts: holds the port, forks the others, replaces those that die, and ends them in order.

It has no event loop, no thread and no gRPC of its own, so that forking is safe at any time and costs milliseconds.
"""

from __future__ import annotations

import asyncio
import gc
import os
import signal
import socket
import sys
import time
from collections.abc import Callable, Coroutine
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from multiprocessing.connection import wait
from typing import Any, NoReturn

import structlog
import uvloop

from lookalike_server.config import Settings
from lookalike_server.domain.errors import Code, LookalikeError
from lookalike_server.engine.model_loading import LoadSession
from lookalike_server.frontend.control_channel import CONNECT, DRAIN, MOST, NOW, OPEN, REJECTED, ControlChannel
from lookalike_server.frontend.engine_process import answer_workers
from lookalike_server.frontend.frontend_process import take_calls
from lookalike_server.frontend.port_reservation import held
from lookalike_server.telemetry import configure_log

STEADY_SECONDS = 10.0
"""A process that was open for so long is well: if it dies, that is its first time."""

MOST_DEATHS = 5
FIRST_PAUSE = 0.1  # seconds before a dead process is replaced, doubled with each death

Act = Callable[[ControlChannel], Coroutine[Any, Any, None]]


@dataclass(eq=False, slots=True)
class Child:
    """A place and the process in it, if there is one.

    Attributes:
        name: The place's.
        act: What the process does.
        pid: Of the process; 0 while there is none.
        line: Our end of its control line.
        opened: When it said that it is open; 0.0 before.
        deaths: How many in this place died one after the other without having been well.
        due: When to start the next one.
        rejection: Why the process could not start, in words for the user.
    """

    name: str
    act: Act
    pid: int = 0
    line: socket.socket | None = None
    opened: float = 0.0
    deaths: int = 0
    due: float = 0.0
    rejection: str = ""


def supervise(settings: Settings, load_session: LoadSession | None = None) -> None:
    """Serve with `settings.frontend_processes` workers until SIGTERM or SIGINT; a second signal does not wait for calls under way.

    Args:
        settings: What to serve, and how.
        load_session: Loads the model; ONNX Runtime without it.

    Raises:
        LookalikeError: FAILED_PRECONDITION when the model, the catalog or the address cannot be had, or processes die
            again and again.
    """
    configure_log(settings.log_format, settings.log_level, process="supervisor", pid=os.getpid())
    with held(settings.listen) as address:
        Supervisor(settings, address, load_session).run()
    structlog.get_logger().info("stopped")


class Supervisor:
    """The processes of one server."""

    def __init__(self, settings: Settings, address: str, load_session: LoadSession | None) -> None:
        self._settings = settings
        self._address = address
        self._backend = Child("model", partial(answer_workers, settings, load_session))
        self._workers = [
            Child(f"worker {number}", partial(take_calls, settings, address))
            for number in range(1, settings.frontend_processes + 1)
        ]
        self._all = (self._backend, *self._workers)
        self._signals, self._woken = socket.socketpair()
        self._stopping = False
        self._serving = False
        self._failure: LookalikeError | None = None

    def run(self) -> None:
        """Start all, and return once all have ended."""
        self._signals.setblocking(False)
        self._woken.setblocking(False)
        before = signal.set_wakeup_fd(self._woken.fileno())
        handlers = {number: signal.signal(number, _note) for number in (signal.SIGTERM, signal.SIGINT)}
        gc.collect()
        gc.freeze()  # collecting would touch, and so copy, the pages that the children share
        try:
            while not self._stopping or any(child.pid for child in self._all):
                self._start_due()
                self._hear(self._pause())
        finally:
            for number, handler in handlers.items():
                signal.signal(number, handler)
            signal.set_wakeup_fd(before)
        if self._failure is not None:
            raise self._failure

    def _start_due(self) -> None:
        for child in self._all:
            if not self._stopping and not child.pid and child.due <= time.monotonic():
                self._start(child)

    def _pause(self) -> float | None:
        """Seconds until there is something to do unasked; None for never."""
        due = [child.due for child in self._all if not child.pid and not self._stopping]
        return max(0.0, min(due) - time.monotonic()) if due else None

    def _hear(self, pause: float | None) -> None:
        lines: dict[Any, Child] = {child.line: child for child in self._all if child.line is not None}
        for ready in wait([self._signals, *lines], pause):
            if ready is self._signals:
                for _ in self._signals.recv(64):
                    self._stop(NOW if self._stopping else DRAIN)
            else:
                self._hear_child(lines[ready])

    def _hear_child(self, child: Child) -> None:
        assert child.line is not None  # noqa: S101 - it was just heard
        try:
            word, _, text = child.line.recv(MOST).partition(b" ")
        except ConnectionError:
            word, text = b"", b""
        if word == OPEN:
            child.opened = time.monotonic()
            self._note_serving()
        elif word == REJECTED:
            child.rejection = text.decode()
        else:
            self._bury(child)

    def _start(self, child: Child) -> None:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        pid = os.fork()
        if pid == 0:
            _live(self._settings, child, theirs, [ours, self._signals, self._woken, *self._lines()])
        theirs.close()
        child.pid, child.line, child.opened, child.rejection = pid, ours, 0.0, ""
        structlog.get_logger().info("process_started", child=child.name, child_pid=pid)
        for worker in self._workers if child is self._backend else [child]:
            self._connect(worker)

    def _lines(self) -> list[socket.socket]:
        return [child.line for child in self._all if child.line is not None]

    def _connect(self, worker: Child) -> None:
        """Hand a worker and the process with the model the two ends of a new connection, where both are there."""
        if worker.line is None or self._backend.line is None:
            return
        one, other = socket.socketpair()
        with one, other:
            for line, end in ((worker.line, one), (self._backend.line, other)):
                with suppress(OSError):  # dead, and about to be heard of
                    socket.send_fds(line, [CONNECT], [end.fileno()])

    def _note_serving(self) -> None:
        """Log once when every worker is open, and again after one was not."""
        were, self._serving = self._serving, all(worker.opened for worker in self._workers)
        if self._serving and not were:
            structlog.get_logger().info(
                "serving",
                port=int(self._address.rpartition(":")[2]),
                listen=self._settings.listen,
                workers=len(self._workers),
            )

    def _bury(self, child: Child) -> None:
        """Take note of a process's end, and see to the next one."""
        assert child.line is not None  # noqa: S101 - it was just heard
        child.line.close()
        status = os.waitstatus_to_exitcode(os.waitpid(child.pid, 0)[1])
        pid, child.pid, child.line = child.pid, 0, None
        well = child.opened and time.monotonic() - child.opened > STEADY_SECONDS
        new = not child.opened and not child.deaths
        for lost in self._workers if child is self._backend else [child]:
            lost.opened = 0.0
        self._note_serving()
        if self._stopping:
            if not any(worker.pid for worker in self._workers):
                self._tell(self._backend, DRAIN)
            return
        child.deaths = 1 if well else child.deaths + 1
        child.due = time.monotonic() + FIRST_PAUSE * 2 ** (child.deaths - 1)
        how = f"by signal {-status}" if status < 0 else f"with status {status}"
        structlog.get_logger().error("process_exited", child=child.name, child_pid=pid, how=how, deaths=child.deaths)
        if child.rejection and new:
            self._fail(child.rejection)
        elif child.deaths == MOST_DEATHS:
            why = child.rejection or "the log above has the reason, if it had time to write one"
            self._fail(f"the {child.name} process ended {MOST_DEATHS} times in a row, at last {how}; {why}")

    def _fail(self, message: str) -> None:
        self._failure = LookalikeError(Code.FAILED_PRECONDITION, message)
        self._stop(NOW)

    def _stop(self, word: bytes) -> None:
        """Have the workers finish, and then the process with the model."""
        if not self._stopping:
            structlog.get_logger().info("draining", seconds=self._settings.shutdown_grace_seconds)
        self._stopping = True
        for worker in self._workers:
            self._tell(worker, word)
        if not any(worker.pid for worker in self._workers):
            self._tell(self._backend, DRAIN)

    @staticmethod
    def _tell(child: Child, word: bytes) -> None:
        if child.line is not None:
            with suppress(OSError):  # dead, and about to be heard of
                child.line.send(word)


def _live(settings: Settings, child: Child, line: socket.socket, others: list[socket.socket]) -> NoReturn:
    """Be the child: never returns to what the parent was doing."""
    status = 1
    try:
        # Ctrl-C reaches every process of a terminal, and some service managers signal them all.
        signal.set_wakeup_fd(-1)
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, signal.SIG_IGN)
        for other in others:  # or a child would not notice when the supervisor is gone
            other.close()
        configure_log(settings.log_format, settings.log_level, process=child.name, pid=os.getpid())
        status = _act(child.act, line)
    finally:
        sys.stderr.flush()
        os._exit(status)


def _act(act: Act, line: socket.socket) -> int:
    control = ControlChannel(line)
    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(act(control))
    except LookalikeError as error:
        control.tell(REJECTED, str(error))
        return 1
    except Exception as error:  # noqa: BLE001 - the last who can say what it was
        structlog.get_logger().error("process_failed", exc_info=error)
        return 1
    return 0


def _note(number: int, frame: object) -> None:
    """Nothing: the wake-up socket has the signal's number."""
    del number, frame
