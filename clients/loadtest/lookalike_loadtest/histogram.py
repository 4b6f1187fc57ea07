"""Latencies in HDR histograms: whole microseconds from 1 to ten minutes, three significant digits."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from hdrh.histogram import HdrHistogram

LOWEST_US, HIGHEST_US, DIGITS = 1, 600_000_000, 3

PERCENTILES = (50.0, 75.0, 90.0, 95.0, 99.0, 99.9, 99.99)

FEW = 10
"""A percentile that fewer calls than this lie beyond says little: a few calls decide it."""


@dataclass(frozen=True, slots=True)
class Point:
    """A percentile: the milliseconds that this share of the calls did not exceed, and how many calls did."""

    percentile: float
    ms: float
    beyond: int


class Histogram:
    """The distribution of a time; empty, or read from what `encoded` returned, with three digits throughout."""

    def __init__(self, encoded: str | None = None) -> None:
        if encoded is None:
            self._hdr = HdrHistogram(LOWEST_US, HIGHEST_US, DIGITS)
            self._sum_us, self._least_us, self._most_us = 0, HIGHEST_US, 0
        else:
            self._hdr = HdrHistogram.decode(encoded.encode())
            self._sum_us = round(self._hdr.get_mean_value() * self.count)
            self._least_us, self._most_us = self._hdr.get_min_value(), self._hdr.get_max_value()

    def add(self, microseconds: np.ndarray) -> None:
        """Count times, int64 of any number; what is out of range counts as the range's end."""
        if not len(microseconds):
            return
        values, counts = np.unique(np.clip(microseconds, LOWEST_US, HIGHEST_US), return_counts=True)
        for value, count in zip(values.tolist(), counts.tolist(), strict=True):
            self._hdr.record_value(value, count)
        self._sum_us += int(microseconds.sum())
        self._least_us = min(self._least_us, int(values[0]))
        self._most_us = max(self._most_us, int(values[-1]))

    @property
    def count(self) -> int:
        """Number of times counted."""
        return int(self._hdr.get_total_count())

    @property
    def sum_ms(self) -> float:
        """Sum of all times."""
        return self._sum_us / 1000

    @property
    def mean_ms(self) -> float | None:
        """Exact mean; None where nothing was counted."""
        return self.sum_ms / self.count if self.count else None

    @property
    def min_ms(self) -> float | None:
        """Exact minimum; None where nothing was counted."""
        return self._least_us / 1000 if self.count else None

    @property
    def max_ms(self) -> float | None:
        """Exact maximum; None where nothing was counted."""
        return self._most_us / 1000 if self.count else None

    def at(self, percentile: float) -> float | None:
        """Return the milliseconds that this percentage of the times did not exceed; None where nothing was counted."""
        return self._ms(self._hdr.get_value_at_percentile(percentile)) if self.count else None

    def points(self) -> list[Point]:
        """Return the usual percentiles; none where nothing was counted."""
        if not self.count:
            return []
        found = self._hdr.get_percentile_to_value_dict(list(PERCENTILES))
        return [Point(each, self._ms(found[each]), int(self.count * (100 - each) / 100)) for each in PERCENTILES]

    def _ms(self, microseconds: int) -> float:
        # a bucket is named by its upper end, which may lie beyond every time in it
        return min(microseconds, self._most_us) / 1000

    def curve(self) -> tuple[list[float], list[float]]:
        """Return percentiles and their milliseconds, close together where they are high, up to the slowest call."""
        shares: list[float] = []
        ms: list[float] = []
        for step in self._hdr.get_percentile_iterator(5) if self.count else ():
            # read at once: the iterator hands out the same object every time
            shares.append(float(step.percentile_level_iterated_to))
            ms.append(float(step.value_iterated_to) / 1000)
        return shares, ms

    def encoded(self) -> str:
        """Encode the histogram as any HdrHistogram library reads it: V2, compressed, in base64."""
        return str(self._hdr.encode().decode())
