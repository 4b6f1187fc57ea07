"""Searches for the highest rate that meets a goal: pure decisions about the next rate, judged by whoever tries it.

The rate grows until one misses the goal (or falls until one meets it), then the gap is halved until the two rates are
close. A miss is tried once more before it counts: one disturbance on a busy machine must not end the search too low.
"""

from __future__ import annotations

import math

GROWTH = 1.5
TRIES = 2
LOWEST_SHARE = 1 / 64
"""The lowest rate that is tried, as a share of the first."""


class CapacitySearch:
    """One search.

    Args:
        start: The first rate, calls a second.
        resolution: How close the highest rate that met the goal and the lowest that missed it must come: 0.05 is 5 %.

    Attributes:
        highest_met: The highest rate that met the goal; None as long as none has.
        lowest_missed: The lowest rate that missed it; None as long as none has.
    """

    def __init__(self, start: float, resolution: float = 0.05) -> None:
        self.highest_met: float | None = None
        self.lowest_missed: float | None = None
        self._resolution = resolution
        self._lowest = start * LOWEST_SHARE
        self._rate: float | None = start
        self._tries = 0

    @property
    def rate(self) -> float | None:
        """The rate to try next; None when the search is over."""
        return self._rate

    @property
    def found(self) -> bool:
        """Whether the capacity is known to the resolution."""
        if self.highest_met is None or self.lowest_missed is None:
            return False
        return self.lowest_missed / self.highest_met <= 1 + self._resolution

    def judge(self, *, met: bool) -> None:
        """Record whether `rate` met the goal.

        Raises:
            ValueError: The search is over.
        """
        if self._rate is None:
            raise ValueError("the search is over")
        self._tries += 1
        if not met and self._tries < TRIES:
            return
        self._tries = 0
        if met:
            self.highest_met = self._rate
        else:
            self.lowest_missed = self._rate
        self._rate = self._next()

    def _next(self) -> float | None:
        if self.found:
            return None
        if self.lowest_missed is None:
            assert self.highest_met is not None  # noqa: S101 - one of them was just judged
            return self.highest_met * GROWTH
        if self.highest_met is None:
            below = self.lowest_missed / GROWTH**2
            return below if below >= self._lowest else None
        return math.sqrt(self.highest_met * self.lowest_missed)
