"""When calls are meant to be sent, and which requests they send."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest

from lookalike_loadtest.arrivals import Arrival, arrivals, picks
from lookalike_loadtest.plan import Arrivals, Phase

OPEN = Phase(seconds=20.0, warmup=2.0, deadline=1.0, rate=100.0, arrivals="poisson", seed=7)
SHARES = (1.0, 3.0)


def test_constant_arrivals_are_evenly_spaced() -> None:
    """Call n is due n / rate seconds after the warm-up's beginning, to the microsecond, however long the test."""
    dues = [each.due for each in arrivals(replace(OPEN, arrivals="constant"), SHARES)]
    assert len(dues) == 2200
    np.testing.assert_allclose(dues, np.arange(2200) / 100 - 2, atol=1e-9)


def test_poisson_arrivals_are_independent() -> None:
    """The gaps are exponential: their mean is 1 / rate, and so is their standard deviation."""
    dues = [each.due for each in arrivals(replace(OPEN, seconds=500.0), SHARES)]
    gaps = np.diff(dues)
    assert np.mean(gaps) == pytest.approx(0.01, rel=0.02)
    assert np.std(gaps) == pytest.approx(0.01, rel=0.03)
    assert min(gaps) > 0
    assert dues[0] < -1
    assert 499 < dues[-1] < 500


@pytest.mark.parametrize("how", ["poisson", "constant"])
@pytest.mark.parametrize("workers", [2, 3, 5])
def test_workers_share_one_schedule(how: Arrivals, workers: int) -> None:
    """Together several workers send exactly the calls of one, each call once, and each worker about as many."""
    phase = replace(OPEN, arrivals=how)
    parts = [list(arrivals(phase, SHARES, index, workers)) for index in range(workers)]
    assert sorted(each for part in parts for each in part) == list(arrivals(phase, SHARES))
    assert max(map(len, parts)) - min(map(len, parts)) <= 1


def test_the_seed_alone_draws_the_schedule() -> None:
    """The same seed draws the same calls, another seed others."""
    assert list(arrivals(OPEN, SHARES)) == list(arrivals(OPEN, SHARES))
    assert list(arrivals(OPEN, SHARES)) != list(arrivals(replace(OPEN, seed=8), SHARES))


def test_kinds_come_in_their_shares() -> None:
    """A kind with three times the share of another is sent three times as often, and every request has its turn."""
    drawn: list[Arrival] = list(arrivals(replace(OPEN, seconds=200.0), SHARES))
    counts = Counter(each.pick.kind for each in drawn)
    assert set(counts) == {0, 1}
    assert counts[1] / len(drawn) == pytest.approx(0.75, abs=0.02)
    places = np.array([each.pick.at for each in drawn])
    assert places.min() >= 0
    assert places.max() < 1
    assert np.ptp(np.histogram(places, bins=10, range=(0, 1))[0]) < 0.02 * len(drawn)


def test_closed_loops_of_workers_send_different_requests() -> None:
    """In a closed loop each worker has a series of requests of its own, the same with the same seed."""
    first, again, other = (picks(1, SHARES, index) for index in (0, 0, 1))
    sent = [next(first) for _ in range(3000)]
    assert sent == [next(again) for _ in range(3000)]
    assert sent != [next(other) for _ in range(3000)]


def test_a_closed_loop_has_no_schedule() -> None:
    """Asking for one is a mistake in the program."""
    with pytest.raises(ValueError, match="closed loop"):
        next(arrivals(replace(OPEN, rate=None, concurrency=3), SHARES))
