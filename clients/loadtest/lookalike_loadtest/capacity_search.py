"""Looks for the highest rate that holds: pure, one rate after another, judged by whoever tries them.

It grows until a rate breaks (or falls until one holds), then halves the gap until the two rates are close. A rate that
breaks is tried once more before that counts: one disturbance on a busy machine must not end the search far too low.
"""

from __future__ import annotations

import math

GROWTH = 1.5
TRIES = 2
LOWEST_SHARE = 1 / 64
"""How far below the first rate the search goes before it gives up."""


class KneeSearch:
    """One search.

    Args:
        start: The first rate, calls a second.
        resolution: How close the highest rate that held and the lowest that broke must come: 0.05 is 5 %.

    Attributes:
        held: The highest rate that held; None as long as none has.
        broke: The lowest rate that broke; None as long as none has.
    """

    def __init__(self, start: float, resolution: float = 0.05) -> None:
        self.held: float | None = None
        self.broke: float | None = None
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
        """Whether it is known as closely as was asked."""
        return self.held is not None and self.broke is not None and self.broke / self.held <= 1 + self._resolution

    def judge(self, *, held: bool) -> None:
        """Say what became of `rate`."""
        if self._rate is None:
            raise ValueError("the search is over")
        self._tries += 1
        if not held and self._tries < TRIES:
            return
        self._tries = 0
        if held:
            self.held = self._rate
        else:
            self.broke = self._rate
        self._rate = self._next()

    def _next(self) -> float | None:
        if self.found:
            return None
        if self.broke is None:
            assert self.held is not None  # noqa: S101 - one of them was just judged
            return self.held * GROWTH
        if self.held is None:
            below = self.broke / GROWTH**2
            return below if below >= self._lowest else None
        return math.sqrt(self.held * self.broke)
