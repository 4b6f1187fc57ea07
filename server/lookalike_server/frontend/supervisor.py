"""The process that the user starts: reserves the port, forks the others, restarts those that exit, and ends them.

It has no event loop, threads or gRPC of its own, so that forking is safe at any time and takes milliseconds.
"""

from __future__ import annotations

import gc
import math
import os
import signal
import socket
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from multiprocessing.connection import wait
from typing import Any

import structlog

from lookalike_server.config import Settings
from lookalike_server.domain.errors import Code, LookalikeError
from lookalike_server.engine.model_loading import LoadSession
from lookalike_server.frontend.child_process import Child, run_child
from lookalike_server.frontend.control_channel import CONNECT, DRAIN, FAILED, MAX_MESSAGE_BYTES, READY, RELOAD, STOP
from lookalike_server.frontend.engine_process import run_engine
from lookalike_server.frontend.frontend_process import run_frontend
from lookalike_server.frontend.port_reservation import reserve_port
from lookalike_server.frontend.shared_snapshots import SharedSnapshots
from lookalike_server.frontend.watching import SUPERVISOR_LOOK_SECONDS, is_hung, silence_of
from lookalike_server.metrics_assembly import MetricsListener, metrics_listener
from lookalike_server.reloading import Reloads
from lookalike_server.rpc.listening import Address
from lookalike_server.rpc.readiness import Readiness
from lookalike_server.rpc_assembly import listen_address
from lookalike_server.telemetry import configure_log
from lookalike_server.watchdog.beats import ENGINE, SUPERVISOR, Beats
from lookalike_server.watchdog.own_time import OwnTime

STABLE_SECONDS = 10.0
"""How long a process must have been ready for its exit to count as the first in a row."""

MAX_EXITS = 5
FIRST_RESTART_SECONDS = 0.1  # doubled with each exit in a row


def supervise(
    settings: Settings, load_session: LoadSession | None = None, read_settings: Callable[[], Settings] | None = None
) -> None:
    """Serve with frontend processes until SIGTERM or SIGINT; a second signal cuts the calls under way; SIGHUP reloads.

    Args:
        settings: What to serve, and how; `frontend_processes` is at least 1.
        load_session: Loads the model; with ONNX Runtime by default.
        read_settings: Reads the settings again, for those that can be reloaded; without it they stay.

    Raises:
        LookalikeError: FAILED_PRECONDITION when the model, the catalog or the address cannot be used, or a process
            keeps exiting.
    """
    configure_log(settings.log_format, settings.log_level, process="supervisor", pid=os.getpid())
    with reserve_port(listen_address(settings)) as address, metrics_listener(settings, address) as metrics:
        Supervisor(settings, address, load_session, read_settings, metrics).run()
    structlog.get_logger().info("stopped")


class Supervisor:
    """The processes of one server."""

    def __init__(
        self,
        settings: Settings,
        address: Address,
        load_session: LoadSession | None,
        read_settings: Callable[[], Settings] | None,
        metrics: MetricsListener | None = None,
    ) -> None:
        self._settings = settings
        self._address = address
        self._read_settings = read_settings
        self._reloads = Reloads()
        if read_settings is not None:
            self._reloads.add("log_level", self._reload_log_level)
        slots = ENGINE + 1 + settings.frontend_processes
        self._beats = beats = Beats(slots + 1)
        self._own_time = OwnTime(SUPERVISOR_LOOK_SECONDS)
        snapshots = None if metrics is None else SharedSnapshots(slots)
        self._engine = Child("engine", partial(run_engine, settings, load_session, beats, snapshots), ENGINE)
        self._frontends = [
            Child(f"frontend {slot - ENGINE}", partial(run_frontend, settings, address, beats, slot, snapshots), slot)
            for slot in range(ENGINE + 1, slots)
        ]
        self._metrics: Child | None = None
        self._metrics_sockets: Sequence[socket.socket] = ()
        if metrics is not None and snapshots is not None:
            # Imported here, because most servers do not need them, and before any process is forked, for all of them.
            from lookalike_server.frontend import publishing  # noqa: F401
            from lookalike_server.frontend.metrics_process import run_metrics
            from lookalike_server.metrics.metrics import Metrics  # noqa: F401

            serve = partial(run_metrics, metrics, beats, snapshots, [each.slot for each in self._frontends])
            self._metrics, self._metrics_sockets = Child("metrics", serve, slots), metrics.sockets
        self._children = (self._engine, *self._frontends, *filter(None, [self._metrics]))
        self._signals, self._wakeup = socket.socketpair()
        self._stopping = False
        self._serving = False
        self._failure: LookalikeError | None = None

    def run(self) -> None:
        """Start all processes, and return once all have ended.

        Raises:
            LookalikeError: As `supervise`.
        """
        self._signals.setblocking(False)
        self._wakeup.setblocking(False)
        previous = signal.set_wakeup_fd(self._wakeup.fileno())
        handlers = {number: signal.signal(number, _ignore) for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)}
        gc.collect()
        self._beats.start(SUPERVISOR, os.getpid())
        gc.freeze()  # a collection would write to, and so copy, the pages that the children share
        try:
            while not self._stopping or any(child.pid for child in self._children):
                self._start_due()
                self._wait(min(SUPERVISOR_LOOK_SECONDS, self._seconds_to_next_start()))
                self._look()
        finally:
            for number, handler in handlers.items():
                signal.signal(number, handler)
            signal.set_wakeup_fd(previous)
        if self._failure is not None:
            raise self._failure

    def _start_due(self) -> None:
        for child in self._children:
            if not self._stopping and not child.pid and child.start_at <= time.monotonic():
                self._start(child)

    def _seconds_to_next_start(self) -> float:
        """Return the seconds until a process is to be started; infinity where none is."""
        due = [child.start_at for child in self._children if not child.pid and not self._stopping]
        return max(0.0, min(due) - time.monotonic()) if due else math.inf

    def _look(self) -> None:
        """Beat, and kill the processes that hang, which is all that a stopped one still obeys."""
        self._beats.beat(SUPERVISOR)
        step = self._own_time.step()
        if not self._settings.watchdog:
            return
        for child in self._children:
            if child.silence is None or child.killed:
                continue
            seconds = child.silence.look(step)
            if is_hung(seconds, child.pid, loading=child is self._engine and not child.ready_at):
                child.killed = True
                structlog.get_logger().error(
                    "process_hangs", child=child.name, child_pid=child.pid, silent_seconds=round(seconds, 1)
                )
                os.kill(child.pid, signal.SIGKILL)  # not reaped yet, so the pid is still its own

    def _wait(self, seconds: float) -> None:
        """Wait for signals and reports, and handle them."""
        channels: dict[Any, Child] = {child.channel: child for child in self._children if child.channel is not None}
        for ready in wait([self._signals, *channels], seconds):
            if ready is self._signals:
                for number in self._signals.recv(64):
                    self._handle_signal(number)
            else:
                self._receive(channels[ready])

    def _handle_signal(self, number: int) -> None:
        if number == signal.SIGHUP:
            self._reloads.run()
            for child in self._children:
                self._send(child, RELOAD)
        elif self._stopping:
            self._stop(STOP)
        else:
            lame_duck = self._settings.lame_duck_seconds if number == signal.SIGTERM else 0.0
            structlog.get_logger().info("lame_duck", seconds=lame_duck)
            self._stop(f"{DRAIN.decode()} {lame_duck}".encode())

    def _reload_log_level(self) -> None:
        assert self._read_settings is not None  # noqa: S101 - or it is not called
        level = self._read_settings().log_level
        configure_log(self._settings.log_format, level, process="supervisor", pid=os.getpid())
        # Processes that are started later begin with it.
        self._settings = self._settings.model_copy(update={"log_level": level})

    def _receive(self, child: Child) -> None:
        assert child.channel is not None  # noqa: S101 - it is ready to be read
        try:
            status, _, text = child.channel.recv(MAX_MESSAGE_BYTES).partition(b" ")
        except ConnectionError:
            status, text = b"", b""
        if status == READY:
            child.ready_at = time.monotonic()
            self._log_serving()
        elif status == FAILED:
            child.error = text.decode()
        else:
            self._handle_exit(child)

    def _start(self, child: Child) -> None:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._beats.start(child.slot, 0)
        pid = os.fork()
        if pid == 0:
            channels = [other.channel for other in self._children if other.channel is not None]
            inherited = [ours, self._signals, self._wakeup, *channels]
            if child is not self._metrics:
                inherited += self._metrics_sockets
            run_child(self._settings, child, theirs, inherited, self._beats, self._read_settings)
        theirs.close()
        child.pid, child.channel, child.ready_at, child.error = pid, ours, 0.0, ""
        self._beats.start(child.slot, pid)
        child.silence, child.killed = silence_of(self._beats, child.slot), False
        structlog.get_logger().info("process_started", child=child.name, child_pid=pid)
        for frontend in self._frontends:
            if child in (self._engine, frontend):
                self._connect(frontend)

    def _connect(self, frontend: Child) -> None:
        """Pass a new connection's ends to a frontend and the engine, where both are running."""
        if frontend.channel is None or self._engine.channel is None:
            return
        frontend_end, engine_end = socket.socketpair()
        with frontend_end, engine_end:
            for channel, end in ((frontend.channel, frontend_end), (self._engine.channel, engine_end)):
                with suppress(OSError):  # it has died, and `_wait` is about to notice
                    socket.send_fds(channel, [CONNECT], [end.fileno()])

    def _log_serving(self) -> None:
        """Log when every frontend is ready, and again after one was not."""
        were_serving, self._serving = self._serving, all(frontend.ready_at for frontend in self._frontends)
        if self._serving and not were_serving:
            structlog.get_logger().info(
                "serving",
                **self._address.log_fields(self._address.port),
                listen=self._settings.listen,
                frontend_processes=len(self._frontends),
            )

    def _handle_exit(self, child: Child) -> None:
        """Reap a process, and plan its restart, the end of the others, or failure."""
        assert child.channel is not None  # noqa: S101 - it was just read
        child.channel.close()
        status = os.waitstatus_to_exitcode(os.waitpid(child.pid, 0)[1])
        pid, child.pid, child.channel, child.silence = child.pid, 0, None, None
        self._beats.start(child.slot, 0)
        stable = child.ready_at and time.monotonic() - child.ready_at > STABLE_SECONDS
        first_start = not child.ready_at and not child.exits
        for lost in self._frontends if child is self._engine else [child]:
            lost.ready_at = 0.0
        self._log_serving()
        if self._stopping:
            self._end_the_rest()
            return
        child.exits = 1 if stable else child.exits + 1
        child.start_at = time.monotonic() + FIRST_RESTART_SECONDS * 2 ** (child.exits - 1)
        how = f"by signal {-status}" if status < 0 else f"with status {status}"
        structlog.get_logger().error("process_exited", child=child.name, child_pid=pid, how=how, exits=child.exits)
        if child.error and first_start:
            self._fail(child.error)
        elif child is self._metrics:
            child.exits = min(child.exits, MAX_EXITS)  # the server serves without it, and so it is tried for good
        elif child.exits == MAX_EXITS:
            why = child.error or "the log above has the reason, if the process could log one"
            self._fail(f"the {child.name} process exited {MAX_EXITS} times in a row, the last time {how}; {why}")

    def _fail(self, message: str) -> None:
        self._failure = LookalikeError(Code.FAILED_PRECONDITION, message)
        self._stop(STOP)

    def _stop(self, command: bytes) -> None:
        """End the frontends, and the others after them."""
        if not self._stopping:
            structlog.get_logger().info("draining", seconds=self._settings.shutdown_grace_seconds)
        self._stopping = True
        self._beats.report_readiness(SUPERVISOR, Readiness.DRAINING)
        for frontend in self._frontends:
            self._send(frontend, command)
        self._end_the_rest()

    def _end_the_rest(self) -> None:
        """End the engine once no frontend needs it, and the process of the metrics after it."""
        if any(frontend.pid for frontend in self._frontends):
            return
        self._send(self._engine, DRAIN)
        if self._metrics and not self._engine.pid:
            self._send(self._metrics, DRAIN)

    @staticmethod
    def _send(child: Child, command: bytes) -> None:
        if child.channel is not None:
            with suppress(OSError):  # it has died, and `_wait` is about to notice
                child.channel.send(command)


def _ignore(number: int, frame: object) -> None:
    """Do nothing, because the wake-up socket has the signal's number."""
    del number, frame
