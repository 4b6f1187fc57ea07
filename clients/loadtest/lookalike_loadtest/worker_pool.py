"""The client processes, seen from the tester: started, told what to do, listened to, and missed when they die."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from multiprocessing.connection import Connection, wait
from types import TracebackType
from typing import Self

from lookalike_loadtest.plan import Phase
from lookalike_loadtest.requests import Stock
from lookalike_loadtest.worker_messages import Begin, Connected, News, NotConnected, Stop

_LEAD_S = 0.3  # between an order and its first call, so that all processes have it by then
_TICK_S = 0.1
_START_WITHIN_S = 60.0
_SILENT_S = 20.0  # longer than any phase's end should take
_END_WITHIN_S = 5.0


class CrewError(Exception):
    """The client processes cannot begin; `str()` of it is written for the user."""


@dataclass(frozen=True, slots=True)
class Lost:
    """A client process that died.

    Attributes:
        number: Which, counted from 1.
        how: What became of it.
        outstanding: Calls that it had under way when it was last heard of; what became of them is not known.
    """

    number: int
    how: str
    outstanding: int


class Member:
    """One client process."""

    def __init__(self, stock: Stock) -> None:
        self.number = stock.index + 1
        self.outstanding = 0
        ours, theirs = socket.socketpair()
        with theirs:
            # a session of its own: Ctrl-C in the terminal reaches the tester alone
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

    def lost(self) -> Lost:
        """Find out how it ended."""
        try:
            status = self.process.wait(_END_WITHIN_S)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            return Lost(self.number, "was silent and had to be killed", self.outstanding)
        how = f"was ended by {signal.Signals(-status).name}" if status < 0 else f"ended with exit code {status}"
        return Lost(self.number, how, self.outstanding)


class Crew:
    """The client processes of one test; a context manager.

    Raises:
        CrewError: They cannot be started, or do not reach the server.
    """

    def __init__(self, stock: Stock, processes: int) -> None:
        self.lost: list[Lost] = []
        self._members: list[Member] = []
        try:
            for index in range(processes):
                part = replace(stock, index=index, of=processes)
                self._members.append(Member(part))
                self._members[-1].connection.send(part)
            self._await_connections()
        except OSError as error:
            self._end()
            raise CrewError(f"the client processes cannot be started: {error}") from error
        except BaseException:
            self._end()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end()

    @property
    def pids(self) -> list[int]:
        """The processes that live."""
        return [member.process.pid for member in self._members]

    def run(self, phase: Phase, heard: Callable[[int, News], None], until: Callable[[], float | None]) -> None:
        """Do a phase; returns when all answers are in, or every process is lost.

        Args:
            phase: What to do.
            heard: Takes the news of each process.
            until: Asked several times a second; tells how many seconds to wait for answers where no more calls are to
                be sent, else None.
        """
        begins = time.monotonic() + _LEAD_S + phase.warmup
        silent_after = begins + phase.seconds + 2 * phase.deadline + _SILENT_S
        busy = list(self._members)
        for member in busy:
            self._tell(member, Begin(phase, begins))
        stopped = False
        while busy:
            for member, message in self._listen(busy):
                if isinstance(message, News):
                    member.outstanding = message.outstanding
                    heard(member.number, message)
                if message is None or (isinstance(message, News) and message.last):
                    busy.remove(member)
            patience = until()
            if patience is not None and not stopped:
                stopped = True
                silent_after = time.monotonic() + patience + _SILENT_S
                for member in busy:
                    self._tell(member, Stop(patience))
            if time.monotonic() > silent_after:
                for member in busy:
                    self._lose(member)
                return

    def outstanding(self) -> int:
        """Calls under way when the processes were last heard of."""
        return sum(member.outstanding for member in self._members)

    def _await_connections(self) -> None:
        waiting, until = list(self._members), time.monotonic() + _START_WITHIN_S
        while waiting:
            for member, message in self._listen(waiting):
                if isinstance(message, Connected):
                    waiting.remove(member)
                elif isinstance(message, NotConnected):
                    raise CrewError(message.reason)
                else:
                    raise CrewError(f"client process {self.lost[-1].number} {self.lost[-1].how} as it was started")
            if time.monotonic() > until:
                raise CrewError(f"the client processes did not start within {_START_WITHIN_S:.0f} s")

    def _listen(self, members: list[Member]) -> Iterator[tuple[Member, object]]:
        """What came within a tick, from whom; None from one that is lost."""
        by_connection = {member.connection: member for member in members}
        for ready in wait(list(by_connection), _TICK_S):
            member = by_connection[ready]  # type: ignore[index]  # only connections were waited for
            try:
                yield member, member.connection.recv()
            except (EOFError, OSError):
                self._lose(member)
                yield member, None

    def _tell(self, member: Member, order: Begin | Stop) -> None:
        with suppress(OSError):  # it is dead, and the end of its messages tells so
            member.connection.send(order)

    def _lose(self, member: Member) -> None:
        self._members.remove(member)
        self.lost.append(member.lost())
        member.end()

    def _end(self) -> None:
        for member in self._members:
            member.end()
        self._members.clear()
