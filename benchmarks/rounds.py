"""Paired rounds: A B A B ... in short turns, each compared with the turn next to it.

A shared machine's speed drifts severalfold within a minute. Two values from one minute may both be wrong and still have
the right ratio, if they are adjacent; the median over the rounds then tolerates a turn that was disturbed.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

A = TypeVar("A")
B = TypeVar("B")


@dataclass(frozen=True, slots=True)
class Spread:
    """The median of some values, and the quartiles around it."""

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread:
        """Return the spread of one value or more."""
        if len(values) == 1:
            return cls(values[0], values[0], values[0])
        low, median, high = statistics.quantiles(values, n=4, method="inclusive")
        return cls(median, low, high)

    def __str__(self) -> str:
        return f"{self.median:.3g} [{self.low:.3g} .. {self.high:.3g}]"


@dataclass(frozen=True, slots=True)
class Pairs(Generic[A, B]):
    """What two servers reached in adjacent turns."""

    first: Sequence[A]
    second: Sequence[B]

    def spread(self, value: Callable[[A, B], float]) -> Spread:
        """Return the spread of a value of each pair of turns."""
        return Spread.of([value(a, b) for a, b in zip(self.first, self.second, strict=True)])


def paired(first: Callable[[], A], second: Callable[[], B], rounds: int) -> Pairs[A, B]:
    """Run both in turns, `rounds` times."""
    turns = [(first(), second()) for _ in range(rounds)]
    return Pairs([a for a, _ in turns], [b for _, b in turns])
