"""The search for the highest rate that meets a goal, against servers that are a formula."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from lookalike_loadtest.capacity_search import TRIES, CapacitySearch


def follow(search: CapacitySearch, meets: Callable[[float], bool]) -> list[float]:
    """Try every rate of the search; return them in order."""
    tried = []
    while search.rate is not None:
        tried.append(search.rate)
        assert len(tried) < 200
        search.judge(met=meets(tried[-1]))
    return tried


def queue_p99(rate: float, capacity: float) -> float:
    """The 99th percentile of the time in an M/M/1 queue, in milliseconds: ln(100) / (capacity - rate)."""
    return float("inf") if rate >= capacity else 4605.17 / (capacity - rate)


@pytest.mark.parametrize("start", [1.0, 40.0, 95.0, 500.0, 3000.0])
@pytest.mark.parametrize("resolution", [0.05, 0.01])
def test_the_capacity_is_found(start: float, resolution: float) -> None:
    """From below and from far above, the result is at most the resolution below the true capacity, and never above."""
    capacity = 1000 - 4605.17 / 50  # where the p99 of this queue reaches 50 ms: 907.9 calls a second
    search = CapacitySearch(start if start < 1000 else 30 * capacity, resolution)
    tried = follow(search, lambda rate: queue_p99(rate, 1000) <= 50)
    assert search.found
    assert search.highest_met is not None
    assert search.lowest_missed is not None
    assert search.highest_met <= capacity < search.lowest_missed
    assert search.lowest_missed / search.highest_met <= 1 + resolution
    assert len(tried) <= 40


def test_one_disturbance_does_not_end_the_growth() -> None:
    """A rate that misses the goal once and meets it when tried again counts as met."""
    seen: set[float] = set()

    def meets(rate: float) -> bool:
        first = rate not in seen
        seen.add(rate)
        return rate <= 300 and not (first and rate < 50)

    search = CapacitySearch(10)
    tried = follow(search, meets)
    assert search.highest_met == pytest.approx(300, rel=0.06)
    assert tried.count(10) == TRIES


def test_a_rate_that_missed_was_tried_again() -> None:
    """No rate counts as missed after one try."""
    search = CapacitySearch(100)
    search.judge(met=False)
    assert (search.rate, search.lowest_missed) == (100, None)
    search.judge(met=False)
    assert search.lowest_missed == 100
    assert search.rate is not None
    assert search.rate < 100


def test_a_server_that_never_meets_the_goal_ends_the_search() -> None:
    """Where even a sixty-fourth of the first rate misses, the search ends without a capacity."""
    search = CapacitySearch(640)
    tried = follow(search, lambda _: False)
    assert (search.highest_met, search.found) == (None, False)
    assert search.lowest_missed == min(tried)
    assert 10 <= min(tried) < 30


def test_a_search_that_is_over_takes_no_judgment() -> None:
    """Judging after the end is a programming error."""
    search = CapacitySearch(10)
    follow(search, lambda rate: rate < 12)
    with pytest.raises(ValueError, match="over"):
        search.judge(met=True)
