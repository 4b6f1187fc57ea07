"""A quiet caller beside a greedy one: how much longer its calls take, and whether they are answered."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np

from benchmarks.load import ImageForm, LoadGenerator, Outcome, load_generator
from benchmarks.process_cost import wait_until_idle
from benchmarks.rounds import Spread, paired
from benchmarks.scenarios.bench import Bench, Result
from benchmarks.scenarios.overload import Place, closed
from benchmarks.scenarios.pressure import DEADLINE
from benchmarks.steady import Steady, steady
from benchmarks.workloads import Workload, workload_load
from lookalike_loadtest.worker_messages import WorkerConfig

QUIET = 2.0
"""Calls a second of the quiet caller."""

GREEDY = 10.0
"""The load of the greedy one, over the capacity."""

SLOWER = 1.5
"""How much longer the quiet caller's calls may take beside it."""

_AHEAD = 1.0  # seconds that the greedy caller begins before the quiet one's calls count
_FEWEST = 12  # calls of the quiet caller in a turn
_SETTLE_S = 10.0


@dataclass(frozen=True, slots=True)
class Tokens:
    """The bearer tokens by which the server tells the callers apart."""

    quiet: str
    greedy: str


@dataclass(frozen=True, slots=True)
class Turn:
    """The quiet caller's median latency in seconds and share answered, and what the greedy one did meanwhile."""

    p50: float
    answered: float
    greedy: Steady | None = None


def beside_a_greedy_caller(
    bench: Bench, place: Place, workload: Workload, form: ImageForm, tokens: Tokens
) -> list[Result]:
    """Compare the quiet caller's calls beside the greedy caller to the same calls alone, in turns."""
    seconds = max(place.seconds, _FEWEST / QUIET)
    quiet, greedy = (
        workload_load(workload, place.target, bench.model, form, token) for token in (tokens.quiet, tokens.greedy)
    )
    capacity = place.capacity or closed(bench, greedy).throughput
    with load_generator() as other, ThreadPoolExecutor(2) as threads:
        _warm(other, quiet)

        def alone() -> Turn:
            return _turn(_quiet(other, quiet, seconds))

        def beside() -> Turn:
            rate, length = GREEDY * capacity, seconds + _AHEAD
            pressing = threads.submit(bench.load.run, greedy, length, rate=rate, deadline=DEADLINE)
            calls = threads.submit(_quiet, other, quiet, seconds)
            outcome = pressing.result().check(all_answered=False)
            found = _turn(calls.result(), steady(outcome, rate, DEADLINE, length))
            wait_until_idle([place.target.pid], _SETTLE_S)
            return found

        pairs = paired(alone, beside, bench.rounds)
    offered = Spread.of([turn.greedy.offered / capacity for turn in pairs.second if turn.greedy])
    achieved = all(turn.greedy.achieved for turn in pairs.second if turn.greedy)
    load = f"{GREEDY:g}x" if achieved else f"{offered.median:.2g}x, not all of {GREEDY:g}x could be sent"
    name = f"{workload.title}, {place.name}"
    details = {
        "alone_p50_ms": [turn.p50 * 1e3 for turn in pairs.first],
        "beside_p50_ms": [turn.p50 * 1e3 for turn in pairs.second],
        "alone_answered": [turn.answered for turn in pairs.first],
        "capacity_per_s": capacity,
        "greedy_offered_per_s": [turn.greedy.offered for turn in pairs.second if turn.greedy],
        "greedy_by_code_per_s": [dict(turn.greedy.by_code) for turn in pairs.second if turn.greedy],
        "quiet_per_s": QUIET,
        "deadline_s": DEADLINE,
    }
    bench.log(f"quiet caller, {name}: the greedy one {load}, {details['greedy_by_code_per_s'][-1]} a second")  # type: ignore[index]
    return [
        Result.at_most(
            f"quiet caller's p50: {name}",
            f"alone; greedy one at {load}",
            pairs.spread(lambda a, b: b.p50 / a.p50),
            SLOWER if achieved else None,
            details,
        ),
        Result.at_least(
            f"quiet caller answered: {name}",
            f"all its calls; greedy one at {load}",
            Spread.of([turn.answered for turn in pairs.second]),
            None,
        ),
    ]


def _quiet(generator: LoadGenerator, load: WorkerConfig, seconds: float) -> Outcome:
    outcome = generator.run(load, seconds, rate=QUIET, arrivals="constant", deadline=DEADLINE, warmup=_AHEAD)
    return outcome.check(all_answered=False)


def _warm(generator: LoadGenerator, load: WorkerConfig) -> None:
    generator.run(load, 0.3, concurrency=1).check(all_answered=True)


def _turn(outcome: Outcome, greedy: Steady | None = None) -> Turn:
    """Return a turn, in which a call that was not answered counts as one that took its deadline."""
    counted = outcome.sent >= 0
    latency = outcome.ended - outcome.sent
    in_time = outcome.answered & (latency <= DEADLINE)
    taken = np.where(in_time, latency, DEADLINE)[counted]
    return Turn(float(np.median(taken)), float(in_time[counted].mean()), greedy)
