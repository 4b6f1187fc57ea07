"""Whether a server keeps something of each call: a pure function over samples of its process.

What cannot shrink, such as memory, is judged by its slope: a straight line by least squares, with an interval of 95 %.
Neighboring samples are alike, which makes the usual standard error far too small, so the line goes through the means of
`BLOCKS` blocks, and the variance is multiplied by (1 + r) / (1 - r) for the correlation r of neighboring residuals that
remains (Bartlett 1946, "On the theoretical specification and sampling properties of autocorrelated time-series").

What has a level, such as open files, is judged by the growth of its maximum from the first half to the second.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from itertools import pairwise
from statistics import fmean

MIB = 1 << 20
HOUR = 3600.0

BLOCKS = 20
T_95 = 2.101
"""The two-sided quantile of Student's t at 95 % with BLOCKS - 2 degrees of freedom."""

_MAX_CORRELATION = 0.9  # of so few residuals, above which they say no more


@dataclass(frozen=True, slots=True)
class Sample:
    """A server's process and files at one moment.

    Attributes:
        seconds: Since the load began.
        rss: Resident memory, in bytes; of that, `anonymous` is of no file.
        descriptors: Open file descriptors.
        wal: Size of the write-ahead log, in bytes, as `database` of the catalog's file.
    """

    seconds: float
    rss: float
    anonymous: float
    descriptors: float
    threads: float
    wal: float
    database: float


class Verdict(StrEnum):
    """What the samples show."""

    FLAT = "flat"
    """The whole interval of the slope is within the limit; or the level did not grow."""

    UNRESOLVED = "unresolved"
    """The limit is inside the interval: neither is shown, and a longer run has a smaller interval."""

    GROWS = "grows"
    """The whole interval is above the limit; or the level grew."""


@dataclass(frozen=True, slots=True)
class Finding:
    """What the samples say of one quantity.

    Attributes:
        quantity: A field of `Sample`.
        unit: Of the numbers below.
        estimate: The slope an hour, or the growth from the first half to the second.
        margin: Half the interval of the slope; 0 for levels. What grows faster than the limit by twice this is seen.
        limit: What is allowed.
    """

    quantity: str
    unit: str
    estimate: float
    margin: float
    limit: float

    @property
    def verdict(self) -> Verdict:
        """Compare the interval with the limit."""
        if self.estimate - self.margin > self.limit:
            return Verdict.GROWS
        return Verdict.FLAT if self.estimate + self.margin <= self.limit else Verdict.UNRESOLVED


GROWTH_LIMITS = {"descriptors": 16.0, "threads": 2.0, "wal": 64.0 * MIB, "database": 1.0 * MIB}
"""What the maximum of the second half may have more than that of the first. Connections come and go, so descriptors
vary. SQLite's log is copied into the file each 16 MiB and begun again, unless something reads it at that moment, which
on a busy machine happens a few times in a row. A catalog in which products are replaced leaves some free pages."""

_UNITS = {"wal": "bytes", "database": "bytes"}


def judge(samples: Sequence[Sample], warm_up: float, rss_limit: float) -> list[Finding]:
    """Judge all samples after the first `warm_up` seconds.

    Args:
        samples: In the order of time, as far from each other.
        warm_up: Seconds.
        rss_limit: The slope of the resident memory that is allowed, in MiB an hour.

    Raises:
        ValueError: There are fewer than two for each block.
    """
    warm = [sample for sample in samples if sample.seconds >= warm_up]
    if len(warm) < 2 * BLOCKS:
        raise ValueError(f"{len(warm)} samples after the warm-up; there must be {2 * BLOCKS}")
    half = (warm[0].seconds + warm[-1].seconds) / 2
    estimate, margin = slope([(sample.seconds / HOUR, sample.rss / MIB) for sample in warm])
    findings = [Finding("rss", "MiB/h", estimate, margin, rss_limit)]
    for name, limit in GROWTH_LIMITS.items():
        value = _reader(name)
        first = max(value(sample) for sample in warm if sample.seconds < half)
        second = max(value(sample) for sample in warm if sample.seconds >= half)
        findings.append(Finding(name, _UNITS.get(name, ""), second - first, 0.0, limit))
    return findings


def slope(points: Sequence[tuple[float, float]]) -> tuple[float, float]:
    """Return the slope of a line through points in the order of time, and half of its interval of 95 %."""
    blocks = [points[len(points) * at // BLOCKS : len(points) * (at + 1) // BLOCKS] for at in range(BLOCKS)]
    times = [fmean(x for x, _ in block) for block in blocks]
    values = [fmean(y for _, y in block) for block in blocks]
    middle, level = fmean(times), fmean(values)
    spread = sum((x - middle) ** 2 for x in times)
    estimate = sum((x - middle) * (y - level) for x, y in zip(times, values, strict=True)) / spread
    residuals = [y - level - estimate * (x - middle) for x, y in zip(times, values, strict=True)]
    squares = sum(each**2 for each in residuals)
    correlation = sum(one * other for one, other in pairwise(residuals)) / squares if squares else 0.0
    correlation = min(max(correlation, 0.0), _MAX_CORRELATION)
    variance = squares / (BLOCKS - 2) / spread * (1 + correlation) / (1 - correlation)
    return estimate, float(T_95 * variance**0.5)


def _reader(name: str) -> Callable[[Sample], float]:
    return lambda sample: float(getattr(sample, name))
