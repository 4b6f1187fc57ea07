"""What the server does under more than it can do, and with callers that give up: figures 5 and 7."""

from __future__ import annotations

import numpy as np

from benchmarks.figures.bench import Bench, Figure
from benchmarks.jobs import OK, RESOURCE_EXHAUSTED, Outcome, Target
from benchmarks.rounds import Spread, paired

DEADLINE = 0.5
OVERLOAD = 3.0


def overload(bench: Bench, ours: Target, goodput_bound: float, rejection_bound_ms: float) -> list[Figure]:
    """Three times as many calls as it can answer, each with a deadline: what comes in time, and how it rejects."""
    capacity = bench.warm(ours).throughput
    seconds = max(bench.seconds, 4 * DEADLINE)

    def flood() -> Outcome:
        return bench.run(ours, loop="open", rate=OVERLOAD * capacity, deadline=DEADLINE, seconds=seconds)

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
    return [
        Figure(
            "overload: in time",
            "capacity",
            in_time,
            f">= {goodput_bound}",
            in_time.median >= goodput_bound,
            details,
        ),
        Figure(
            "overload: rejection, ms",
            "call's start",
            rejected,
            f"<= {rejection_bound_ms}",
            rejected.median <= rejection_bound_ms,
            {"codes": details["codes"]},
        ),
    ]


def canceling(bench: Bench, ours: Target, bound: float) -> Figure:
    """Half of the callers cancel every call at a random moment: what the others still get of their share."""
    calm = bench.warm(ours)
    patience = float(np.median(calm.latency))
    hasty = bench.callers // 2
    patient = bench.callers - hasty
    share = patient / bench.callers
    pairs = paired(
        lambda: bench.closed(ours),
        lambda: bench.run(ours, canceling=hasty, patience=patience),
        bench.rounds,
    )

    def rest(outcome: Outcome) -> float:
        answered = (outcome.caller < patient) & (outcome.code == OK)
        return float(answered.sum()) / float(outcome.ended[outcome.caller < patient].max())

    value = pairs.spread(lambda calm, mixed: rest(mixed) / (share * calm.throughput))
    details = {
        "capacity_per_s": [outcome.throughput for outcome in pairs.first],
        "rest_per_s": [rest(outcome) for outcome in pairs.second],
        "cancel_after_at_most_ms": patience * 1e3,
        "canceling_callers": hasty,
        "patient_callers": patient,
    }
    return Figure("canceling: the rest", "its share of capacity", value, f">= {bound}", value.median >= bound, details)


def _goodput(outcome: Outcome, seconds: float) -> float:
    """Answers in time a second, once the queue is as full as it gets and before the schedule ends."""
    in_time = (outcome.code == OK) & (outcome.ended - outcome.sent <= DEADLINE)
    steady = (outcome.ended > DEADLINE) & (outcome.ended <= seconds)
    return float((in_time & steady).sum()) / (seconds - DEADLINE)


def _rejection_ms(outcome: Outcome) -> float:
    rejected = outcome.code == RESOURCE_EXHAUSTED
    return float(np.median(outcome.ended[rejected] - outcome.sent[rejected])) * 1e3 if rejected.any() else float("inf")


def _counts(outcome: Outcome) -> dict[str, int]:
    codes, counts = np.unique(outcome.code, return_counts=True)
    return {str(int(code)): int(number) for code, number in zip(codes, counts, strict=True)}
