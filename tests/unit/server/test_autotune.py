"""The plan that start-up measures: what pays is kept, the rest is not, and every shape that will run is warm."""

from __future__ import annotations

import threading
from collections import Counter

import numpy as np
import pytest

from lookalike_server.domain.inference import Floats, Pixels
from lookalike_server.inference.autotune import Plan, measure_plan
from support.fakes import MeanColorSession

IMAGE = np.zeros((2, 2, 3), dtype=np.uint8)


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


class TimedSession(MeanColorSession):
    """Takes a set time a batch: `fixed` and so much an image. Runs side by side take turns on the clock."""

    def __init__(self, fixed: float, each: float, *, gains: bool = True) -> None:
        self.fixed_shapes = False
        self.gains_from_lanes = gains
        self.sizes: Counter[int] = Counter()
        self._fixed, self._each = fixed, each
        self._lock = threading.Lock()

    def run(self, images: Pixels) -> Floats:
        """Work for as long as the batch takes."""
        with self._lock:
            self.sizes[len(images)] += 1
        CLOCK.work(self._fixed + self._each * len(images))
        return super().run(images)


def plan_of(wide: TimedSession, narrow: TimedSession, **settings: int) -> Plan:
    """The plan for these two sessions on two cores."""
    chosen = {"cores": 2, "max_batch_size": 8} | settings
    return measure_plan(lambda threads: narrow if threads == 1 else wide, IMAGE, clock=CLOCK, **chosen)


def test_batches_that_gain_are_kept() -> None:
    """Where a run has a fixed cost, larger batches pay, and the batch_profiles climbs to the largest."""
    plan = plan_of(TimedSession(0.004, 0.0001, gains=False), TimedSession(1, 1))
    assert [profile.batch_size for profile in plan.profiles] == [1, 2, 4, 8]
    assert (plan.max_concurrent_batches, plan.preferred_batch_size) == (1, 8)
    assert plan.throughput_session is plan.latency_session


def test_batches_that_gain_nothing_are_not() -> None:
    """Where a batch costs what its images cost alone, the batch_profiles stays at small batches, which save hand-overs."""
    plan = plan_of(TimedSession(0.0, 0.004, gains=False), TimedSession(1, 1))
    assert [profile.batch_size for profile in plan.profiles] == [1, 2, 4]


def test_tiny_models_have_no_lanes() -> None:
    """Where a run takes less than handing it over, there is one lane, however well runs go side by side."""
    plan = plan_of(TimedSession(0.0001, 0.0), TimedSession(0.0, 0.00001))
    assert (plan.max_concurrent_batches, plan.throughput_session is plan.latency_session) == (1, True)


@pytest.mark.parametrize(
    ("seconds", "max_concurrent_batches", "inline"), [(0.0001, 0, True), (0.01, 0, False), (0.0001, 1, False)]
)
def test_only_tiny_models_run_in_place(seconds: float, max_concurrent_batches: int, inline: bool) -> None:
    """The loop runs a model itself where that takes less than a thread's waking, unless max_concurrent_batches were asked for."""
    plan = plan_of(
        TimedSession(seconds, 0.0), TimedSession(seconds, 0.0), max_concurrent_batches=max_concurrent_batches
    )
    assert plan.inline is inline


def test_slow_models_are_measured_in_seconds() -> None:
    """A model that takes five seconds an image is not tried with sixteen of them; its start takes a few runs."""
    wide = TimedSession(0.0, 5.0, gains=False)
    plan = plan_of(wide, TimedSession(1, 1), max_batch_size=16)
    assert plan.preferred_batch_size == 1
    assert sum(wide.sizes.values()) < 10


def test_noise_at_one_moment_decides_nothing() -> None:
    """Candidates are measured in turns and the fastest run counts: whoever meets a slow moment gets another turn."""

    class Disturbed(TimedSession):
        def run(self, images: Pixels) -> Floats:
            if sum(self.sizes.values()) < 4:
                CLOCK.work(0.05)
            return super().run(images)

    plan = plan_of(TimedSession(0.0, 0.010), Disturbed(0.0, 0.004))
    assert plan.max_concurrent_batches == 2


@pytest.mark.parametrize(("max_concurrent_batches", "preferred_batch_size"), [(1, 4), (2, 3)])
def test_given_plans_are_not_measured_for_what_pays(max_concurrent_batches: int, preferred_batch_size: int) -> None:
    """What the settings give is what is run."""
    plan = plan_of(
        TimedSession(0.0, 0.001),
        TimedSession(0.0, 0.001),
        max_concurrent_batches=max_concurrent_batches,
        preferred_batch_size=preferred_batch_size,
    )
    assert (plan.max_concurrent_batches, plan.preferred_batch_size) == (max_concurrent_batches, preferred_batch_size)
    assert [profile.batch_size for profile in plan.profiles] == ([1, 2, 4] if preferred_batch_size == 4 else [1, 2, 3])


def test_every_size_that_can_run_is_warm() -> None:
    """Without padding every size up to the largest has run before the first caller comes."""
    wide = TimedSession(0.0, 0.0005)
    plan_of(wide, TimedSession(0.0, 0.001), max_concurrent_batches=1, preferred_batch_size=6)
    assert set(wide.sizes) == {1, 2, 3, 4, 5, 6}


def test_fixed_shapes_warm_their_rungs_only() -> None:
    """With padding only the profiles run, and every batch is padded to the next of them."""
    wide = TimedSession(0.002, 0.0001, gains=False)
    wide.fixed_shapes = True
    plan = plan_of(wide, TimedSession(1, 1), max_batch_size=6, preferred_batch_size=6)
    assert set(wide.sizes) == {1, 2, 4, 6}
    assert [plan.padded(size) for size in range(1, 7)] == [1, 2, 4, 4, 6, 6]


def test_lanes_that_pay_are_kept() -> None:
    """Where narrow runs side by side answer more images, a busy server runs them; a single image still runs wide."""
    wide, narrow = TimedSession(0.0, 0.010), TimedSession(0.0, 0.004)
    plan = plan_of(wide, narrow)
    assert plan.max_concurrent_batches == 2
    assert plan.throughput_session is narrow
    assert plan.latency_session is wide
    assert [profile.concurrency for profile in plan.batch_profiles] == [1, *[2] * len(plan.profiles)]
