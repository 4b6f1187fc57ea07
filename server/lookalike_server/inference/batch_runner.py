"""Runs batches: stacks the images, drops those that expired meanwhile, times the run."""

from __future__ import annotations

import asyncio
import math
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial

import numpy as np

from lookalike_server.domain.calls import ANYBODY, Caller, TraceContext
from lookalike_server.domain.inference import EmbedResult, Floats, Pixels
from lookalike_server.domain.protocols import Session
from lookalike_server.inference.plan import Plan
from lookalike_server.inference.run_watch import RunWatch
from lookalike_server.inference.scheduling import ScheduledBatch, take_batch
from lookalike_server.priority import lower_priority

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
        caller: Whose it is.
        trace: Its call's; None where it is not recorded.
    """

    pixels: Pixels
    deadline: float
    arrived: float
    predicted: float
    future: asyncio.Future[EmbedResult]
    arrived_idle: bool
    caller: Caller = ANYBODY
    trace: TraceContext | None = None

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


Finish = Callable[[BatchOutcome | Exception], None]


class BatchRunner:
    """Runs batches as the plan says: in threads of the library, in one of ours for each, or in the event loop.

    Attributes:
        runs: The batches that run.
    """

    def __init__(self, plan: Plan, clock: Callable[[], float], nice: int, run_timeout: float) -> None:
        """Start the threads, whose priority is lowered by `nice`; `run_timeout` is `RunWatch`'s limit."""
        self._plan = plan
        self._clock = clock
        self.runs = RunWatch(run_timeout)
        self._threads = ThreadPoolExecutor(
            plan.max_concurrent_batches, thread_name_prefix="model", initializer=lower_priority, initargs=(nice,)
        )
        self._thread_local = threading.local()
        # Of an asynchronous session: batches that run, the next one, which the callback of one of them starts, and how
        # many are not reported yet.
        self._lock = threading.Condition()
        self._started = 0
        self._next: deque[Callable[[], bool]] = deque()
        self._unreported = 0

    def submit(self, session: Session, entries: Sequence[QueuedImage], predicted: float, finish: Finish) -> None:
        """Run a batch on this session; `finish` is called on the event loop, later, with the outcome or the error.

        `predicted` is how many seconds the run should take.
        """
        loop = asyncio.get_running_loop()
        if self._plan.inline:
            # Nothing has expired since it was scheduled.
            loop.call_soon(finish, self._outcome(session, ScheduledBatch(entries, (), ()), predicted))
            return

        def report(outcome: BatchOutcome | Exception) -> None:
            loop.call_soon_threadsafe(finish, outcome)

        if session.asynchronous:
            with self._lock:
                self._unreported += 1
            self._next.append(partial(self._start, session, entries, predicted, partial(self._reported, report)))
            self._start_next()
        else:
            self._threads.submit(lambda: report(self._outcome(session, self._live(entries), predicted)))

    async def close(self) -> None:
        """Wait for the running batches, then close the sessions."""
        await asyncio.to_thread(self._threads.shutdown)
        await asyncio.to_thread(self._wait_for_reports)
        await asyncio.to_thread(self._plan.close)

    def _wait_for_reports(self) -> None:
        with self._lock:
            self._lock.wait_for(lambda: self._unreported == 0)

    def _reported(
        self, report: Callable[[BatchOutcome | Exception], object], outcome: BatchOutcome | Exception
    ) -> None:
        report(outcome)
        with self._lock:
            self._unreported -= 1
            self._lock.notify_all()

    def _outcome(
        self, session: Session, scheduled: ScheduledBatch[QueuedImage], predicted: float
    ) -> BatchOutcome | Exception:
        run = self.runs.begin(predicted, len(scheduled.batch))
        try:
            return self._run(session, scheduled)
        except Exception as error:  # noqa: BLE001 - whatever the model raises fails this batch
            return error
        finally:
            self.runs.end(run)

    def _start_next(self) -> None:
        """Start batches while the session takes more, in whichever thread notices it."""
        while True:
            with self._lock:
                if not self._next or self._started == self._plan.max_concurrent_batches:
                    return
                start = self._next.popleft()
                self._started += 1
            if not start():
                with self._lock:
                    self._started -= 1

    def _start(
        self,
        session: Session,
        entries: Sequence[QueuedImage],
        predicted: float,
        report: Callable[[BatchOutcome | Exception], None],
    ) -> bool:
        """Start a batch, or report at once that there is nothing to run or it failed; return whether it runs."""
        scheduled, started = self._live(entries), self._clock()
        if not scheduled.batch:
            report(BatchOutcome(scheduled, _NO_VECTORS, 0, started, 0.0))
            return False
        size = len(scheduled.batch)
        began = time.perf_counter()
        run = self.runs.begin(predicted, size)

        def done(result: Floats | Exception) -> None:
            self.runs.end(run)
            seconds = time.perf_counter() - began
            with self._lock:
                self._started -= 1
            self._start_next()
            report(result if isinstance(result, Exception) else BatchOutcome(scheduled, result, size, started, seconds))

        try:
            session.start([entry.pixels for entry in scheduled.batch], done)
        except Exception as error:  # noqa: BLE001 - as above
            self.runs.end(run)
            report(error)
            return False
        return True

    def _live(self, entries: Sequence[QueuedImage]) -> ScheduledBatch[QueuedImage]:
        """Drop the images whose callers left or expired while the batch waited for its turn."""
        return take_batch(entries, (), self._clock(), limit=len(entries), fill_to=len(entries), bulk_wait=math.inf)

    def _run(self, session: Session, scheduled: ScheduledBatch[QueuedImage]) -> BatchOutcome:
        started = self._clock()
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
