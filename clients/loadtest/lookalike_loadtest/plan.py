"""What a load test is asked to do: plain frozen values, which also travel to the client processes."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Literal

import grpc

Arrivals = Literal["poisson", "constant"]


class Kind(StrEnum):
    """A kind of query."""

    EMBED = "embed"
    SEARCH_IMAGE = "search-image"
    SEARCH_VECTOR = "search-vector"
    SEARCH_ID = "search-id"

    @property
    def has_image(self) -> bool:
        """Whether it carries an image."""
        return self in (Kind.EMBED, Kind.SEARCH_IMAGE)

    @property
    def searches(self) -> bool:
        """Whether it needs products to find."""
        return self is not Kind.EMBED


Mix = dict[Kind, float]
"""The kinds to ask and their shares, each greater than 0, of any sum."""

OK = 0
NOT_SENT = 1000
"""The tester's own code: no call could be sent within a deadline of its time."""
UNFINISHED = 1001
"""The tester's own code: no answer yet when the test was cut short."""

_NAMES = {code.value[0]: code.name for code in grpc.StatusCode} | {NOT_SENT: "NOT_SENT", UNFINISHED: "UNFINISHED"}


def code_name(code: int) -> str:
    """What reports call a code: gRPC's name, or the tester's."""
    return _NAMES.get(code, f"CODE_{code}")


@dataclass(frozen=True, slots=True)
class Phase:
    """One stretch of load.

    Attributes:
        seconds: How long calls are meant to be sent, after the warm-up.
        warmup: Seconds of the same load before, which are not recorded.
        deadline: Seconds a call may take, and that one may wait to be sent.
        rate: Calls a second of an open loop, whatever is outstanding; None for a closed loop.
        arrivals: How an open loop's calls are spaced: independent of each other, or evenly.
        callers: Callers of a closed loop, each with one call at a time; None for an open loop.
        seed: Draws arrivals and queries; the same for all processes.
        max_outstanding: Calls that all processes together may have under way.
    """

    seconds: float
    warmup: float
    deadline: float
    rate: float | None = None
    arrivals: Arrivals = "poisson"
    callers: int | None = None
    seed: int = 1
    max_outstanding: int = 10_000

    @property
    def is_open(self) -> bool:
        """Whether it is an open loop."""
        return self.rate is not None
