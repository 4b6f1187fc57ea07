"""What is asked of a load generator and what it gives back, in a form that crosses a pipe."""

from __future__ import annotations

import io
import json
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

Numbers = npt.NDArray[np.float64]

OK = 0
RESOURCE_EXHAUSTED = 8
WRONG_ANSWER = -1


@dataclass(frozen=True, slots=True)
class Target:
    """Where a system listens and how it is asked (a key of `wire.WIRES`)."""

    wire: str
    address: str


@dataclass(frozen=True, slots=True)
class Job:
    """One load, bounded in time and in number.

    Attributes:
        target: The system.
        height: Rows of a raw image.
        width: Columns of a raw image.
        dim: Numbers that an answer must have.
        seconds: How long calls are begun; those under way are then waited for.
        loop: "closed": each caller calls again when it is answered. "open": calls begin by a schedule, whatever
            becomes of them.
        callers: Callers of a closed loop.
        canceling: How many of them, the last ones, cancel each call after a random time of up to `patience` seconds.
        rate: Calls a second of an open loop.
        deadline: Seconds that a call may take.
        pause: Seconds that a caller of a closed loop rests between calls.
        image: What is sent.
        limit: The most calls; also how many JPEG files are made in advance.
        first: The first image's number; `limit` of them must be unused.
        seed: Of the schedule and the cancellations.
        connections: gRPC connections that the calls take in turn; workers of one server share out connections.
    """

    target: Target
    height: int
    width: int
    dim: int
    seconds: float
    loop: Literal["closed", "open"] = "closed"
    callers: int = 1
    canceling: int = 0
    patience: float = 1.0
    rate: float = 0.0
    deadline: float = 60.0
    pause: float = 0.0
    image: Literal["raw", "jpeg"] = "raw"
    limit: int = 1_000_000
    first: int = 0
    seed: int = 0
    connections: int = 1

    def line(self) -> bytes:
        """As one line of JSON."""
        return json.dumps(asdict(self)).encode() + b"\n"

    @classmethod
    def of(cls, line: bytes) -> Job:
        """Read back what `line` wrote."""
        fields: dict[str, Any] = json.loads(line)
        return cls(**fields | {"target": Target(**fields["target"])})


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of the calls of a job: float64 arrays with one entry a call, in the order of their ends.

    Attributes:
        caller: Which caller of a closed loop; 0 in an open one.
        sent: Seconds from the start to the moment the call was meant to be sent.
        ended: Seconds from the start to its end.
        code: The gRPC status, or `WRONG_ANSWER`.
        queue_us: Microseconds that it waited for a batch; -1 where the system does not tell.
        elapsed: Seconds from the start to the last end.
        fault: What the first wrong or failed answer said.
    """

    caller: Numbers
    sent: Numbers
    ended: Numbers
    code: Numbers
    queue_us: Numbers
    elapsed: float
    fault: str = field(default="")

    @property
    def latency(self) -> Numbers:
        """Seconds of the calls that were answered, from the moment they were meant to be sent."""
        answered = self.code == OK
        seconds: Numbers = self.ended[answered] - self.sent[answered]
        return seconds

    @property
    def throughput(self) -> float:
        """Answers a second, from the first call to the end of the last one."""
        return float((self.code == OK).sum()) / self.elapsed

    def pack(self) -> bytes:
        """For the pipe."""
        file = io.BytesIO()
        calls = np.stack([self.caller, self.sent, self.ended, self.code, self.queue_us])
        np.savez(file, calls=calls, elapsed=self.elapsed, fault=self.fault)
        return file.getvalue()

    @classmethod
    def unpack(cls, data: bytes) -> Outcome:
        """Read back what `pack` wrote."""
        with np.load(io.BytesIO(data)) as arrays:
            return cls.of(arrays["calls"], float(arrays["elapsed"]), str(arrays["fault"]))

    @classmethod
    def of(cls, columns: Numbers, elapsed: float, fault: str) -> Outcome:
        """Of float64 [5, calls]: caller, sent, ended, code and queue_us."""
        caller, sent, ended, code, queue_us = columns
        return cls(caller, sent, ended, code, queue_us, elapsed, fault)
