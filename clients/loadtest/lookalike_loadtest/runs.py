"""One measurement, or the many of a capacity search: phases run by the workers, counted, and ended early if need be."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

from lookalike_loadtest.capacity_search import CapacitySearch
from lookalike_loadtest.plan import Kind, Phase
from lookalike_loadtest.stats import Stats
from lookalike_loadtest.worker_pool import WorkerPool

INTERRUPT_PATIENCE_S = 2.0
"""How long answers are waited for after Ctrl-C."""

_PROBE_CONCURRENCY = 8
_PROBE_S = 3.0
_LOWEST_START = 1.0


@dataclass(slots=True)
class Measurement:
    """The outcome of one phase.

    Attributes:
        phase: What was to be done.
        stats: What was counted.
        seconds: How long calls were sent, the warm-up not included.
        stopped: Whether that is shorter than the phase.
    """

    phase: Phase
    stats: Stats
    seconds: float
    stopped: bool = False


@dataclass(frozen=True, slots=True)
class CapacityGoal:
    """What a rate must meet, and how thoroughly the highest such rate is searched for.

    Attributes:
        p99_ms: 99 of 100 answers take at most this long.
        failed_share: At most this share of all calls fails, 0 to 1.
        resolution: How closely the rate is wanted: 0.05 is 5 %.
        calls: Each rate is tried for at least so many calls.
        budget: Seconds for the whole search.
        start: The first rate; None to start from a short closed loop.
    """

    p99_ms: float
    failed_share: float = 0.001
    resolution: float = 0.05
    calls: int = 1000
    budget: float = 600.0
    start: float | None = None


@dataclass(slots=True)
class CapacityStep:
    """One rate that was tried, and the reason if it missed the goal."""

    rate: float
    measurement: Measurement
    met: bool
    reason: str


@dataclass(slots=True)
class Capacity:
    """The outcome of a capacity search.

    Attributes:
        goal: The goal.
        steps: Every rate that was tried, in that order.
        highest_met: The highest rate that met the goal, or None.
        lowest_missed: The lowest rate that missed it, or None.
        found: Whether the two are as close as the goal's resolution.
        ended_because: Why the search ended, a clause.
    """

    goal: CapacityGoal
    steps: list[CapacityStep] = field(default_factory=list)
    highest_met: float | None = None
    lowest_missed: float | None = None
    found: bool = False
    ended_because: str = ""

    @property
    def best(self) -> CapacityStep | None:
        """The step of the highest rate that met the goal."""
        return next((step for step in reversed(self.steps) if step.met and step.rate == self.highest_met), None)


Watch = Callable[[Stats, Phase, float, int], None]
"""Shown the stats several times a second, with their phase, the seconds since the measurement began and the calls under
way."""


class LoadRunner:
    """Runs phases on connected workers.

    Args:
        pool: The workers.
        kinds: The kinds of the workload, in the order of the workers' requests.
        watch: Is shown the progress.
        interrupted: Whether the user wants to end.
    """

    def __init__(self, pool: WorkerPool, kinds: Sequence[Kind], watch: Watch, interrupted: Callable[[], bool]) -> None:
        self._pool = pool
        self._kinds = kinds
        self._watch = watch
        self._interrupted = interrupted

    def measure(self, phase: Phase, goal: CapacityGoal | None = None) -> Measurement:
        """Run one phase; with a goal only for as long as it may still be met."""
        stats = Stats(self._kinds, goal.p99_ms if goal else None)
        begun = time.monotonic() + phase.warmup
        ended: float | None = None

        def until() -> float | None:
            nonlocal ended
            now = time.monotonic()
            self._watch(stats, phase, now - begun, self._pool.outstanding)
            patience = None
            if self._interrupted():
                patience = INTERRUPT_PATIENCE_S
            elif goal is not None and _is_hopeless(stats, phase, goal):
                patience = phase.deadline
            if patience is not None and ended is None:
                ended = now
            return patience

        self._pool.run(phase, stats.add, until)
        if not self._pool.pids and ended is None:
            ended = time.monotonic()
        seconds = phase.seconds if ended is None else min(phase.seconds, max(0.0, ended - begun))
        return Measurement(phase, stats, seconds, stopped=seconds < phase.seconds)

    def find_capacity(self, phase: Phase, goal: CapacityGoal) -> Capacity:
        """Search for the highest rate that meets the goal; `phase` says how each rate is tried."""
        capacity = Capacity(goal)
        until = time.monotonic() + goal.budget
        search = CapacitySearch(goal.start or self._start(phase), goal.resolution)
        while (rate := search.rate) is not None:
            seconds = max(phase.seconds, goal.calls / rate)
            if time.monotonic() + phase.warmup + seconds > until:
                capacity.ended_because = (
                    f"the next rate, {rate:,.1f}/s, needs {seconds:.0f} s, and the {goal.budget:.0f} s are used up"
                )
                break
            step = self._try(replace(phase, rate=rate, seconds=seconds, seed=phase.seed + len(capacity.steps)), goal)
            if self._interrupted():
                capacity.ended_because = "it was interrupted"
                break
            capacity.steps.append(step)
            if self._pool.lost:
                capacity.ended_because = "a worker process was lost"
                break
            search.judge(met=step.met)
            if search.lowest_missed == rate and only_late(step.measurement.stats, goal):
                capacity.ended_because = (
                    f"at {rate:,.1f}/s it was the load test that was too slow, which says nothing about the server"
                )
                break
        capacity.highest_met, capacity.lowest_missed = search.highest_met, search.lowest_missed
        capacity.found = search.found
        capacity.ended_because = capacity.ended_because or _why_over(search, goal)
        return capacity

    def _start(self, phase: Phase) -> float:
        """Return half of the rate of a short closed loop."""
        probe = replace(phase, rate=None, concurrency=_PROBE_CONCURRENCY, seconds=_PROBE_S)
        measured = self.measure(probe)
        return max(_LOWEST_START, measured.stats.answered / max(measured.seconds, 1e-3) / 2)

    def _try(self, phase: Phase, goal: CapacityGoal) -> CapacityStep:
        measurement = self.measure(phase, goal)
        reason = _why_missed(measurement.stats, goal)
        return CapacityStep(phase.rate or 0.0, measurement, not reason, reason)


def is_late(measurement: Measurement) -> bool:
    """Whether the load test, not the server, made more than a tenth of the 99th percentile of the latencies."""
    if not measurement.phase.is_open:
        return False
    stats = measurement.stats
    lag, latency = stats.lag.at(99), stats.latency.at(99)
    if lag is None or latency is None:
        return False
    return lag > max(1.0, 0.1 * latency)


def only_late(stats: Stats, goal: CapacityGoal) -> bool:
    """Whether the load test alone missed the goal: counted from when calls were actually sent, it was met."""
    p99 = stats.service.at(99)
    failed = stats.failed - stats.not_sent
    return p99 is not None and p99 <= goal.p99_ms and failed <= goal.failed_share * stats.calls


def _why_missed(stats: Stats, goal: CapacityGoal) -> str:
    """Return why a rate misses the goal; empty where it does not."""
    if stats.failed_share > goal.failed_share:
        worst = next(name for name in stats.code_counts() if name != "OK")
        return f"{stats.failed_share:.2%} of the calls failed, most with {worst}"
    p99 = stats.latency.at(99)
    if p99 is None:
        return "no call was answered"
    return f"the p99 was {p99:,.1f} ms" if p99 > goal.p99_ms else ""


def _is_hopeless(stats: Stats, phase: Phase, goal: CapacityGoal) -> bool:
    """Whether the goal is missed whatever comes: by twice as many calls as it allows, and some for chance."""
    calls = (phase.rate or 0.0) * phase.seconds
    return stats.slow > 5 + 0.02 * calls or stats.failed > 5 + 2 * goal.failed_share * calls


def _why_over(search: CapacitySearch, goal: CapacityGoal) -> str:
    if search.found:
        return f"the highest rate that met the goal and the lowest that missed it are within {goal.resolution:.0%}"
    return f"even {search.lowest_missed or 0:,.1f}/s, the lowest rate tried, missed the goal"
