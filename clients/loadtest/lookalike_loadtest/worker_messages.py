"""What the tester and its client processes tell each other, over a socket that only they have."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

from lookalike_loadtest.plan import Phase


@dataclass(frozen=True, slots=True)
class Begin:
    """To a client: do this phase; the measurement begins at this moment of the monotonic clock."""

    phase: Phase
    begins: float


@dataclass(frozen=True, slots=True)
class Stop:
    """To a client: send nothing more, and wait at most so many seconds for answers."""

    patience: float


@dataclass(frozen=True, slots=True)
class Connected:
    """From a client: it can send."""


@dataclass(frozen=True, slots=True)
class NotConnected:
    """From a client: it cannot, and will not."""

    reason: str


class Call(NamedTuple):
    """One call that came to an end, as whole numbers; times in microseconds.

    Attributes:
        kind: Which of the mix.
        code: gRPC's, or the tester's own.
        due: When it was meant to be sent, counted from the beginning of the measurement; in a closed loop, when it was.
        latency: From then to its end.
        service: From when it was really sent; -1 where it was not.
        lag: How much later that was.
    """

    kind: int
    code: int
    due: int
    latency: int
    service: int
    lag: int


@dataclass(frozen=True, slots=True)
class News:
    """From a client, several times a second and once more at the end of a phase.

    Attributes:
        calls: Rows of `Call`, int64.
        costs: Rows of a kind and a `Cost`, int64, of some of the answers.
        messages: What was first said by each code that was not seen before in this phase.
        outstanding: Calls that are under way.
        cpu: Seconds of processor time used in this phase.
        wall: Seconds since the phase began, its warm-up included.
        last: Whether the phase is over.
    """

    calls: bytes
    costs: bytes
    messages: Mapping[int, str]
    outstanding: int
    cpu: float
    wall: float
    last: bool = False
