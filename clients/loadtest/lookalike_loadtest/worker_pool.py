"""The worker processes, as the load test sees them: started, configured, given phases, and missed when they die."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from types import TracebackType
from typing import Self

from lookalike_loadtest.plan import Phase
from lookalike_loadtest.worker_messages import (
    Begin,
    Configure,
    Connected,
    NotConnected,
    Stop,
    WorkerConfig,
    WorkerUpdate,
)

_LEAD_S = 0.3  # between an order and its first call, so that all workers have it by then
_LEAD_ALONE_S = 0.02
_TICK_S = 0.1
_CONNECT_WITHIN_S = 60.0
_SILENT_S = 20.0  # longer than any phase's end should take
_END_WITHIN_S = 5.0


class WorkerPoolError(Exception):
    """The workers cannot send; `str()` of it is written for the user."""


@dataclass(frozen=True, slots=True)
class LostWorker:
    """A worker process that died.

    Attributes:
        number: Which, counted from 1.
        how: How it ended.
        outstanding: Calls that it had under way when it was last heard of; what became of them is not known.
    """

    number: int
    how: str
    outstanding: int


class Worker:
    """One worker process, number `number` counted from 1."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.outstanding = 0
        ours, theirs = socket.socketpair()
        with theirs:
            # a session of its own: Ctrl-C in the terminal reaches the load test alone
            self.process = subprocess.Popen(
                [sys.executable, "-m", "lookalike_loadtest.load_worker", str(theirs.fileno())],
                pass_fds=(theirs.fileno(),),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                start_new_session=True,
            )
        self.connection = Connection(ours.detach())

    def end(self) -> None:
        """Let it end, which it does as soon as nobody listens to it."""
        self.connection.close()
        try:
            self.process.wait(_END_WITHIN_S)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()

    def find_out(self) -> LostWorker:
        """Find out how it ended."""
        try:
            status = self.process.wait(_END_WITHIN_S)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            return LostWorker(self.number, "was silent and had to be killed", self.outstanding)
        how = f"was ended by {signal.Signals(-status).name}" if status < 0 else f"ended with exit code {status}"
        return LostWorker(self.number, how, self.outstanding)


class WorkerPool:
    """Worker processes that send load together; a context manager.

    Raises:
        WorkerPoolError: They cannot be started.
    """

    def __init__(self, processes: int) -> None:
        self.lost: list[LostWorker] = []
        self._workers: list[Worker] = []
        try:
            for index in range(processes):
                self._workers.append(Worker(index + 1))
        except OSError as error:
            self._end()
            raise WorkerPoolError(f"the worker processes cannot be started: {error}") from error

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end()

    @property
    def pids(self) -> list[int]:
        """The processes that are alive."""
        return [worker.process.pid for worker in self._workers]

    @property
    def outstanding(self) -> int:
        """Calls under way when the workers were last heard of."""
        return sum(worker.outstanding for worker in self._workers)

    def connect(self, config: WorkerConfig) -> None:
        """Have all workers connect to the server and take its requests; may be repeated with another one.

        Raises:
            WorkerPoolError: One of them does not reach the server, or died.
        """
        waiting, until = list(self._workers), time.monotonic() + _CONNECT_WITHIN_S
        for index, worker in enumerate(waiting):
            self._tell(worker, Configure(config, index, len(waiting)))
        while waiting:
            for worker, message in self._listen(waiting):
                if isinstance(message, Connected):
                    waiting.remove(worker)
                elif isinstance(message, NotConnected):
                    raise WorkerPoolError(message.reason)
                else:
                    raise WorkerPoolError(f"worker process {worker.number} {self.lost[-1].how} as it was started")
            if time.monotonic() > until:
                raise WorkerPoolError(f"the worker processes did not connect within {_CONNECT_WITHIN_S:.0f} s")

    def run(
        self, phase: Phase, add: Callable[[int, WorkerUpdate], None], until: Callable[[], float | None] = lambda: None
    ) -> None:
        """Run a phase; return when all answers are in, or every worker is lost.

        Args:
            phase: What to do.
            add: Takes the updates of each worker, with its number.
            until: Called several times a second; returns how many seconds to wait for answers once no more calls are to
                be sent, else None.
        """
        lead = _LEAD_S if len(self._workers) > 1 else _LEAD_ALONE_S
        begins = time.monotonic() + lead + phase.warmup
        silent_after = begins + phase.seconds + 2 * phase.deadline + _SILENT_S
        busy = list(self._workers)
        for worker in busy:
            self._tell(worker, Begin(phase, begins))
        stopped = False
        while busy:
            for worker, message in self._listen(busy):
                if isinstance(message, WorkerUpdate):
                    worker.outstanding = message.outstanding
                    add(worker.number, message)
                if message is None or (isinstance(message, WorkerUpdate) and message.last):
                    busy.remove(worker)
            patience = until()
            if patience is not None and not stopped:
                stopped = True
                silent_after = time.monotonic() + patience + _SILENT_S
                for worker in busy:
                    self._tell(worker, Stop(patience))
            if time.monotonic() > silent_after:
                for worker in busy:
                    self._lose(worker)
                return

    def _listen(self, workers: list[Worker]) -> Iterator[tuple[Worker, object]]:
        """Yield what comes within a tick, and from whom; None from one that is lost."""
        by_connection = {worker.connection: worker for worker in workers}
        for ready in wait(list(by_connection), _TICK_S):
            worker = by_connection[ready]  # type: ignore[index]  # only connections were waited for
            try:
                yield worker, worker.connection.recv()
            except (EOFError, OSError):
                self._lose(worker)
                yield worker, None

    def _tell(self, worker: Worker, order: Configure | Begin | Stop) -> None:
        with suppress(OSError):  # it is dead, and the end of its messages says so
            worker.connection.send(order)

    def _lose(self, worker: Worker) -> None:
        self._workers.remove(worker)
        self.lost.append(worker.find_out())
        worker.end()

    def _end(self) -> None:
        for worker in self._workers:
            worker.end()
        self._workers.clear()
