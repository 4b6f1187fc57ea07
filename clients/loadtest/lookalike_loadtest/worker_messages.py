"""The messages between a load test and its worker processes, over a socket that only they have."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from lookalike_loadtest.plan import Phase
from lookalike_loadtest.requests import RequestSet
from lookalike_loadtest.transports import GrpcTransport, Transport

Judge = Callable[[bytes], int]
"""Reads an answer: returns a number to record with the call, or raises ValueError, which makes it a WRONG_ANSWER."""


@dataclass(frozen=True, slots=True)
class WorkerConfig:
    """Everything that a worker needs to send calls to one server.

    Functions in it are pickled by name, so they must be importable in the worker.

    Attributes:
        target: The server's address, HOST:PORT.
        requests: The requests of each kind.
        token: The bearer token, or None.
        first_number: Where the numbers in the images begin; other tests, also earlier ones, begin elsewhere.
        connections: Connections of each worker, used in turns.
        judge: Reads every answer; None to read nothing but some response stats.
        transport: Opens what the calls are sent over, of the target and the number of connections.
    """

    target: str
    requests: Sequence[RequestSet]
    token: str | None = None
    first_number: int = 0
    connections: int = 1
    judge: Judge | None = None
    transport: Callable[[str, int], Transport] = GrpcTransport


@dataclass(frozen=True, slots=True)
class Configure:
    """To a worker: connect to this server; you are worker `index` of `of`."""

    config: WorkerConfig
    index: int
    of: int


@dataclass(frozen=True, slots=True)
class Begin:
    """To a worker: run this phase; the measurement begins at this moment of the monotonic clock."""

    phase: Phase
    begins: float


@dataclass(frozen=True, slots=True)
class Stop:
    """To a worker: send nothing more, and wait at most so many seconds for answers."""

    patience: float


@dataclass(frozen=True, slots=True)
class Connected:
    """From a worker: it can send."""


@dataclass(frozen=True, slots=True)
class NotConnected:
    """From a worker: it cannot."""

    reason: str


class Call(NamedTuple):
    """One call that came to an end, as integers; times in microseconds.

    Attributes:
        kind: The index of its kind in the workload.
        code: gRPC's status code, or one of the load test's own.
        due: When it was meant to be sent, from the beginning of the measurement; in a closed loop, when it was sent.
        latency: From then to its end.
        service: From when it was actually sent to its end; -1 where it was not sent.
        lag: How much later than `due` that was.
        judged: What the judge of the answers returned; -1 without a judge or an answer.
    """

    kind: int
    code: int
    due: int
    latency: int
    service: int
    lag: int
    judged: int = -1


@dataclass(frozen=True, slots=True)
class WorkerUpdate:
    """From a worker, several times a second and once more at the end of a phase.

    Attributes:
        calls: Rows of `Call`, int64.
        details: Rows of a kind's index and its `ResponseDetails`, int64, of some of the answers.
        messages: The first message of each code that was not seen before in this phase.
        outstanding: Calls under way.
        cpu: Seconds of processor time used in this phase.
        wall: Seconds since the phase began, its warm-up included.
        last: Whether the phase is over.
    """

    calls: bytes
    details: bytes
    messages: Mapping[int, str]
    outstanding: int
    cpu: float
    wall: float
    last: bool = False
