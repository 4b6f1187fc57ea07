"""Micro-batching: images that wait together share one run of the model.

No timer: a batch is what is queued when a lane of the model is free, so an idle server adds no wait and a busy one
makes big batches. `queues.take_batch` decides and is pure; `MicroBatcher` is the shell that awaits. A caller that gives
up, expires or meets a failing run touches nobody else's answer.
"""

from __future__ import annotations

import asyncio
import math
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np

from lookalike_server.domain.errors import Code, LookalikeError, deadline_exceeded, exhausted, unavailable
from lookalike_server.domain.events import BatchCompleted, BatchFailed, ImagesDropped, Observer
from lookalike_server.domain.inference import Floats, Pixels
from lookalike_server.domain.protocols import Session
from lookalike_server.inference.autotune import Plan, lower_priority
from lookalike_server.inference.latency_model import LatencyModel
from lookalike_server.inference.scheduling import ScheduledBatch, take_batch


@dataclass(frozen=True, slots=True)
class InferenceResult:
    """One image's share of a batch: float32 [dim], and what it took in seconds."""

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
    predicted: float  # seconds from arrival to embedding; 0 where nothing was predicted
    future: asyncio.Future[InferenceResult]
    met_nobody: bool  # the server was idle when it came

    @property
    def given_up(self) -> bool:
        return self.future.done()


@dataclass(eq=False, slots=True)
class _Run:
    """A batch on a lane."""

    entries: Sequence[_Entry]
    session: Session
    expected_end: float
    whole_machine: bool


@dataclass(frozen=True, slots=True)
class _Outcome:
    """What a lane made of a batch: who was in it after all, their float32 [n, dim], and when and how long it ran."""

    taken: ScheduledBatch[_Entry]
    vectors: Floats
    padded: int
    begun: float
    seconds: float


_NOTHING: Floats = np.empty((0, 0), dtype=np.float32)


class MicroBatcher:
    """Gives images to the model in batches. Lives on one event loop; each lane has a thread."""

    def __init__(
        self,
        plan: Plan,
        *,
        max_queue_size: int,
        bulk_wait: float,
        observer: Observer,
        nice: int = 0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Be ready to run.

        Args:
            plan: How batches are run; every shape is warm.
            max_queue_size: The most interactive images waiting; beyond, callers are rejected.
            bulk_wait: Seconds after which a waiting bulk image goes before interactive ones.
            observer: Told of batches and drops.
            nice: By how much the threads that run the model yield to others.
            clock: The source of moments.
        """
        self._plan = plan
        self._costs = LatencyModel(plan)
        self._max_queue = max_queue_size
        self._bulk_wait = bulk_wait
        self._observer = observer
        self._clock = clock
        # Dicts: ordered, and a caller that gives up leaves at once.
        self._interactive: dict[_Entry, None] = {}
        self._bulk: dict[_Entry, None] = {}
        self._runs: set[_Run] = set()
        self._threads = ThreadPoolExecutor(
            plan.max_concurrent_batches, thread_name_prefix="model", initializer=lower_priority, initargs=(nice,)
        )
        self._lane = threading.local()
        self._closed = False

    def __repr__(self) -> str:
        queued = len(self._interactive) + len(self._bulk)
        running = sum(len(run.entries) for run in self._runs)
        return f"<MicroBatcher [Queued: {queued} | Running: {running}]>"

    def admit(self, deadline: float) -> None:
        """Reject an interactive image that is about to come.

        Raises:
            LookalikeError: RESOURCE_EXHAUSTED, as `embed`.
        """
        self._admit(self._clock(), deadline)

    async def embed(self, pixels: Pixels, deadline: float = math.inf, *, bulk: bool = False) -> InferenceResult:
        """Embed one image (uint8 [height, width, 3]) with whatever else is waiting.

        Args:
            pixels: The model's input.
            deadline: The moment after which the answer is of no use.
            bulk: Wait instead of being rejected, and let interactive images go first for a while.

        Raises:
            LookalikeError: RESOURCE_EXHAUSTED when the queue is full or the finish is predicted to pass the deadline;
                DEADLINE_EXCEEDED when it passed while waiting; INTERNAL when the model failed; UNAVAILABLE when the
                server stops.
        """
        if self._closed:
            raise unavailable("the server is stopping")
        now = self._clock()
        predicted = 0.0 if bulk else self._admit(now, deadline)
        met_nobody = not (self._runs or self._interactive or self._bulk)
        entry = _Entry(pixels, deadline, now, predicted, asyncio.get_running_loop().create_future(), met_nobody)
        queue = self._bulk if bulk else self._interactive
        queue[entry] = None
        self._dispatch()
        try:
            return await entry.future
        finally:
            # Gone already when a batch took it; still there when the caller was cancelled.
            if entry in queue:
                del queue[entry]
                self._observer(ImagesDropped(cancelled=1, expired=0))

    async def close(self) -> None:
        """Stop: whoever waits for an answer is told UNAVAILABLE; the runs under way end."""
        self._closed = True
        outstanding = [*self._interactive, *self._bulk, *(entry for run in self._runs for entry in run.entries)]
        self._interactive.clear()
        self._bulk.clear()
        for entry in outstanding:
            _fail(entry, unavailable("the server is stopping"))
        await asyncio.to_thread(self._threads.shutdown)
        await asyncio.to_thread(self._plan.close)

    def _admit(self, now: float, deadline: float) -> float:
        """Reject, or return the seconds that the image should take without the lateness learned so far."""
        if not self._runs and not self._interactive:
            return 0.0  # an idle server always tries: there a rejection could only be a wrong prediction
        lanes_free = len(self._runs) < self._plan.max_concurrent_batches and not any(
            run.whole_machine for run in self._runs
        )
        until_free = 0.0 if lanes_free else max(0.0, min(run.expected_end for run in self._runs) - now)
        ahead = sum(entry.deadline <= deadline for entry in self._interactive)
        wait = until_free + self._costs.queue(ahead)
        if len(self._interactive) >= self._max_queue:
            raise exhausted(f"{len(self._interactive)} images are waiting already; try again later", wait)
        predicted = wait + self._costs.batch(min(ahead + 1, self._plan.preferred_batch_size))
        finish = self._costs.finish(predicted)
        if now + finish > deadline:
            raise exhausted(
                f"the image would be embedded in about {finish * 1e3:.0f} ms, after the call's deadline", wait
            )
        return predicted

    def _dispatch(self) -> None:
        """Fill the free lanes."""
        while self._interactive or self._bulk:
            free = self._plan.max_concurrent_batches + self._plan.prefetch - len(self._runs)
            if free <= 0 or any(run.whole_machine for run in self._runs) or self._closed:
                return
            waiting = len(self._interactive) + len(self._bulk)
            if self._plan.serialized:
                # Who is handed over waits for the running batch all the same: fewer than it has wait for more to join.
                if waiting < max((len(run.entries) for run in self._runs), default=0):
                    return
                limit = self._plan.preferred_batch_size
            else:
                # What waits is spread over the free lanes, so that none idles while another has a long batch.
                limit = min(self._plan.preferred_batch_size, math.ceil(waiting / free))
            now = self._clock()
            taken = take_batch(
                self._interactive,
                self._bulk,
                now,
                limit=limit,
                fill_to=self._plan.padded(min(limit, max(1, len(self._interactive)))),
                bulk_wait=self._bulk_wait,
            )
            for entry in (*taken.batch, *taken.expired, *taken.cancelled):
                self._interactive.pop(entry, None)
                self._bulk.pop(entry, None)
            self._drop(taken)
            if taken.batch:
                # Who waited for another run is not the only caller: two who take turns on the wide session are slower.
                alone = not self._runs and waiting == 1 and taken.batch[0].met_nobody
                self._begin(taken.batch, now, alone=alone)

    def _begin(self, entries: Sequence[_Entry], now: float, *, alone: bool) -> None:
        wide = alone and self._plan.latency_session is not self._plan.throughput_session
        session = self._plan.latency_session if wide else self._plan.throughput_session
        expected = self._plan.idle.seconds if alone else self._costs.batch(len(entries))
        run = _Run(entries, session, now + expected, whole_machine=wide)
        self._runs.add(run)
        work = self._start(session, entries)
        work.add_done_callback(lambda work: self._finished(run, alone, work))

    def _start(self, session: Session, entries: Sequence[_Entry]) -> asyncio.Future[_Outcome]:
        loop = asyncio.get_running_loop()
        if not self._plan.inline:
            return loop.run_in_executor(self._threads, self._infer, session, entries)
        work: asyncio.Future[_Outcome] = loop.create_future()
        try:
            work.set_result(self._infer(session, entries))
        except Exception as error:  # noqa: BLE001 - what the executor's future would hold as well
            work.set_exception(error)
        return work

    def _finished(self, run: _Run, alone: bool, work: asyncio.Future[_Outcome]) -> None:
        self._runs.discard(run)
        # The next batch first: answering this one's callers would keep the lane waiting.
        try:
            self._dispatch()
        finally:
            self._answer(run, alone, work)

    def _answer(self, run: _Run, alone: bool, work: asyncio.Future[_Outcome]) -> None:
        error = work.exception()
        if isinstance(error, Exception):
            self._observer(BatchFailed(len(run.entries), error))
            for entry in run.entries:
                _fail(entry, LookalikeError(Code.INTERNAL, "the model failed on this batch"))
            return
        ran = work.result()
        taken, size, padded = ran.taken, len(ran.taken.batch), ran.padded
        self._drop(taken)
        if not size:
            return
        if not alone:
            self._costs.learn(size, ran.seconds)
        for entry in taken.batch:
            if entry.predicted > 0.0:
                self._costs.kept(entry.predicted, ran.begun + ran.seconds - entry.arrived)
        self._observer(BatchCompleted(size, padded, ran.seconds))
        for entry, vector in zip(taken.batch, ran.vectors, strict=True):
            if not entry.future.done():
                entry.future.set_result(InferenceResult(vector, ran.begun - entry.arrived, ran.seconds, size, padded))

    def _drop(self, taken: ScheduledBatch[_Entry]) -> None:
        """Tell those whose time is over, and report who left without an answer."""
        for entry in taken.expired:
            _fail(entry, deadline_exceeded())
        if taken.expired or taken.cancelled:
            self._observer(ImagesDropped(cancelled=len(taken.cancelled), expired=len(taken.expired)))

    def _infer(self, session: Session, entries: Sequence[_Entry]) -> _Outcome:
        """Run a batch, in a lane's thread."""
        begun = self._clock()
        # Handed over ahead, a batch may have waited: whoever gave up or expired meanwhile is not computed either.
        taken = take_batch(entries, (), begun, limit=len(entries), fill_to=len(entries), bulk_wait=math.inf)
        if not taken.batch:
            return _Outcome(taken, _NOTHING, 0, begun, 0.0)
        size = len(taken.batch)
        padded = self._plan.padded(size)
        images = [entry.pixels for entry in taken.batch]
        if (stage := session.stage(padded)) is not None:
            # Straight to where the device fetches them: the only copy on this side.
            with stage as staged:
                np.stack(images, out=staged.images[:size])
                started = time.perf_counter()
                vectors = staged.run(size)
                seconds = time.perf_counter() - started
        else:
            batch = images[0][np.newaxis] if padded == 1 else self._stacked(images, padded)
            started = time.perf_counter()
            vectors = session.run(batch)
            seconds = time.perf_counter() - started
        if len(vectors) != (padded if stage is None else size):
            raise RuntimeError(f"the model answered {len(vectors)} rows to {size} images in {padded} rows")
        return _Outcome(taken, vectors[:size], padded, begun, seconds)

    def _stacked(self, images: Sequence[Pixels], padded: int) -> Pixels:
        # One buffer a lane: fresh memory for every batch costs more, page by page, than copying into old.
        buffer: Pixels | None = getattr(self._lane, "buffer", None)
        if buffer is None:
            buffer = self._lane.buffer = np.zeros((self._plan.preferred_batch_size, *images[0].shape), dtype=np.uint8)
        np.stack(images, out=buffer[: len(images)])
        return buffer[:padded]


def _fail(entry: _Entry, error: LookalikeError) -> None:
    if not entry.future.done():
        entry.future.set_exception(error)
