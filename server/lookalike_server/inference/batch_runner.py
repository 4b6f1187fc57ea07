"""Runs batches in the threads of the model: stacks the images, drops those that expired meanwhile, times the run."""

from __future__ import annotations

import asyncio
import math
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np

from lookalike_server.domain.inference import EmbedResult, Floats, Pixels
from lookalike_server.domain.protocols import Session
from lookalike_server.inference.autotune import Plan, lower_priority
from lookalike_server.inference.scheduling import ScheduledBatch, take_batch

_NO_VECTORS: Floats = np.empty((0, 0), dtype=np.float32)


@dataclass(eq=False, slots=True)
class QueuedImage:
    """An image between `MicroBatcher.embed` and its result.

    Attributes:
        pixels: The model's input: uint8 [height, width, 3].
        deadline: When the result becomes useless.
        arrived: When it arrived.
        predicted: Seconds from arrival to embedding; 0 where nothing was predicted.
        future: Resolves to the caller's result; cancelled when the caller goes.
        arrived_idle: Whether nothing was queued or running when it arrived.
    """

    pixels: Pixels
    deadline: float
    arrived: float
    predicted: float
    future: asyncio.Future[EmbedResult]
    arrived_idle: bool

    @property
    def abandoned(self) -> bool:
        """Whether nobody waits for the result any more."""
        return self.future.done()

    def fail(self, error: Exception) -> None:
        """Raise this error in the caller, if it still waits."""
        if not self.future.done():
            self.future.set_exception(error)


@dataclass(frozen=True, slots=True)
class BatchOutcome:
    """What a thread did with a batch.

    Attributes:
        scheduled: The images that ran, and those that had left by then.
        vectors: float32 [images that ran, dim].
        padded_size: Rows of the run; 0 where no image was left.
        started: When the run started.
        seconds: How long it took.
    """

    scheduled: ScheduledBatch[QueuedImage]
    vectors: Floats
    padded_size: int
    started: float
    seconds: float


class BatchRunner:
    """Runs batches as the plan says: in a thread of its own for each concurrent batch, or in the event loop."""

    def __init__(self, plan: Plan, clock: Callable[[], float], nice: int) -> None:
        """Start the threads, whose priority is lowered by `nice`."""
        self._plan = plan
        self._clock = clock
        self._threads = ThreadPoolExecutor(
            plan.max_concurrent_batches, thread_name_prefix="model", initializer=lower_priority, initargs=(nice,)
        )
        self._thread_local = threading.local()

    def submit(self, session: Session, entries: Sequence[QueuedImage]) -> asyncio.Future[BatchOutcome]:
        """Run a batch on this session; the future raises what the model raises."""
        loop = asyncio.get_running_loop()
        if not self._plan.inline:
            return loop.run_in_executor(self._threads, self._run, session, entries)
        outcome: asyncio.Future[BatchOutcome] = loop.create_future()
        try:
            outcome.set_result(self._run(session, entries))
        except Exception as error:  # noqa: BLE001 - the executor's future holds any exception as well
            outcome.set_exception(error)
        return outcome

    async def close(self) -> None:
        """Wait for the running batches, then close the sessions."""
        await asyncio.to_thread(self._threads.shutdown)
        await asyncio.to_thread(self._plan.close)

    def _run(self, session: Session, entries: Sequence[QueuedImage]) -> BatchOutcome:
        started = self._clock()
        # A prefetched batch may have waited for its thread: images whose callers left or expired meanwhile do not run.
        scheduled = take_batch(entries, (), started, limit=len(entries), fill_to=len(entries), bulk_wait=math.inf)
        if not scheduled.batch:
            return BatchOutcome(scheduled, _NO_VECTORS, 0, started, 0.0)
        size = len(scheduled.batch)
        padded_size = self._plan.padded(size)
        images = [entry.pixels for entry in scheduled.batch]
        if (staging := session.stage(padded_size)) is not None:
            # Stacked where the device copies from: the only copy on the host.
            with staging as buffer:
                np.stack(images, out=buffer.images[:size])
                began = time.perf_counter()
                vectors = buffer.run(size)
                seconds = time.perf_counter() - began
        else:
            batch = images[0][np.newaxis] if padded_size == 1 else self._stack(images, padded_size)
            began = time.perf_counter()
            vectors = session.run(batch)
            seconds = time.perf_counter() - began
        if len(vectors) != (padded_size if staging is None else size):
            raise RuntimeError(f"the model returned {len(vectors)} rows for {size} images in {padded_size} rows")
        return BatchOutcome(scheduled, vectors[:size], padded_size, started, seconds)

    def _stack(self, images: Sequence[Pixels], padded_size: int) -> Pixels:
        # One buffer per thread: page faults of fresh memory for every batch cost more than the copy itself.
        buffer: Pixels | None = getattr(self._thread_local, "buffer", None)
        if buffer is None:
            shape = (self._plan.preferred_batch_size, *images[0].shape)
            buffer = self._thread_local.buffer = np.zeros(shape, dtype=np.uint8)
        np.stack(images, out=buffer[: len(images)])
        return buffer[:padded_size]
