"""The plan that start-up measures: what pays is kept, the rest is not, and every shape that will run is warm."""

from __future__ import annotations

import threading
from collections import Counter

import numpy as np
import pytest

from fakes import MeanColourSession
from lookalike_server.domain import Floats, Pixels
from lookalike_server.inference.ladder import Plan, measure_plan

PHOTO = np.zeros((2, 2, 3), dtype=np.uint8)


class Clock:
    """Time that passes only when somebody works."""

    def __init__(self) -> None:
        self._now = 0.0
        self._lock = threading.Lock()

    def __call__(self) -> float:
        """The moment."""
        return self._now

    def work(self, seconds: float) -> None:
        """Let time pass."""
        with self._lock:
            self._now += seconds


CLOCK = Clock()


class TimedSession(MeanColourSession):
    """Takes a set time a batch: `fixed` and so much a photo. Runs side by side take turns on the clock."""

    def __init__(self, fixed: float, each: float, *, gains: bool = True) -> None:
        self.fixed_shapes = False
        self.gains_from_lanes = gains
        self.sizes: Counter[int] = Counter()
        self._fixed, self._each = fixed, each
        self._lock = threading.Lock()

    def run(self, photos: Pixels) -> Floats:
        """Work for as long as the batch takes."""
        with self._lock:
            self.sizes[len(photos)] += 1
        CLOCK.work(self._fixed + self._each * len(photos))
        return super().run(photos)


def plan_of(wide: TimedSession, narrow: TimedSession, **settings: int) -> Plan:
    """The plan for these two sessions on two cores."""
    chosen = {"cores": 2, "max_batch": 8} | settings
    return measure_plan(lambda threads: narrow if threads == 1 else wide, PHOTO, clock=CLOCK, **chosen)


def test_batches_that_gain_are_kept() -> None:
    """Where a run has a fixed cost, larger batches pay, and the ladder climbs to the largest."""
    plan = plan_of(TimedSession(0.004, 0.0001, gains=False), TimedSession(1, 1))
    assert [rung.batch_size for rung in plan.rungs] == [1, 2, 4, 8]
    assert (plan.lanes, plan.lane_batch) == (1, 8)
    assert plan.lane is plan.wide


def test_batches_that_gain_nothing_are_not() -> None:
    """Where a batch costs what its photos cost alone, the ladder stays at small batches, which save hand-overs."""
    plan = plan_of(TimedSession(0.0, 0.004, gains=False), TimedSession(1, 1))
    assert [rung.batch_size for rung in plan.rungs] == [1, 2, 4]


def test_tiny_models_have_no_lanes() -> None:
    """Where a run takes less than handing it over, there is one lane, however well runs go side by side."""
    plan = plan_of(TimedSession(0.0001, 0.0), TimedSession(0.0, 0.00001))
    assert (plan.lanes, plan.lane is plan.wide) == (1, True)


@pytest.mark.parametrize(("seconds", "lanes", "in_place"), [(0.0001, 0, True), (0.01, 0, False), (0.0001, 1, False)])
def test_only_tiny_models_run_in_place(seconds: float, lanes: int, in_place: bool) -> None:
    """The loop runs a model itself where that takes less than a thread's waking, unless lanes were asked for."""
    plan = plan_of(TimedSession(seconds, 0.0), TimedSession(seconds, 0.0), lanes=lanes)
    assert plan.in_place is in_place


def test_slow_models_are_measured_in_seconds() -> None:
    """A model that takes five seconds a photo is not tried with sixteen of them; its start takes a few runs."""
    wide = TimedSession(0.0, 5.0, gains=False)
    plan = plan_of(wide, TimedSession(1, 1), max_batch=16)
    assert plan.lane_batch == 1
    assert sum(wide.sizes.values()) < 10


def test_noise_at_one_moment_decides_nothing() -> None:
    """Candidates are measured in turns and the fastest run counts: whoever meets a slow moment gets another turn."""

    class Disturbed(TimedSession):
        def run(self, photos: Pixels) -> Floats:
            if sum(self.sizes.values()) < 4:
                CLOCK.work(0.05)
            return super().run(photos)

    plan = plan_of(TimedSession(0.0, 0.010), Disturbed(0.0, 0.004))
    assert plan.lanes == 2


@pytest.mark.parametrize(("lanes", "lane_batch"), [(1, 4), (2, 3)])
def test_given_plans_are_not_measured_for_what_pays(lanes: int, lane_batch: int) -> None:
    """What the settings give is what is run."""
    plan = plan_of(TimedSession(0.0, 0.001), TimedSession(0.0, 0.001), lanes=lanes, lane_batch=lane_batch)
    assert (plan.lanes, plan.lane_batch) == (lanes, lane_batch)
    assert [rung.batch_size for rung in plan.rungs] == ([1, 2, 4] if lane_batch == 4 else [1, 2, 3])


def test_every_size_that_can_run_is_warm() -> None:
    """Without padding every size up to the largest has run before the first caller comes."""
    wide = TimedSession(0.0, 0.0005)
    plan_of(wide, TimedSession(0.0, 0.001), lanes=1, lane_batch=6)
    assert set(wide.sizes) == {1, 2, 3, 4, 5, 6}


def test_fixed_shapes_warm_their_rungs_only() -> None:
    """With padding only the rungs run, and every batch is padded to the next of them."""
    wide = TimedSession(0.002, 0.0001, gains=False)
    wide.fixed_shapes = True
    plan = plan_of(wide, TimedSession(1, 1), max_batch=6, lane_batch=6)
    assert set(wide.sizes) == {1, 2, 4, 6}
    assert [plan.padded(size) for size in range(1, 7)] == [1, 2, 4, 4, 6, 6]


def test_lanes_that_pay_are_kept() -> None:
    """Where narrow runs side by side answer more photos, a busy server runs them; a single photo still runs wide."""
    wide, narrow = TimedSession(0.0, 0.010), TimedSession(0.0, 0.004)
    plan = plan_of(wide, narrow)
    assert plan.lanes == 2
    assert plan.lane is narrow
    assert plan.wide is wide
    assert [rung.lanes for rung in plan.ladder] == [1, *[2] * len(plan.rungs)]
