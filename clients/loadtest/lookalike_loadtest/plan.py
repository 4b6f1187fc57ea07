"""What a load test sends and how: plain frozen values, which also travel to the worker processes."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Literal

import grpc

Arrivals = Literal["poisson", "constant"]


class Kind(StrEnum):
    """A kind of request in a workload."""

    EMBED = "embed"
    SEARCH_IMAGE = "search-image"
    SEARCH_VECTOR = "search-vector"
    SEARCH_ID = "search-id"

    @property
    def has_image(self) -> bool:
        """Whether its requests carry an image."""
        return self in (Kind.EMBED, Kind.SEARCH_IMAGE)

    @property
    def searches(self) -> bool:
        """Whether it needs products to find."""
        return self is not Kind.EMBED


Shares = dict[Kind, float]
"""The kinds of a workload and their shares, each greater than 0, of any sum."""

OK = grpc.StatusCode.OK.value[0]
CANCELLED = grpc.StatusCode.CANCELLED.value[0]
NOT_SENT = 1000
"""The load test's own code: the call could not be sent within a deadline of its time."""
UNFINISHED = 1001
"""The load test's own code: no answer yet when the test was cut short."""
WRONG_ANSWER = 1002
"""The load test's own code: answered with OK, and rejected by the judge of the answers."""

_NAMES = {code.value[0]: code.name for code in grpc.StatusCode}
_NAMES |= {NOT_SENT: "NOT_SENT", UNFINISHED: "UNFINISHED", WRONG_ANSWER: "WRONG_ANSWER"}


def code_name(code: int) -> str:
    """Return the name of a code, gRPC's or the load test's own."""
    return _NAMES.get(code, f"CODE_{code}")


@dataclass(frozen=True, slots=True)
class Phase:
    """One stretch of load.

    Attributes:
        seconds: How long calls are meant to be sent, after the warm-up.
        warmup: Seconds of the same load before, which are not recorded.
        deadline: Seconds a call may take, and may wait to be sent.
        rate: Calls a second of an open loop, whatever is outstanding; None for a closed loop.
        arrivals: How an open loop's calls are spaced: independent of each other, or evenly.
        concurrency: Calls that a closed loop keeps under way; None for an open loop.
        think_time: Seconds that a closed loop waits between an answer and the next call.
        cancel_within: A closed loop cancels each call after a random time of up to so many seconds; None for never.
        failure_pause: Seconds that a closed loop waits after a call that failed: without it one on a server that is
            gone would fail millions of calls.
        seed: Draws arrivals and requests; the same for all workers.
        max_outstanding: Calls that all workers together may have under way.
    """

    seconds: float
    warmup: float
    deadline: float
    rate: float | None = None
    arrivals: Arrivals = "poisson"
    concurrency: int | None = None
    think_time: float = 0.0
    cancel_within: float | None = None
    failure_pause: float = 0.1
    seed: int = 1
    max_outstanding: int = 10_000

    @property
    def is_open(self) -> bool:
        """Whether it is an open loop."""
        return self.rate is not None
