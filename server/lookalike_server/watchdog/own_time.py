"""Time as one who looks regularly lived through it: what was slept through does not count."""

from __future__ import annotations

import time
from collections.abc import Callable


def no_processor_time() -> float:
    """Stand in for processor time where work of this process is no reason to count a late look in full."""
    return 0.0


class OwnTime:
    """Seconds from look to look, at most two intervals each.

    One who looks later than that was itself stopped, suspended or kept waiting, as were probably those it watches, and
    may not hold that against them. Where `processor_time` grew meanwhile, this process was running, so so much of the
    wait counts: native code held the interpreter's lock.
    """

    def __init__(
        self,
        interval: float,
        processor_time: Callable[[], float] = no_processor_time,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Look every `interval` seconds from now on, by calling `step`."""
        self._most = 2 * interval
        self._processor_time = processor_time
        self._clock = clock
        self._looked = clock()
        self._worked = processor_time()

    def step(self) -> float:
        """Return the seconds since the last look, as far as they count."""
        now, worked = self._clock(), self._processor_time()
        seconds = now - self._looked
        counted = min(seconds, max(self._most, worked - self._worked))
        self._looked, self._worked = now, worked
        return counted
