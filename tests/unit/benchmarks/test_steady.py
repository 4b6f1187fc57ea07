"""The rates that a turn of an open loop comes to."""

from __future__ import annotations

import math

import numpy as np
import pytest
from benchmarks.load import Outcome
from benchmarks.steady import LATE, Steady, left_by_rejecting, steady

from lookalike_loadtest.plan import NOT_SENT, OK

DEADLINE, SECONDS = 0.5, 2.5
REJECTED, TIMED_OUT = 8, 4


def outcome(*calls: tuple[float, float, int] | tuple[float, float, int, float]) -> Outcome:
    """Return calls, each of when it was to be sent, when it ended, its code, and how late it was sent."""
    rows = np.array([(*call, 0.0)[:4] for call in calls], dtype=float)
    sent, ended, code, lag = rows.T
    return Outcome(sent, ended, code, np.full(len(rows), -1.0), lag, generator_seconds=1.25)


def rates(*calls: tuple[float, float, int] | tuple[float, float, int, float], rate: float = 2.0) -> Steady:
    """Return the rates of calls in a turn of two steady seconds."""
    return steady(outcome(*calls), rate, DEADLINE, SECONDS)


def test_only_answers_in_time_are_goodput() -> None:
    """A late answer, a rejection and a call that ran out of time are distinguished, and are no goodput."""
    found = rates((1.0, 1.4, OK), (1.0, 1.6, OK), (1.0, 1.01, REJECTED), (1.0, 1.5, TIMED_OUT), (1.2, 1.3, OK))
    assert found.goodput == 1.0
    assert found.by_code == {"OK": 1.0, LATE: 0.5, "RESOURCE_EXHAUSTED": 0.5, "DEADLINE_EXCEEDED": 0.5}
    assert found.rejected == 0.5
    assert found.p50 == pytest.approx(0.25)


def test_latency_counts_from_when_a_call_was_to_be_sent() -> None:
    """A call that the generator sent late and the server answered at once is late all the same."""
    found = rates((1.0, 1.6, OK, 0.59))
    assert found.goodput == 0.0
    assert found.lag_p99 == pytest.approx(0.59)
    assert math.isnan(found.p99)


def test_the_ends_of_a_turn_do_not_count() -> None:
    """What ends before the queue can be full, or after the schedule, is left out, and so is what is sent there."""
    found = rates((0.1, 0.2, OK), (2.4, 2.6, OK), (1.0, 1.1, OK))
    assert found.goodput == 0.5
    assert found.offered == 1.0  # the second and the third


def test_what_could_not_be_sent_was_not_offered() -> None:
    """A load counts as achieved only if nearly all of it was sent."""
    calls = [(1.0 + at / 100, 1.1 + at / 100, OK) for at in range(100)]
    whole = rates(*calls, rate=50.0)
    assert (whole.offered, whole.achieved) == (50.0, True)
    missing = [(sent, sent + 0.5, NOT_SENT, 0.5) for sent, _, _ in calls[:20]]
    assert not rates(*calls[20:], *missing, rate=50.0).achieved


def test_the_generators_own_use_of_the_processor_is_reported() -> None:
    """The generator's processor time is divided by the turn's length."""
    assert rates((1.0, 1.1, OK)).generator_cores == pytest.approx(0.5)


@pytest.mark.parametrize(
    ("rejected", "call_seconds", "left"), [(0, 1e-3, 1.0), (500, 1e-3, 0.75), (2000, 1e-3, 0.0), (9000, 1e-3, 0.0)]
)
def test_rejecting_leaves_a_share_of_the_processor(rejected: float, call_seconds: float, left: float) -> None:
    """Every rejection takes what an echo takes from the cores, and never more than there is."""
    assert left_by_rejecting(rejected, call_seconds, cores=2) == left
