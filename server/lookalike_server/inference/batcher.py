"""Micro-batching: calls that wait together share one run of the model.

No timer: a batch is what is queued when the model is free, so an idle server adds no wait and a busy one makes big
batches. `take_batch` decides and is pure; `MicroBatcher` is the thin shell that awaits. A caller that gives up, expires
or meets a failing run touches nobody else's answer.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Callable, Collection, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

import numpy as np

from lookalike_server.domain import Floats, Observer, Pixels, Rung, Session
from lookalike_server.errors import Code, LookalikeError, deadline_exceeded, exhausted, unavailable

_LEARNING_RATE = 0.2  # weight of the newest batch in the running cost of a photo


class Waiting(Protocol):
    """What `take_batch` asks of an entry."""

    @property
    def deadline(self) -> float:
        """The moment after which its answer is of no use; infinite for none."""

    @property
    def given_up(self) -> bool:
        """Whether its caller is gone."""


E = TypeVar("E", bound=Waiting)


@dataclass(frozen=True, slots=True)
class Taken(Generic[E]):
    """A decision: what runs now, and what leaves unrun because its time or its caller is gone."""

    batch: Sequence[E]
    expired: Sequence[E]
    cancelled: Sequence[E]


def take_batch(queue: Collection[E], now: float, limit: int) -> Taken[E]:
    """Decide what leaves the queue, oldest first: up to `limit` live entries, and the dead ones met on the way."""
    batch: list[E] = []
    expired: list[E] = []
    cancelled: list[E] = []
    for entry in queue:
        if len(batch) == limit:
            break
        if entry.given_up:
            cancelled.append(entry)
        elif entry.deadline <= now:
            expired.append(entry)
        else:
            batch.append(entry)
    return Taken(batch, expired, cancelled)


@dataclass(frozen=True, slots=True)
class Ran:
    """One photo's share of a batch: float32 [dim], and what it took in seconds."""

    vector: Floats
    queue: float
    inference: float
    batch_size: int
    padded_size: int


@dataclass(eq=False, slots=True)
class _Entry:
    pixels: Pixels
    deadline: float
    arrived: float
    future: asyncio.Future[Ran]

    @property
    def given_up(self) -> bool:
        return self.future.done()


class MicroBatcher:
    """Gives photos to one session in batches. Lives on one event loop; one thread of its own runs the session."""

    def __init__(
        self,
        session: Session,
        *,
        max_batch: int,
        max_queue: int,
        observer: Observer,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Prepare; nothing runs before `start`.

        Args:
            session: The model.
            max_batch: The most photos in a run.
            max_queue: The most photos waiting; beyond, callers are refused.
            observer: Told of batches and drops.
            clock: The source of moments.
        """
        self._session = session
        self._max_batch = max_batch
        self._max_queue = max_queue
        self._observer = observer
        self._clock = clock
        self._queue: dict[_Entry, None] = {}  # a dict: ordered, and a caller that gives up leaves at once
        self._running = 0
        self._photo_cost = 0.0  # seconds; 0 until learnt
        self._arrived = asyncio.Event()
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="model")
        self._task: asyncio.Task[None] | None = None

    def __repr__(self) -> str:
        return f"<MicroBatcher [Queued: {len(self._queue)} | Running: {self._running}]>"

    async def start(self, height: int, width: int) -> list[Rung]:
        """Warm every power of two up to the largest batch, and begin to serve.

        Returns:
            Each of those batch sizes with the time of its second run: the first pays for allocations.
        """
        sizes = sorted({min(2**power, self._max_batch) for power in range(self._max_batch.bit_length() + 1)})
        ladder = []
        for size in sizes:
            photos = np.zeros((size, height, width, 3), dtype=np.uint8)
            await self._in_thread(list(photos))
            _, seconds = await self._in_thread(list(photos))
            ladder.append(Rung(size, seconds))
        self._photo_cost = ladder[-1].seconds / ladder[-1].batch_size
        self._task = asyncio.create_task(self._serve(), name="batcher")
        return ladder

    async def embed(self, pixels: Pixels, deadline: float = math.inf) -> Ran:
        """Embed one photo (uint8 [height, width, 3]) with whatever else is waiting.

        Args:
            pixels: The model's input.
            deadline: The moment after which the answer is of no use.

        Raises:
            LookalikeError: RESOURCE_EXHAUSTED when the queue is full or the wait is predicted to pass the deadline;
                DEADLINE_EXCEEDED when it passed while waiting; INTERNAL when the model failed; UNAVAILABLE when the
                server stops.
        """
        if self._task is None or self._task.done():
            raise unavailable("the server is not embedding at present; try again")
        now = self._clock()
        self._admit(now, deadline)
        entry = _Entry(pixels, deadline, now, asyncio.get_running_loop().create_future())
        self._queue[entry] = None
        self._arrived.set()
        try:
            return await entry.future
        finally:
            # Gone already when a batch took it; still there when the caller was cancelled.
            if entry in self._queue:
                del self._queue[entry]
                self._observer.entries_dropped(cancelled=1, expired=0)

    async def close(self) -> None:
        """Stop: the running batch ends, what still waits is answered with UNAVAILABLE."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        for entry in list(self._queue):
            self._fail(entry, unavailable("the server is stopping"))
        await asyncio.to_thread(self._thread.shutdown)

    def _admit(self, now: float, deadline: float) -> None:
        wait = (len(self._queue) + self._running) * self._photo_cost
        if len(self._queue) >= self._max_queue:
            raise exhausted(f"{len(self._queue)} photos are waiting already; try again later", wait)
        # An idle server always tries: there a refusal could only be a wrong prediction.
        if self._running and now + wait + self._photo_cost > deadline:
            raise exhausted(
                f"the photo's turn would come in about {wait * 1000:.0f} ms, after the call's deadline", wait
            )

    async def _serve(self) -> None:
        while True:
            await self._arrived.wait()
            taken = take_batch(self._queue, self._clock(), self._max_batch)
            for entry in (*taken.batch, *taken.expired, *taken.cancelled):
                del self._queue[entry]
            if not self._queue:
                self._arrived.clear()
            for entry in taken.expired:
                self._fail(entry, deadline_exceeded())
            if taken.expired or taken.cancelled:
                self._observer.entries_dropped(cancelled=len(taken.cancelled), expired=len(taken.expired))
            if taken.batch:
                await self._run(taken.batch)

    async def _run(self, batch: Sequence[_Entry]) -> None:
        self._running = size = len(batch)
        started = self._clock()
        try:
            vectors, seconds = await self._in_thread([entry.pixels for entry in batch])
        except asyncio.CancelledError:
            for entry in batch:
                self._fail(entry, unavailable("the server is stopping"))
            raise
        except Exception as error:  # noqa: BLE001 - whatever the model raises belongs to this batch alone
            self._observer.batch_failed(size, error)
            for entry in batch:
                self._fail(entry, LookalikeError(Code.INTERNAL, "the model failed on this batch"))
            return
        finally:
            self._running = 0
        self._photo_cost += _LEARNING_RATE * (seconds / size - self._photo_cost)
        self._observer.batch_ran(size, size, seconds)
        for entry, vector in zip(batch, vectors, strict=True):
            if not entry.future.done():
                entry.future.set_result(Ran(vector, started - entry.arrived, seconds, size, size))

    async def _in_thread(self, photos: Sequence[Pixels]) -> tuple[Floats, float]:
        return await asyncio.get_running_loop().run_in_executor(self._thread, self._infer, photos)

    def _infer(self, photos: Sequence[Pixels]) -> tuple[Floats, float]:
        stacked = np.stack(photos)
        started = time.perf_counter()
        vectors = self._session.run(stacked)
        seconds = time.perf_counter() - started
        if len(vectors) != len(photos):
            raise RuntimeError(f"the model answered {len(vectors)} rows to {len(photos)} photos")
        return vectors, seconds

    @staticmethod
    def _fail(entry: _Entry, error: LookalikeError) -> None:
        if not entry.future.done():
            entry.future.set_exception(error)
