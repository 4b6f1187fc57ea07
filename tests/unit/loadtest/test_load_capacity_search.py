"""The search for the highest rate that holds, against servers that are a formula."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from lookalike_loadtest.capacity_search import TRIES, KneeSearch


def follow(search: KneeSearch, holds: Callable[[float], bool]) -> list[float]:
    """Try what the search wants tried; the rates, in order."""
    tried = []
    while search.rate is not None:
        tried.append(search.rate)
        assert len(tried) < 200
        search.judge(held=holds(tried[-1]))
    return tried


def queue_p99(rate: float, capacity: float) -> float:
    """The 99th percentile of the time in an M/M/1 queue, in milliseconds: ln(100) / (capacity - rate)."""
    return float("inf") if rate >= capacity else 4605.17 / (capacity - rate)


@pytest.mark.parametrize("start", [1.0, 40.0, 95.0, 500.0, 3000.0])
@pytest.mark.parametrize("resolution", [0.05, 0.01])
def test_the_knee_is_found(start: float, resolution: float) -> None:
    """From below and from far above, what held is at most the resolution below the true knee, and never above it."""
    knee = 1000 - 4605.17 / 50  # where the p99 of this queue reaches 50 ms: 907.9 calls a second
    search = KneeSearch(start if start < 1000 else 30 * knee, resolution)
    tried = follow(search, lambda rate: queue_p99(rate, 1000) <= 50)
    assert search.found
    assert search.held is not None
    assert search.broke is not None
    assert search.held <= knee < search.broke
    assert search.broke / search.held <= 1 + resolution
    assert len(tried) <= 40


def test_one_disturbance_does_not_end_the_growth() -> None:
    """A rate that breaks once and holds when tried again counts as one that holds."""
    seen: set[float] = set()

    def holds(rate: float) -> bool:
        first = rate not in seen
        seen.add(rate)
        return rate <= 300 and not (first and rate < 50)

    search = KneeSearch(10)
    tried = follow(search, holds)
    assert search.held == pytest.approx(300, rel=0.06)
    assert tried.count(10) == TRIES


def test_a_rate_that_broke_was_tried_again() -> None:
    """Nothing is called broken on one try."""
    search = KneeSearch(100)
    search.judge(held=False)
    assert (search.rate, search.broke) == (100, None)
    search.judge(held=False)
    assert search.broke == 100
    assert search.rate is not None
    assert search.rate < 100


def test_a_server_that_never_holds_ends_the_search() -> None:
    """Where even a sixty-fourth of the first rate breaks there is no knee, and that is said."""
    search = KneeSearch(640)
    tried = follow(search, lambda _: False)
    assert (search.held, search.found) == (None, False)
    assert search.broke == min(tried)
    assert 10 <= min(tried) < 30


def test_a_search_that_is_over_takes_no_judgment() -> None:
    """Judging after the end is a mistake in the program."""
    search = KneeSearch(10)
    follow(search, lambda rate: rate < 12)
    with pytest.raises(ValueError, match="over"):
        search.judge(held=True)
