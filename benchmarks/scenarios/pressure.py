"""How the server behaves under more load than it can take, and with calls that are canceled."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np

from benchmarks.load import LoadGenerator, Outcome, load_generator, model_load
from benchmarks.rounds import Spread, paired
from benchmarks.scenarios.bench import Bench, Result
from benchmarks.servers.base import Target
from benchmarks.steady import REJECTED, steady
from lookalike_loadtest.plan import code_name

DEADLINE = 0.5
OVERLOAD = 3.0


def overload(bench: Bench, ours: Target, goodput_bound: float, rejection_bound_ms: float) -> list[Result]:
    """Send three times as many calls as the server can answer, each with a deadline: what is answered in time."""
    capacity = bench.warm(ours).throughput
    seconds = max(bench.seconds, 4 * DEADLINE)

    def flood() -> Outcome:
        return bench.run(ours, rate=OVERLOAD * capacity, deadline=DEADLINE, seconds=seconds)

    flood()
    pairs = paired(lambda: bench.closed(ours), flood, bench.rounds)
    in_time = pairs.spread(lambda calm, flooded: _goodput(flooded, seconds) / calm.throughput)
    rejected = Spread.of([_rejection_ms(outcome) for outcome in pairs.second])
    details = {
        "capacity_per_s": [outcome.throughput for outcome in pairs.first],
        "offered_per_s": [len(outcome.code) / seconds for outcome in pairs.second],
        "in_time_per_s": [_goodput(outcome, seconds) for outcome in pairs.second],
        "codes": [_counts(outcome) for outcome in pairs.second],
        "deadline_s": DEADLINE,
    }
    codes = {"codes": details["codes"]}
    return [
        Result.at_least("overload: in time", "capacity", in_time, goodput_bound, details),
        Result.at_most("overload: rejection, ms", "call's start", rejected, rejection_bound_ms, codes),
    ]


def canceling(bench: Bench, ours: Target, bound: float) -> Result:
    """Cancel half of the calls at a random moment: the throughput of the others.

    Both halves are sent by generators of their own in both turns, so that only the canceling differs.
    """
    within = float(np.median(bench.warm(ours).latency))
    canceling_calls = bench.concurrency // 2
    patient_calls = bench.concurrency - canceling_calls
    with load_generator() as other, ThreadPoolExecutor(2) as threads:

        def turn(**changes: Any) -> Outcome:
            halves: Sequence[tuple[LoadGenerator, dict[str, Any]]] = (
                (bench.load, {"concurrency": patient_calls}),
                (other, {"concurrency": canceling_calls} | changes),
            )
            load = model_load(ours, bench.model)
            running = [threads.submit(generator.run, load, bench.seconds, **phase) for generator, phase in halves]
            patient, rest = (each.result().check(all_answered=False) for each in running)
            del rest
            return patient.check(all_answered=True)

        turn()
        pairs = paired(turn, lambda: turn(cancel_within=within), bench.rounds)
    value = pairs.spread(lambda calm, mixed: mixed.throughput / calm.throughput)
    details = {
        "patient_per_s_without_canceling": [outcome.throughput for outcome in pairs.first],
        "patient_per_s": [outcome.throughput for outcome in pairs.second],
        "cancel_within_ms": within * 1e3,
        "canceling_calls": canceling_calls,
        "patient_calls": patient_calls,
    }
    return Result.at_least("canceling: the rest", "nobody canceling", value, bound, details)


def _goodput(outcome: Outcome, seconds: float) -> float:
    return steady(outcome, len(outcome.code) / seconds, DEADLINE, seconds).goodput


def _rejection_ms(outcome: Outcome) -> float:
    rejected = outcome.code == REJECTED
    return float(np.median((outcome.ended - outcome.sent)[rejected])) * 1e3 if rejected.any() else float("inf")


def _counts(outcome: Outcome) -> dict[str, int]:
    codes, counts = np.unique(outcome.code, return_counts=True)
    return {code_name(int(code)): int(number) for code, number in zip(codes, counts, strict=True)}
