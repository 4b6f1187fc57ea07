"""The plan that start-up measures: what pays is chosen, the rest is not, and every shape that will run is warm."""

from __future__ import annotations

import threading
from collections import Counter

import numpy as np
import pytest

from lookalike_server.config import Settings
from lookalike_server.config_loading import load_settings
from lookalike_server.domain.inference import Floats, Pixels
from lookalike_server.engine.runtime_choice import plan_model
from lookalike_server.inference.autotune import measure_plan
from lookalike_server.inference.manifest import ModelFolder, read_model_folder
from lookalike_server.inference.plan import Plan
from support.fakes import MeanColorSession
from support.paths import MODELS

IMAGE = np.zeros((2, 2, 3), dtype=np.uint8)


class Clock:
    """Time that passes only in `work`."""

    def __init__(self) -> None:
        self._now = 0.0
        self._lock = threading.Lock()

    def __call__(self) -> float:
        """Return the time in seconds."""
        return self._now

    def work(self, seconds: float) -> None:
        """Let time pass."""
        with self._lock:
            self._now += seconds


CLOCK = Clock()


class TimedSession(MeanColorSession):
    """Takes `fixed` seconds per batch and `each` per image; the clock adds up concurrent runs."""

    def __init__(self, fixed: float, each: float, *, gains: bool = True) -> None:
        self.fixed_shapes = False
        self.gains_from_concurrency = gains
        self.sizes: Counter[int] = Counter()
        self._fixed, self._each = fixed, each
        self._lock = threading.Lock()

    def run(self, images: Pixels) -> Floats:
        """Advance the clock by the time of the batch."""
        with self._lock:
            self.sizes[len(images)] += 1
        CLOCK.work(self._fixed + self._each * len(images))
        return super().run(images)


def plan_of(all_threads: TimedSession, one_thread: TimedSession, **settings: int) -> Plan:
    """Measure a plan for sessions with all threads per run and with one, on two cores."""
    chosen = {"cores": 2, "max_batch_size": 8} | settings
    return measure_plan(
        [lambda concurrency: all_threads if concurrency == 1 else one_thread], IMAGE, clock=CLOCK, **chosen
    )


def test_larger_batches_that_pay_are_chosen() -> None:
    """Where a run has a fixed cost, larger batches pay, and the profiles reach up to the largest."""
    plan = plan_of(TimedSession(0.004, 0.0001, gains=False), TimedSession(1, 1))
    assert [profile.batch_size for profile in plan.profiles] == [1, 2, 4, 8]
    assert (plan.max_concurrent_batches, plan.preferred_batch_size) == (1, 8)
    assert plan.throughput_session is plan.latency_session


def test_larger_batches_that_gain_nothing_are_not_chosen() -> None:
    """Where a batch takes as long as its images one by one, only small batches remain, which save hand-overs."""
    plan = plan_of(TimedSession(0.0, 0.004, gains=False), TimedSession(1, 1))
    assert [profile.batch_size for profile in plan.profiles] == [1, 2, 4]


def test_tiny_models_run_one_batch_at_a_time() -> None:
    """Where a run takes less time than handing it over, there is no concurrency, however well runs scale."""
    plan = plan_of(TimedSession(0.0001, 0.0), TimedSession(0.0, 0.00001))
    assert (plan.max_concurrent_batches, plan.throughput_session is plan.latency_session) == (1, True)


@pytest.mark.parametrize(
    ("seconds", "max_concurrent_batches", "inline"), [(0.0001, 0, True), (0.01, 0, False), (0.0001, 1, False)]
)
def test_only_tiny_models_run_inline(seconds: float, max_concurrent_batches: int, inline: bool) -> None:
    """The event loop runs a model itself where waking a thread takes longer, unless the settings ask for threads."""
    plan = plan_of(
        TimedSession(seconds, 0.0), TimedSession(seconds, 0.0), max_concurrent_batches=max_concurrent_batches
    )
    assert plan.inline is inline


def test_slow_models_are_measured_with_few_runs() -> None:
    """A model that takes five seconds per image is not tried with sixteen of them; start-up takes a few runs."""
    all_threads = TimedSession(0.0, 5.0, gains=False)
    plan = plan_of(all_threads, TimedSession(1, 1), max_batch_size=16)
    assert plan.preferred_batch_size == 1
    assert sum(all_threads.sizes.values()) < 10


def test_noise_at_one_moment_decides_nothing() -> None:
    """Candidates are measured in turns and the fastest run counts, so a slow moment for one of them is made up for."""

    class Disturbed(TimedSession):
        def run(self, images: Pixels) -> Floats:
            if sum(self.sizes.values()) < 4:
                CLOCK.work(0.05)
            return super().run(images)

    plan = plan_of(TimedSession(0.0, 0.010), Disturbed(0.0, 0.004))
    assert plan.max_concurrent_batches == 2


@pytest.mark.parametrize(("max_concurrent_batches", "preferred_batch_size"), [(1, 4), (2, 3)])
def test_settings_override_what_pays(max_concurrent_batches: int, preferred_batch_size: int) -> None:
    """Concurrency and batch size from the settings are used as they are."""
    plan = plan_of(
        TimedSession(0.0, 0.001),
        TimedSession(0.0, 0.001),
        max_concurrent_batches=max_concurrent_batches,
        preferred_batch_size=preferred_batch_size,
    )
    assert (plan.max_concurrent_batches, plan.preferred_batch_size) == (max_concurrent_batches, preferred_batch_size)
    assert [profile.batch_size for profile in plan.profiles] == ([1, 2, 4] if preferred_batch_size == 4 else [1, 2, 3])


def test_every_size_is_warm() -> None:
    """Without padding every size up to the largest has run before the first call."""
    all_threads = TimedSession(0.0, 0.0005)
    plan_of(all_threads, TimedSession(0.0, 0.001), max_concurrent_batches=1, preferred_batch_size=6)
    assert set(all_threads.sizes) == {1, 2, 3, 4, 5, 6}


def test_fixed_shapes_warm_only_their_profiles() -> None:
    """With padding only the profiles' sizes run, and every batch is padded to the next of them."""
    all_threads = TimedSession(0.002, 0.0001, gains=False)
    all_threads.fixed_shapes = True
    plan = plan_of(all_threads, TimedSession(1, 1), max_batch_size=6, preferred_batch_size=6)
    assert set(all_threads.sizes) == {1, 2, 4, 6}
    assert [plan.padded(size) for size in range(1, 7)] == [1, 2, 4, 4, 6, 6]


def test_concurrency_that_pays_is_chosen() -> None:
    """Where concurrent runs have more throughput, a busy server uses them; a lone image still has every thread."""
    all_threads, one_thread = TimedSession(0.0, 0.010), TimedSession(0.0, 0.004)
    plan = plan_of(all_threads, one_thread)
    assert plan.max_concurrent_batches == 2
    assert plan.throughput_session is one_thread
    assert plan.latency_session is all_threads
    assert [profile.concurrency for profile in plan.batch_profiles] == [1, *[2] * len(plan.profiles)]


def test_concurrent_runs_have_one_thread_each() -> None:
    """The latency session is loaded with the threads of the settings, the throughput session with one."""
    threads: list[int] = []

    def load(folder: ModelFolder, settings: Settings) -> MeanColorSession:
        threads.append(settings.intra_op_threads)
        return MeanColorSession()

    settings = load_settings({"model": MODELS / "tiny", "intra_op_threads": 3, "max_concurrent_batches": 2})
    plan_model(read_model_folder(MODELS / "tiny"), settings, load)
    assert threads == [3, 1]
