"""One measurement, or the many of a ramp: phases done by the crew, counted, and ended early where that is right."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

from lookalike_loadtest.capacity_search import KneeSearch
from lookalike_loadtest.plan import Kind, Phase
from lookalike_loadtest.stats import Tally
from lookalike_loadtest.worker_pool import Crew

INTERRUPT_PATIENCE_S = 2.0
"""How long answers are waited for after Ctrl-C."""

_PROBE_CALLERS = 8
_PROBE_S = 3.0
_LEAST_START = 1.0


@dataclass(slots=True)
class Measurement:
    """What came of one phase.

    Attributes:
        phase: What was asked.
        tally: What was counted.
        seconds: How long calls were sent, the warm-up not counted.
        stopped: Whether that is less than was asked.
    """

    phase: Phase
    tally: Tally
    seconds: float
    stopped: bool = False


@dataclass(frozen=True, slots=True)
class Goal:
    """What a rate must hold to, and how hard it is looked for.

    Attributes:
        p99_ms: 99 of 100 answers take at most this long.
        failed_share: At most this share of all calls fails, 0 to 1.
        resolution: How closely the rate is wanted: 0.05 is 5 %.
        calls: Each rate is tried for at least so many calls.
        budget: Seconds for all of it.
        start: The first rate; None to ask a short closed loop.
    """

    p99_ms: float
    failed_share: float = 0.001
    resolution: float = 0.05
    calls: int = 1000
    budget: float = 600.0
    start: float | None = None


@dataclass(slots=True)
class Step:
    """One rate that was tried."""

    rate: float
    measurement: Measurement
    held: bool
    why: str


@dataclass(slots=True)
class Ramp:
    """What came of a ramp.

    Attributes:
        goal: What was asked.
        steps: Every rate that was tried, in that order.
        held: The highest rate that held, or None.
        broke: The lowest that broke, or None.
        found: Whether the two are as close as was asked.
        why: Why the search ended, a sentence.
    """

    goal: Goal
    steps: list[Step] = field(default_factory=list)
    held: float | None = None
    broke: float | None = None
    found: bool = False
    why: str = ""

    @property
    def best(self) -> Step | None:
        """The try of the highest rate that held."""
        return next((step for step in reversed(self.steps) if step.held and step.rate == self.held), None)


Watch = Callable[[Tally, Phase, float, int], None]
"""Shown the tally several times a second, with its phase, the seconds since its measurement began and the calls under
way."""


class Tester:
    """Runs phases with a crew.

    Args:
        crew: The client processes.
        kinds: The kinds of the mix.
        watch: Is shown how it goes.
        interrupted: Whether the user wants an end.
    """

    def __init__(self, crew: Crew, kinds: Sequence[Kind], watch: Watch, interrupted: Callable[[], bool]) -> None:
        self._crew = crew
        self._kinds = kinds
        self._watch = watch
        self.interrupted = interrupted

    def measure(self, phase: Phase, goal: Goal | None = None) -> Measurement:
        """Do one phase; with a goal only for as long as it may still be met."""
        tally = Tally(self._kinds, goal.p99_ms if goal else None)
        begun = time.monotonic() + phase.warmup
        ended: float | None = None

        def until() -> float | None:
            nonlocal ended
            now = time.monotonic()
            self._watch(tally, phase, now - begun, self._crew.outstanding())
            patience = None
            if self.interrupted():
                patience = INTERRUPT_PATIENCE_S
            elif goal is not None and _is_hopeless(tally, phase, goal):
                patience = phase.deadline
            if patience is not None and ended is None:
                ended = now
            return patience

        self._crew.run(phase, tally.hear, until)
        if not self._crew.pids and ended is None:
            ended = time.monotonic()
        seconds = phase.seconds if ended is None else min(phase.seconds, max(0.0, ended - begun))
        return Measurement(phase, tally, seconds, stopped=seconds < phase.seconds)

    def ramp(self, phase: Phase, goal: Goal) -> Ramp:
        """Look for the highest rate that meets the goal; `phase` says how each is tried."""
        ramp = Ramp(goal)
        until = time.monotonic() + goal.budget
        search = KneeSearch(goal.start or self._start(phase), goal.resolution)
        while (rate := search.rate) is not None:
            seconds = max(phase.seconds, goal.calls / rate)
            if time.monotonic() + phase.warmup + seconds > until:
                ramp.why = (
                    f"the next rate, {rate:,.1f}/s, needs {seconds:.0f} s, and the {goal.budget:.0f} s are used up"
                )
                break
            step = self._try(replace(phase, rate=rate, seconds=seconds, seed=phase.seed + len(ramp.steps)), goal)
            if self.interrupted():
                ramp.why = "it was interrupted"
                break
            ramp.steps.append(step)
            if self._crew.lost:
                ramp.why = "a client process was lost"
                break
            search.judge(held=step.held)
            if search.broke == rate and only_late(step.measurement.tally, goal):
                ramp.why = f"at {rate:,.1f}/s it was the tester that was too slow, which says nothing of the server"
                break
        ramp.held, ramp.broke, ramp.found = search.held, search.broke, search.found
        ramp.why = ramp.why or _why_over(search, goal)
        return ramp

    def _start(self, phase: Phase) -> float:
        """Half of what a short closed loop gets through."""
        probe = replace(phase, rate=None, callers=_PROBE_CALLERS, seconds=_PROBE_S)
        measured = self.measure(probe)
        return max(_LEAST_START, measured.tally.answered / max(measured.seconds, 1e-3) / 2)

    def _try(self, phase: Phase, goal: Goal) -> Step:
        measurement = self.measure(phase, goal)
        why = _why_broken(measurement.tally, goal)
        return Step(phase.rate or 0.0, measurement, not why, why)


def is_late(measurement: Measurement) -> bool:
    """Whether the tester, not the server, made more than a tenth of the 99th percentile of the latencies."""
    if not measurement.phase.is_open:
        return False
    tally = measurement.tally
    lag, latency = tally.lag.at(99), tally.latency.at(99)
    if lag is None or latency is None:
        return False
    return lag > max(1.0, 0.1 * latency)


def only_late(tally: Tally, goal: Goal) -> bool:
    """Whether the tester alone missed the goal: counted from when calls were really sent, it was met."""
    p99 = tally.service.at(99)
    failed = tally.failed - tally.not_sent
    return p99 is not None and p99 <= goal.p99_ms and failed <= goal.failed_share * tally.calls


def _why_broken(tally: Tally, goal: Goal) -> str:
    """Why a rate does not meet the goal; empty where it does."""
    if tally.failed_share > goal.failed_share:
        worst = next(name for name in tally.code_counts() if name != "OK")
        return f"{tally.failed_share:.2%} of the calls failed, most with {worst}"
    p99 = tally.latency.at(99)
    if p99 is None:
        return "no call was answered"
    return f"the p99 was {p99:,.1f} ms" if p99 > goal.p99_ms else ""


def _is_hopeless(tally: Tally, phase: Phase, goal: Goal) -> bool:
    """Whether the goal is missed whatever comes: by twice as many calls as it allows, and some for chance."""
    calls = (phase.rate or 0.0) * phase.seconds
    return tally.slow > 5 + 0.02 * calls or tally.failed > 5 + 2 * goal.failed_share * calls


def _why_over(search: KneeSearch, goal: Goal) -> str:
    if search.found:
        return f"the highest rate that held and the lowest that broke are within {goal.resolution:.0%}"
    return f"even {search.broke or 0:,.1f}/s, the lowest rate tried, broke"
