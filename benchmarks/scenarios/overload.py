"""Goodput under more load than can be answered: what is answered in time, over the same at the capacity."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from benchmarks.environment import threads
from benchmarks.load import ImageForm, Outcome
from benchmarks.process_cost import processor_clock, wait_until_idle
from benchmarks.rounds import Spread
from benchmarks.scenarios.bench import Bench, Result
from benchmarks.scenarios.pressure import DEADLINE
from benchmarks.servers.base import Target
from benchmarks.steady import Steady, left_by_rejecting, steady
from benchmarks.workloads import Workload, as_echo, workload_load
from lookalike_loadtest.worker_messages import WorkerConfig

CALM = 0.8
"""The load, over the capacity, that latencies are compared to."""

GOODPUT_AT_A_PACE = {2.0: 0.95, 5.0: 0.90, 10.0: 0.80}
"""What must remain of the goodput where only the model is scarce, by the load over the capacity."""

GOODPUT_AT_FULL_SPEED = 0.9
"""What must remain of the goodput that rejecting leaves, where calls and rejections share the processor."""

SLOWER = 2.0
"""How much longer the slowest accepted calls may take than at `CALM`."""

_SETTLE_S = 10.0


@dataclass(frozen=True, slots=True)
class Place:
    """Where a workload is measured.

    Attributes:
        name: What the table calls it.
        target: Our server, with the catalog of the workloads.
        echo: An echo, where the processor is what is scarce; None where it is a device.
        capacity: Calls a second that it can answer; None to measure it in every round.
        seconds: Length of a turn.
    """

    name: str
    target: Target
    echo: Target | None
    capacity: float | None
    seconds: float


@dataclass(frozen=True, slots=True)
class Call:
    """Processor time of an echo of a call, in seconds: of the echo's process, and of both ends."""

    server: float
    both: float


@dataclass(frozen=True, slots=True)
class Round:
    """One round of a load: adjacent turns at `CALM`, at the capacity and at the load, and the capacity just before."""

    capacity: float
    calm: Steady
    full: Steady
    over: Steady
    echo: Call | None


def goodput(bench: Bench, place: Place, workload: Workload, form: ImageForm, loads: Sequence[float]) -> list[Result]:
    """Measure a workload at these loads, each over the capacity, all calls with a deadline.

    A load that the generator could not send is reported with what was sent, and judged by nothing: it shares the cores
    with the server, and Python sends one to two thousand calls a second from a process.
    """
    load = workload_load(workload, place.target, bench.model, form)
    bench.load.run(load, bench.seconds / 2, concurrency=bench.concurrency).check(all_answered=False)
    rounds = [{times: _round(bench, place, load, times) for times in loads} for _ in range(bench.rounds)]
    results = []
    for times in loads:
        results += _results(bench, place, workload, times, [each[times] for each in rounds])
    return results


def _round(bench: Bench, place: Place, load: WorkerConfig, times: float) -> Round:
    # a closed loop: what an open one offers beyond the capacity would already be overload
    capacity = place.capacity or closed(bench, load).throughput
    echo = None if place.echo is None else echo_call(bench, load, place.echo)

    def turn(over_capacity: float) -> Steady:
        rate = over_capacity * capacity
        outcome = bench.load.run(load, place.seconds, rate=rate, deadline=DEADLINE).check(all_answered=False)
        # what is left of an overload must not slow the next turn
        wait_until_idle([place.target.pid], _SETTLE_S)
        return steady(outcome, rate, DEADLINE, place.seconds)

    return Round(capacity, turn(CALM), turn(1.0), turn(times), echo)


def closed(bench: Bench, load: WorkerConfig) -> Outcome:
    """Run a closed loop whose calls must all be answered."""
    return bench.load.run(load, bench.seconds, concurrency=bench.concurrency).check(all_answered=True)


def echo_call(bench: Bench, load: WorkerConfig, echo: Target) -> Call:
    """Return what the same requests cost an echo, in a closed loop of the same concurrency."""
    before = processor_clock(echo.pid)
    outcome = closed(bench, as_echo(load, echo))
    server = (processor_clock(echo.pid) - before) / len(outcome.code)
    return Call(server, server + outcome.generator_seconds / len(outcome.code))


def _results(bench: Bench, place: Place, workload: Workload, times: float, rounds: Sequence[Round]) -> list[Result]:
    offered = Spread.of([each.over.offered / each.capacity for each in rounds])
    achieved = all(each.over.achieved for each in rounds)
    load = f"{times:g}x" if achieved else f"{offered.median:.2g}x, not all of {times:g}x could be sent"
    name = f"{workload.title}, {place.name}, {times:g}x"
    bench.log(f"{name}: {load}; {dict(rounds[-1].over.by_code)} a second")
    details = {
        "deadline_s": DEADLINE,
        "offered_over_capacity": [each.over.offered / each.capacity for each in rounds],
        "rounds": [asdict(each) for each in rounds],
    }

    def at_least(versus: str, values: Sequence[float], bound: float | None, **about: Any) -> Result:
        return Result.at_least(f"goodput: {name}", f"{versus}; {load}", Spread.of(values), bound, about)

    def at_most(what: str, values: Sequence[float], bound: float | None) -> Result:
        # rounds without any answer in time have no latency; the goodput has counted them
        known = [value for value in values if not math.isnan(value)] or [math.inf]
        return Result.at_most(f"{what}: {name}", f"p99 at {CALM:g}x; {load}", Spread.of(known), bound)

    ratios = [_over(each.over.goodput, each.full.goodput) for each in rounds]
    bound = GOODPUT_AT_A_PACE.get(times) if place.echo is None and achieved else None
    results = [at_least("1x", ratios, bound, **details)]
    if place.echo is not None:
        both, server = ([_left(each, ends) for each in rounds] for ends in ("both", "server"))
        bound = GOODPUT_AT_FULL_SPEED if achieved else None
        over_both = [_over(ratio, left) for ratio, left in zip(ratios, both, strict=True)]
        over_server = [_over(ratio, left) for ratio, left in zip(ratios, server, strict=True)]
        results += [
            at_least("what rejecting leaves, both ends of an echo", over_both, bound, left=both),
            at_least("what rejecting leaves, an echo's server", over_server, None, left=server),
        ]
    return [
        *results,
        at_most("p99", [each.over.p99 / each.calm.p99 for each in rounds], SLOWER if achieved else None),
        at_most("p50", [each.over.p50 / each.calm.p99 for each in rounds], None),
        Result.at_least(f"rejected/s: {name}", load, Spread.of([each.over.rejected for each in rounds]), None),
    ]


def _left(found: Round, ends: str) -> float:
    return left_by_rejecting(found.over.rejected, getattr(found.echo, ends), threads())


def _over(value: float, reference: float) -> float:
    return value / reference if reference else 0.0
