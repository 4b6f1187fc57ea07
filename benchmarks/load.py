"""Load on a server in short turns, by the load test's own worker pool.

Closed loops show how much a server can do. Open loops show what users would wait: calls are sent by a schedule (Poisson
arrivals) and timed from the moment they were meant to be sent, so a slow server cannot slow its own load down.
"""

from __future__ import annotations

import itertools
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import cache
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from benchmarks.environment import Model
from benchmarks.images import JPEG_COUNT, jpeg_template, raw_template
from benchmarks.processes import StartError
from benchmarks.protocols import PROTOCOLS
from benchmarks.servers.base import Target
from lookalike_loadtest.plan import NOT_SENT, OK, WRONG_ANSWER, Phase, code_name
from lookalike_loadtest.requests import RequestSet
from lookalike_loadtest.worker_messages import Call, WorkerConfig, WorkerUpdate
from lookalike_loadtest.worker_pool import WorkerPool, WorkerPoolError

Floats = npt.NDArray[np.float64]
ImageForm = Literal["raw", "jpeg"]

DEADLINE_S = 60.0


@dataclass(frozen=True, slots=True)
class Outcome:
    """The calls of a turn: float64 arrays [calls], in the order of their ends.

    Attributes:
        sent: Seconds from the start to the moment the call was meant to be sent; below 0 in a warm-up.
        ended: Seconds from the start to its end.
        code: The gRPC status code, or one of the load test's own.
        judged: What the judge of the answers returned; -1 without an answer.
        lag: Seconds from the moment the call was meant to be sent to when it was, or was given up.
        generator_seconds: Processor time that the load generator's processes used.
        message: The first message of a call that was not answered rightly.
    """

    sent: Floats
    ended: Floats
    code: Floats
    judged: Floats
    lag: Floats
    generator_seconds: float = 0.0
    message: str = field(default="")

    @property
    def answered(self) -> npt.NDArray[np.bool_]:
        """Which calls were answered."""
        answered: npt.NDArray[np.bool_] = self.code == OK
        return answered

    @property
    def latency(self) -> Floats:
        """Seconds of the calls that were answered, from the moment they were meant to be sent."""
        seconds: Floats = (self.ended - self.sent)[self.answered]
        return seconds

    @property
    def offered(self) -> npt.NDArray[np.bool_]:
        """Which calls were sent at all: the others the load generator could not send within their deadline."""
        offered: npt.NDArray[np.bool_] = self.code != NOT_SENT
        return offered

    @property
    def elapsed(self) -> float:
        """Seconds from the start to the end of the last call."""
        return float(self.ended.max(initial=0.0))

    @property
    def throughput(self) -> float:
        """Answers a second, from the first call to the end of the last one."""
        return float(self.answered.sum()) / self.elapsed

    def check(self, *, all_answered: bool) -> Outcome:
        """Return this outcome if every answer was right.

        Raises:
            LoadError: An answer was wrong, or (with `all_answered`) a call was not answered.
        """
        if (self.code == WRONG_ANSWER).any():
            raise LoadError(f"a wrong answer: {self.message}")
        if all_answered and not (len(self.code) and self.answered.all()):
            raise LoadError(f"not every call was answered: {self.message or 'none was sent'}")
        return self


class LoadError(RuntimeError):
    """A turn whose outcome is good for nothing; the message says why."""


class LoadGenerator:
    """Worker processes that send one load at a time."""

    def __init__(self, pool: WorkerPool) -> None:
        self._pool = pool
        self._seeds = itertools.count(1)
        self._connected: WorkerConfig | None = None

    def run(self, config: WorkerConfig, seconds: float, **phase: Any) -> Outcome:
        """Send a load for so many seconds; `phase` has further fields of `Phase`.

        Raises:
            LoadError: The workers do not reach the server, or died.
        """
        updates: list[tuple[int, WorkerUpdate]] = []
        try:
            if config != self._connected:
                self._connected = None
                # a server that outlives a turn has seen images with other numbers
                self._pool.connect(replace(config, first_number=secrets.randbits(62)))
                self._connected = config
            options: dict[str, Any] = {"warmup": 0.0, "deadline": DEADLINE_S, "seed": next(self._seeds)} | phase
            self._pool.run(Phase(seconds, **options), lambda worker, update: updates.append((worker, update)))
        except WorkerPoolError as error:
            raise LoadError(str(error)) from error
        if self._pool.lost:
            raise LoadError(f"a worker process {self._pool.lost[0].how}")
        return _outcome(updates)


def _outcome(updates: list[tuple[int, WorkerUpdate]]) -> Outcome:
    rows = np.concatenate([np.frombuffer(update.calls, dtype=np.int64) for _, update in updates])
    calls = Call(*rows.reshape(-1, len(Call._fields)).T.astype(np.float64))
    first = next((message for _, update in updates for message in update.messages.items()), None)
    return Outcome(
        sent=calls.due / 1e6,  # type: ignore[arg-type]  # a column of rows
        ended=(calls.due + calls.latency) / 1e6,  # type: ignore[arg-type]
        code=calls.code,  # type: ignore[arg-type]
        judged=calls.judged,  # type: ignore[arg-type]
        lag=calls.lag / 1e6,  # type: ignore[arg-type]
        generator_seconds=sum({worker: update.cpu for worker, update in updates}.values()),  # each one's last
        message=f"{code_name(first[0])}: {first[1]}" if first else "",
    )


@contextmanager
def load_generator(processes: int = 1) -> Iterator[LoadGenerator]:
    """Run a load generator for as long as the block runs.

    Raises:
        StartError: Its processes cannot be started.
    """
    os.environ.setdefault("GRPC_VERBOSITY", "ERROR")  # a server that was stopped between turns is no news
    try:
        pool = WorkerPool(processes)
    except WorkerPoolError as error:
        raise StartError(str(error)) from error
    with pool:
        yield LoadGenerator(pool)


@cache
def image_load(
    target: Target, height: int, width: int, dim: int, form: ImageForm = "raw", connections: int = 1
) -> WorkerConfig:
    """Return one image a call, no two of them the same.

    Args:
        target: The server.
        height: Rows of a raw image.
        width: Columns of a raw image.
        dim: Dimensions of the embedding in an answer.
        form: Raw images, or JPEG files.
        connections: Connections of each worker.
    """
    protocol = PROTOCOLS[target.protocol]
    if form == "jpeg":
        templates = [jpeg_template(protocol.encoded, seed) for seed in range(JPEG_COUNT)]
    else:
        templates = [raw_template(lambda image: protocol.raw(image, height, width), height, width)]
    return WorkerConfig(
        target.address,
        [RequestSet(protocol.method, templates)],
        connections=connections,
        judge=protocol.judge(dim),
        transport=protocol.transport,
    )


def model_load(target: Target, model: Model, form: ImageForm = "raw", connections: int = 1) -> WorkerConfig:
    """Return `image_load` for a model."""
    return image_load(target, model.height, model.width, model.dim, form, connections)
