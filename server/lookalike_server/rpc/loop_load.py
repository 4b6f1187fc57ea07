"""The event loop as a resource: how many calls of a method are inside, and how fast they end at most.

A call that neither decodes nor embeds hardly waits for anything but the event loop and the processor, which have no
queue of their own to look at. Little's law says how long it will take: calls inside, over calls that end in a second.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass
from time import monotonic

from lookalike_server.domain.calls import Call, Caller
from lookalike_server.domain.errors import Rejection, exhausted
from lookalike_server.scheduling.overload import Overload

_BUSY_CALLS = 16
"""Calls inside from which on the loop counts as busy; fewer are always tried."""

_WINDOW_SECONDS = 0.1
_WINDOWS = 10
_LEAST_SHARE = 0.05


@dataclass(eq=False, slots=True)
class LoopCall:
    """A call that is inside."""

    load: LoopLoad
    caller: Caller
    is_inside: bool = True

    def wait_elsewhere(self) -> None:
        """Count it no more: it turned out to wait for something else."""
        if self.is_inside:
            self.is_inside = False
            self.load.remove(self.caller, ended=False)

    def end(self) -> None:
        """Count it no more: it has been served."""
        if self.is_inside:
            self.is_inside = False
            self.load.remove(self.caller, ended=True)


class LoopLoad:
    """Admits the calls of one method. Lives on one event loop."""

    def __init__(self, clock: Callable[[], float] = monotonic) -> None:
        """Take the time in seconds, as deadlines count it."""
        self._clock = clock
        self._inside: Counter[Caller] = Counter()
        self._calls = 0
        self._rates: deque[float] = deque(maxlen=_WINDOWS)  # of windows in which the loop was busy throughout
        self._window_from = clock()
        self._ended = 0
        self._overload = Overload(_LEAST_SHARE)

    def enter(self, call: Call) -> LoopCall:
        """Count a call as inside.

        Raises:
            LookalikeError: RESOURCE_EXHAUSTED where it would not end in time.
        """
        if self._calls >= _BUSY_CALLS:
            self._check(call)
        else:
            self._begin_window(self._clock())
        self._inside[call.caller] += 1
        self._calls += 1
        return LoopCall(self, call.caller)

    def remove(self, caller: Caller, *, ended: bool) -> None:
        """Count a call of this caller no more; `ended` where it has been served."""
        self._calls -= 1
        self._inside[caller] -= 1
        if not self._inside[caller]:
            del self._inside[caller]
        self._ended += ended
        now = self._clock()
        seconds = now - self._window_from
        if self._calls >= _BUSY_CALLS and seconds >= _WINDOW_SECONDS:
            self._rates.append(self._ended / seconds)
            self._begin_window(now)

    def _begin_window(self, now: float) -> None:
        self._window_from = now
        self._ended = 0

    def _check(self, call: Call) -> None:
        rate = max(self._rates, default=0.0)
        if not rate:
            return
        now = self._clock()
        wait = self._ahead(call.caller) / rate
        if wait > self._overload.share(now) * (call.deadline - now):
            self._overload.record_rejection(now)
            raise exhausted(
                "the server is busy and would answer after the call's deadline; try again later or with a longer one",
                wait,
                Rejection.EVENT_LOOP,
            )

    def _ahead(self, caller: Caller) -> float:
        """Return how many calls end before another one of this caller would, where all get their fair share."""
        own = (self._inside[caller] + 1) / caller.weight
        return sum(min(calls, own * each.weight) for each, calls in self._inside.items())
