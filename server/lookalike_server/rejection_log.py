"""Rejected calls in the log: a line a minute, with how many of each method and for which reason.

A line for each would be a flood exactly when the server is short of everything, and none at all hides an overload.
"""

from __future__ import annotations

import threading
from collections import Counter, defaultdict
from collections.abc import Callable
from typing import Any, Protocol

from lookalike_server.domain.errors import Rejection
from lookalike_server.domain.events import CallRejected

WINDOW_SECONDS = 60.0
"""From the first rejected call to the line that counts it."""

_EXPECTED = frozenset((Rejection.QUOTA, Rejection.STARTING, Rejection.DRAINING))
"""What is no overload of the server: a caller's own doing, or a restart."""


class Timer(Protocol):
    """What `threading.Timer` is."""

    daemon: bool

    def start(self) -> None:
        """Begin to wait."""

    def cancel(self) -> None:
        """Do not call the function any more."""


StartTimer = Callable[[float, Callable[[], None]], Timer]


class RejectionLog:
    """Counts rejected calls, and logs them a minute after the first of them. Thread-safe."""

    def __init__(self, log: Any, clock: Callable[[], float], timer: StartTimer = threading.Timer) -> None:
        """Count nothing yet.

        Args:
            log: Where the lines go.
            clock: Monotonic, in seconds.
            timer: Calls a function after a time; a thread of its own while anything is counted.
        """
        self.log = log
        self._clock = clock
        self._make_timer = timer
        self._lock = threading.Lock()
        self._counts: Counter[tuple[str, Rejection]] = Counter()
        self._began = 0.0
        self._timer: Timer | None = None

    def add(self, event: CallRejected) -> None:
        """Count a call; the first of a minute starts it."""
        with self._lock:
            if not self._counts:
                self._began = self._clock()
                self._timer = self._make_timer(WINDOW_SECONDS, self.flush)
                self._timer.daemon = True
                self._timer.start()
            self._counts[event.method, event.reason] += 1

    def flush(self) -> None:
        """Log what was counted, if anything; when the minute is over, and when no more events come."""
        with self._lock:
            counts, self._counts = self._counts, Counter()
            seconds = self._clock() - self._began
            timer, self._timer = self._timer, None
        if timer is not None:
            timer.cancel()
        if not counts:
            return
        reasons: Counter[str] = Counter()
        methods: defaultdict[str, dict[str, int]] = defaultdict(dict)
        for (method, reason), count in sorted(counts.items()):
            reasons[reason.value] += count
            methods[method][reason.value] = count
        write = self.log.info if {reason for _, reason in counts} <= _EXPECTED else self.log.warning
        write(
            "calls_rejected",
            count=counts.total(),
            seconds=round(seconds, 1),
            reasons=dict(reasons),
            methods=dict(methods),
        )
