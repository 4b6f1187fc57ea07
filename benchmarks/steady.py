"""What a turn of an open loop came to, once the queue is as full as it gets and before the schedule ends."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from benchmarks.load import Outcome
from lookalike_loadtest.plan import OK, code_name

REJECTED = 8
"""gRPC's code of a call that was rejected: RESOURCE_EXHAUSTED."""

LATE = "LATE"
"""Answered with OK after the deadline, as seen from the moment the call was meant to be sent."""

ACHIEVED = 0.9
"""The share of a load that must have been sent for the load to count as offered."""


@dataclass(frozen=True, slots=True)
class Steady:
    """Calls a second between the first deadline and the end of the schedule.

    Attributes:
        nominal: What was meant to be sent.
        offered: What was sent.
        goodput: Answered with OK within the deadline.
        by_code: What ended, by the name of its code; late answers are `LATE`.
        p50: Median latency of the goodput in seconds, from the moment the calls were meant to be sent; NaN without any.
        p99: The 99th percentile of the same.
        lag_p99: The 99th percentile of how late the load generator was with what it sent, in seconds.
        generator_cores: Cores that the load generator kept busy.
    """

    nominal: float
    offered: float
    goodput: float
    by_code: Mapping[str, float]
    p50: float
    p99: float
    lag_p99: float
    generator_cores: float

    @property
    def rejected(self) -> float:
        """Calls rejected a second."""
        return self.by_code.get(code_name(REJECTED), 0.0)

    @property
    def achieved(self) -> bool:
        """Whether the load generator sent what it was meant to, or nearly."""
        return self.offered >= ACHIEVED * self.nominal


def steady(outcome: Outcome, rate: float, deadline: float, seconds: float) -> Steady:
    """Return the rates of an open loop.

    Args:
        outcome: Its calls.
        rate: Calls a second that it was meant to send.
        deadline: Seconds that a call may take; the queue needs as long to become as full as it gets.
        seconds: Length of its schedule, longer than the deadline.
    """
    length = seconds - deadline
    latency = outcome.ended - outcome.sent
    in_time = (outcome.code == OK) & (latency <= deadline)
    begun = outcome.sent + outcome.lag
    sent = outcome.offered & (begun > deadline) & (begun <= seconds)
    ended = (outcome.ended > deadline) & (outcome.ended <= seconds)
    good = latency[in_time & ended]
    by_code = {
        code_name(int(code)): float((ended & (outcome.code == code) & (in_time | (code != OK))).sum()) / length
        for code in np.unique(outcome.code)
    }
    if late := float((ended & (outcome.code == OK) & ~in_time).sum()):
        by_code[LATE] = late / length
    return Steady(
        nominal=rate,
        offered=float(sent.sum()) / length,
        goodput=len(good) / length,
        by_code={name: round(each, 2) for name, each in by_code.items() if each},
        p50=float(np.percentile(good, 50)) if len(good) else float("nan"),
        p99=float(np.percentile(good, 99)) if len(good) else float("nan"),
        lag_p99=float(np.percentile(outcome.lag[sent], 99)) if sent.any() else float("nan"),
        generator_cores=outcome.generator_seconds / max(seconds, outcome.elapsed),
    )


def left_by_rejecting(rejected: float, call_seconds: float, cores: int) -> float:
    """Return the share of the processor that remains for the calls that are let in.

    Args:
        rejected: Calls rejected a second.
        call_seconds: Processor time of an echo of the same call: what no server can do without.
        cores: Cores that the server has.
    """
    return max(0.0, 1.0 - rejected * call_seconds / cores)
