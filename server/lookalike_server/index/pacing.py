"""Keeps the work on graphs out of the way of searches: it is done in pieces of milliseconds, none while a search runs.

The maintenance thread calls `next_piece` before each piece; searches run in it as a context. While many rows are
written that nobody searches, as in a bulk import, writes come first as well: a row takes far longer to be added to a
graph than to be stored, so graphs could not keep up anyway. Where there are searches, graphs have to keep up.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable

_PIECE_BYTES = 128 << 10  # of the vectors of a piece beside searches, which are added to a graph in about 10 ms
_QUIET_BYTES = 512 << 10  # of a piece for each thread otherwise, because every call of the library costs something
_IDLE_BYTES = 4 << 20  # where nobody searched for long: Faiss shares a small piece badly among threads
_MAX_WAIT = 0.05  # seconds for searches to pause; under a load without a pause, work goes on at one piece for each wait
_MAX_WAIT_FOR_WRITES = 0.2  # the same for writes: graphs take at most a twentieth of a core meanwhile
_QUIET_SECONDS = 0.2  # without a search or many writes, after which a piece takes all threads
_WRITE_SECONDS = 0.001  # for which a written row counts: some hundred rows a second are no reason to wait
_SEARCHED_SECONDS = 10.0  # since a search, for which another one is expected
_REST = 4  # times as long as it took, beside searches, after a piece that can wait


class MaintenanceStopped(Exception):  # noqa: N818 - nothing went wrong
    """The index is closing: work on graphs ends where it is."""


class Pacing:
    """Knows when searches run. Thread-safe."""

    def __init__(self, threads: int = 1, clock: Callable[[], float] = time.monotonic) -> None:
        """Use up to so many threads for a piece."""
        self._threads = threads
        self._clock = clock
        self._quiet = threading.Condition()
        self._searches = 0
        self._last = -math.inf
        self._written_until = -math.inf
        self._stopped = threading.Event()

    def __enter__(self) -> None:
        """Run a search in this context."""
        with self._quiet:
            self._searches += 1

    def __exit__(self, *_: object) -> None:
        with self._quiet:
            self._searches -= 1
            self._last = self._clock()
            if not self._searches:
                self._quiet.notify_all()

    @property
    def is_searched(self) -> bool:
        """Whether searches run, or did an instant ago."""
        return self.searched_within(_QUIET_SECONDS)

    def searched_within(self, seconds: float) -> bool:
        """Return whether a search runs, or did in the last so many seconds."""
        return self._searches > 0 or self._clock() - self._last < seconds

    def record_writes(self, rows: int) -> None:
        """Note that so many rows were written."""
        now = self._clock()
        until = max(now, self._written_until) + rows * _WRITE_SECONDS
        self._written_until = min(until, now + _QUIET_SECONDS)

    @property
    def writes_come_first(self) -> bool:
        """Whether many rows are being written that nobody searches."""
        return self._clock() < self._written_until and not self.searched_within(_SEARCHED_SECONDS)

    def next_piece(self) -> tuple[int, int]:
        """Wait until nothing comes first, though not for long; return the bytes and the threads of the next piece.

        Raises:
            MaintenanceStopped: The index is closing.
        """
        self._await(self._may_work, _MAX_WAIT_FOR_WRITES if self.writes_come_first else _MAX_WAIT)
        if self.is_searched or self.writes_come_first:
            return _PIECE_BYTES, 1
        each = _QUIET_BYTES if self.searched_within(_SEARCHED_SECONDS) else _IDLE_BYTES
        return each * self._threads, self._threads

    def await_searches(self) -> None:
        """Wait until no search runs, though not for long, before work that takes a millisecond.

        Raises:
            MaintenanceStopped: The index is closing.
        """
        self._await(lambda: self._stopped.is_set() or not self._searches, _MAX_WAIT)

    def _await(self, may_work: Callable[[], bool], seconds: float) -> None:
        with self._quiet:
            self._quiet.wait_for(may_work, seconds)
            if self._stopped.is_set():
                raise MaintenanceStopped

    def _may_work(self) -> bool:
        return self._stopped.is_set() or not (self._searches or self.writes_come_first)

    def rest(self, seconds: float) -> None:
        """Leave the processor to others after a piece of so many seconds that could wait, where searches run."""
        if self.is_searched:
            self._stopped.wait(_REST * seconds)

    def stop(self) -> None:
        """Raise `MaintenanceStopped` from now on."""
        with self._quiet:
            self._stopped.set()
            self._quiet.notify_all()
