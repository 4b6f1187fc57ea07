"""Dynamic micro-batching: images that wait together share one run of the model.

There is no timer: a batch is what is queued when the model can take one, so an idle server adds no wait and a busy one
forms large batches. A caller that cancels, expires or meets a failing run affects no other caller's result. A batch for
which memory is short is split once.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections import Counter
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from functools import partial

from lookalike_server.domain.calls import ANYBODY, Caller, TraceContext
from lookalike_server.domain.errors import LookalikeError, Rejection, deadline_exceeded, exhausted, unavailable
from lookalike_server.domain.events import (
    BatchCompleted,
    BatchFailed,
    BatchSplit,
    ImagesDropped,
    ImagesEmbedded,
    Observer,
    TracedImage,
)
from lookalike_server.domain.inference import EmbedResult, Pixels, ResponseStats
from lookalike_server.domain.observing import receiver
from lookalike_server.domain.protocols import Session
from lookalike_server.inference.batch_runner import BatchOutcome, BatchRunner, QueuedImage
from lookalike_server.inference.gpu_errors import GpuFailure, error_of_batch, gpu_failure
from lookalike_server.inference.latency_model import LatencyModel
from lookalike_server.inference.plan import Plan
from lookalike_server.inference.run_watch import RunWatch
from lookalike_server.inference.scheduling import ScheduledBatch, take_batch
from lookalike_server.scheduling.fair_order import Turns, Waiting, count_ahead
from lookalike_server.scheduling.queue_length import QueueLength

_COMPETING_SECONDS = 10.0
"""How long batches stay small after two callers had images: each waits for the running batch of the other one."""


@dataclass(eq=False, slots=True)
class _RunningBatch:
    """A batch that a thread has, or will have next.

    Attributes:
        entries: Its images.
        started: When it left the queue.
        expected_end: When it is predicted to be done.
        exclusive: Whether it is a single image on the latency session, beside which nothing runs.
        is_half: Whether it is of a larger batch for which memory was short.
    """

    entries: Sequence[QueuedImage]
    started: float
    expected_end: float
    exclusive: bool
    is_half: bool = False


class MicroBatcher:
    """Admits images to the queue and gives them to the model in batches. Lives on one event loop."""

    def __init__(
        self,
        plan: Plan,
        *,
        max_queue_size: int,
        bulk_wait: float,
        observer: Observer,
        nice: int = 0,
        run_timeout: float = 0.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Start with an empty queue.

        Args:
            plan: How batches are run; every shape is warm.
            max_queue_size: The most interactive images in the queue; further ones are rejected.
            bulk_wait: Seconds after which a bulk image goes before interactive ones.
            observer: Receives batches and dropped images.
            nice: By how much the priority of the threads that run the model is lowered.
            run_timeout: Seconds after which a run of the model is overdue; 0 to judge by what was predicted.
            clock: The time in seconds, as deadlines count it.
        """
        self._plan = plan
        self._latency = LatencyModel(plan)
        self._max_queue_size = max_queue_size
        self._bulk_wait = bulk_wait
        self._observer = observer
        self._on_embedded = receiver(observer, ImagesEmbedded)
        self._on_completed = receiver(observer, BatchCompleted)
        self._clock = clock
        # Dicts, because they are ordered and a caller that cancels is removed at once.
        self._interactive: dict[QueuedImage, None] = {}
        self._bulk: dict[QueuedImage, None] = {}
        self._running: set[_RunningBatch] = set()
        self._turns = Turns()
        self._last_caller: str | None = None
        self._competing_until = -math.inf
        self._runner = BatchRunner(plan, clock, nice, run_timeout)
        self._stopped: Callable[[], LookalikeError] | None = None
        """Makes the error of every image from now on."""

    def __repr__(self) -> str:
        queued = len(self._interactive) + len(self._bulk)
        running = sum(len(batch.entries) for batch in self._running)
        return f"<MicroBatcher [Queued: {queued} | Running: {running}]>"

    async def embed(
        self, pixels: Pixels, deadline: float = math.inf, *, bulk: bool = False, caller: Caller = ANYBODY
    ) -> EmbedResult:
        """Embed one image in a batch with whatever else waits.

        Args:
            pixels: The model's input: uint8 [height, width, 3].
            deadline: When the result becomes useless.
            bulk: Wait instead of being rejected, and for a while let interactive images go first.
            caller: Whose it is; callers take turns.

        Returns:
            The embedding, float32 [dim], and the stats of its queue and run.

        Raises:
            LookalikeError: RESOURCE_EXHAUSTED when the queue is full, the deadline is predicted to be missed or memory
                is short; DEADLINE_EXCEEDED when it passed in the queue; INTERNAL when the model failed; UNAVAILABLE
                when the server stops or its GPU is lost.
        """
        return await self.submit(pixels, deadline, bulk=bulk, caller=caller)

    def submit(
        self,
        pixels: Pixels,
        deadline: float,
        *,
        bulk: bool,
        caller: Caller = ANYBODY,
        trace: TraceContext | None = None,
    ) -> asyncio.Future[EmbedResult]:
        """Queue one image as `embed` does, and return its future; an image whose future is cancelled leaves the queue.

        `trace` is its call's, where that is recorded.

        Raises:
            LookalikeError: RESOURCE_EXHAUSTED or UNAVAILABLE, as `embed`; the future raises the others.
        """
        if self._stopped:
            raise self._stopped()
        now = self._clock()
        predicted = 0.0 if bulk else self._admit(now, deadline, caller)
        idle = not (self._running or self._interactive or self._bulk)
        future: asyncio.Future[EmbedResult] = asyncio.get_running_loop().create_future()
        entry = QueuedImage(pixels, deadline, now, predicted, future, idle, caller, trace)
        queue = self._bulk if bulk else self._interactive
        queue[entry] = None
        if not bulk and caller.name != self._last_caller:
            if self._last_caller is not None:
                self._competing_until = now + _COMPETING_SECONDS
            self._last_caller = caller.name

        def leave(future: asyncio.Future[EmbedResult]) -> None:
            # Still queued only when the caller was cancelled before a batch took its image.
            if future.cancelled() and entry in queue:
                del queue[entry]
                self._observer(ImagesDropped(cancelled=1, expired=0, traced=_traced((entry,))))

        future.add_done_callback(leave)
        self._dispatch()
        return future

    async def close(self) -> None:
        """Fail whoever waits with UNAVAILABLE, wait for the running batches and close the sessions."""
        self._stop(partial(unavailable, "the server is stopping", Rejection.DRAINING))
        await self._runner.close()

    def _stop(self, error: Callable[[], LookalikeError]) -> None:
        """Fail whoever waits, and all images from now on."""
        self._stopped = error
        waiting = [*self._interactive, *self._bulk, *(entry for batch in self._running for entry in batch.entries)]
        self._interactive.clear()
        self._bulk.clear()
        for entry in waiting:
            entry.fail(error())

    def predict(
        self, deadline: float, caller: Caller = ANYBODY, arriving: Collection[Waiting] = ()
    ) -> tuple[float, float]:
        """Predict in how many seconds a batch would take an interactive image, and in how many it would be embedded.

        Args:
            deadline: When its result becomes useless.
            caller: Whose it is.
            arriving: Images that will be queued before it and are not yet.

        Returns:
            Both predictions; 0 and 0 on an idle server, which always tries: a prediction could only be wrong there.
        """
        if not (self._running or self._interactive or arriving):
            return 0.0, 0.0
        wait, predicted = self._predict(self._clock(), deadline, caller, arriving)
        return wait, self._latency.completion_seconds(predicted)

    def _predict(
        self, now: float, deadline: float, caller: Caller, arriving: Collection[Waiting]
    ) -> tuple[float, float]:
        """As `predict`, not corrected for lateness."""
        available = len(self._running) < self._plan.max_concurrent_batches and not any(
            batch.exclusive for batch in self._running
        )
        until_available = 0.0 if available else max(0.0, min(batch.expected_end for batch in self._running) - now)
        queued: Collection[Waiting] = [*self._interactive, *arriving] if arriving else self._interactive
        ahead = count_ahead(caller, deadline, queued, self._turns.ahead())
        wait = until_available + self._latency.queue_seconds(ahead)
        return wait, wait + self._latency.batch_seconds(min(math.ceil(ahead) + 1, self._plan.preferred_batch_size))

    def _admit(self, now: float, deadline: float, caller: Caller) -> float:
        """Reject the image, or return its predicted seconds to the embedding, not corrected for lateness."""
        if not self._running and not self._interactive:
            return 0.0
        wait, predicted = self._predict(now, deadline, caller, ())
        if self.is_full(caller):
            raise self.full(wait)
        seconds = self._latency.completion_seconds(predicted)
        if now + seconds > deadline:
            raise exhausted(
                f"the image would be embedded in about {seconds * 1e3:.0f} ms, after the call's deadline;"
                " try again later or with a longer deadline",
                wait,
                Rejection.DEADLINE,
            )
        return predicted

    @property
    def runs(self) -> RunWatch:
        """The batches that run."""
        return self._runner.runs

    @property
    def batch_seconds(self) -> float:
        """How long a full batch takes at present."""
        return self._latency.batch_seconds(self._plan.preferred_batch_size)

    def lengths(self) -> tuple[QueueLength, QueueLength]:
        """Return how many interactive and how many bulk images wait; in any thread."""
        now = self._clock()
        return QueueLength.of(self._interactive, now), QueueLength.of(self._bulk, now)

    def is_full(self, caller: Caller = ANYBODY) -> bool:
        """Whether no further interactive image of this caller is queued: of a full queue it has its share."""
        if len(self._interactive) < self._max_queue_size:
            return False
        callers = Counter([entry.caller for entry in self._interactive])
        own = sum(count for each, count in callers.items() if each.name == caller.name)
        weight = sum(each.weight for each in callers if each.name != caller.name) + caller.weight
        return own >= self._max_queue_size * caller.weight / weight

    def full(self, wait: float) -> LookalikeError:
        """Return the error of an image for which the queue is full, where the next one starts in `wait` seconds."""
        return exhausted(
            f"{len(self._interactive)} images are waiting already; try again later", wait, Rejection.QUEUE_FULL
        )

    def _dispatch(self) -> None:
        """Start as many batches as the model can take."""
        while self._interactive or self._bulk:
            free = self._plan.max_concurrent_batches + self._plan.prefetch - len(self._running)
            if free <= 0 or any(batch.exclusive for batch in self._running) or self._stopped:
                return
            queued = len(self._interactive) + len(self._bulk)
            if self._plan.serialized:
                # The next batch waits for the running one in any case: while it is smaller, more images may join it.
                if queued < max((len(batch.entries) for batch in self._running), default=0):
                    return
                limit = self._plan.preferred_batch_size
            else:
                # The queue is spread over the free threads, so that none idles while another runs a long batch.
                limit = min(self._plan.preferred_batch_size, math.ceil(queued / free))
            now = self._clock()
            if now < self._competing_until:
                limit = min(limit, self._latency.least_batch_size)
            scheduled = take_batch(
                self._interactive,
                self._bulk,
                now,
                limit=limit,
                fill_to=self._plan.padded(min(limit, max(1, len(self._interactive)))),
                bulk_wait=self._bulk_wait,
                ahead=self._turns.ahead(),
            )
            for entry in (*scheduled.batch, *scheduled.expired, *scheduled.cancelled):
                self._interactive.pop(entry, None)
                self._bulk.pop(entry, None)
            self._drop(scheduled)
            if scheduled.batch:
                self._turns.take(scheduled.batch)
                # An image that waited for another run has company: on the latency session two callers would only
                # take turns, which is slower.
                alone = not self._running and queued == 1 and scheduled.batch[0].arrived_idle
                self._start(scheduled.batch, now, alone=alone)

    def _start(self, entries: Sequence[QueuedImage], now: float, *, alone: bool) -> None:
        exclusive = alone and self._plan.latency_session is not self._plan.throughput_session
        session = self._plan.latency_session if exclusive else self._plan.throughput_session
        expected = self._plan.idle.seconds if alone else self._latency.batch_seconds(len(entries))
        self._run(session, _RunningBatch(entries, now, now + expected, exclusive), expected, alone=alone)

    def _run(self, session: Session, batch: _RunningBatch, expected: float, *, alone: bool) -> None:
        self._running.add(batch)
        self._runner.submit(session, batch.entries, expected, partial(self._finish, batch, alone))

    def _finish(self, batch: _RunningBatch, alone: bool, outcome: BatchOutcome | Exception) -> None:
        self._running.discard(batch)
        failure = gpu_failure(outcome) if isinstance(outcome, Exception) else None
        may_split = len(batch.entries) > 1 and not batch.is_half and not self._stopped
        if is_split := may_split and failure is GpuFailure.OUT_OF_MEMORY:
            self._run_halves(batch)
        elif failure is GpuFailure.STICKY:
            self._stop(partial(error_of_batch, failure))  # all of them, because only another process can run them
        # The next batch first: resolving this one's futures would keep its thread waiting.
        try:
            self._dispatch()
        finally:
            if not isinstance(outcome, Exception):
                self._resolve(outcome, alone=alone)
            elif is_split:
                self._observer(BatchSplit(len(batch.entries), outcome))
            else:
                self._fail(batch, outcome, failure)

    def _run_halves(self, batch: _RunningBatch) -> None:
        middle = math.ceil(len(batch.entries) / 2)
        now = self._clock()
        for half in (batch.entries[:middle], batch.entries[middle:]):
            expected = self._latency.batch_seconds(len(half))
            running = _RunningBatch(half, now, now + expected, exclusive=False, is_half=True)
            self._run(self._plan.throughput_session, running, expected, alone=False)

    def _fail(self, batch: _RunningBatch, error: Exception, failure: GpuFailure | None) -> None:
        self._observer(BatchFailed(len(batch.entries), error, batch.started, _traced(batch.entries)))
        if failure is GpuFailure.STICKY:
            self._runner.runs.gpu_error = error
        for entry in batch.entries:
            entry.fail(error_of_batch(failure))

    def _resolve(self, outcome: BatchOutcome, *, alone: bool) -> None:
        """Give each caller its result, and learn from the run."""
        self._drop(outcome.scheduled)
        entries, size = outcome.scheduled.batch, len(outcome.scheduled.batch)
        if not size:
            return
        if self._on_embedded is not None:
            self._on_embedded(self._embedded(outcome))
        if not alone:
            self._latency.record_batch(size, outcome.seconds)
        for entry in entries:
            if entry.predicted > 0.0:
                actual = outcome.started + outcome.seconds - entry.arrived
                self._latency.record_completion(entry.predicted, actual)
        if self._on_completed is not None:
            self._on_completed(
                BatchCompleted(size, outcome.padded_size, outcome.seconds, outcome.started, _traced(entries))
            )
        for entry, vector in zip(entries, outcome.vectors, strict=True):
            if not entry.future.done():
                stats = ResponseStats(
                    queue=outcome.started - entry.arrived,
                    inference=outcome.seconds,
                    batch_size=size,
                    padded_size=outcome.padded_size,
                )
                entry.future.set_result(EmbedResult(vector, stats))

    def _embedded(self, outcome: BatchOutcome) -> ImagesEmbedded:
        """Say how long the images of a batch waited, and how much later than predicted they are done."""
        entries, started = outcome.scheduled.batch, outcome.started
        ended = started + outcome.seconds
        return ImagesEmbedded(
            [started - entry.arrived for entry in entries],
            [
                ended - entry.arrived - self._latency.completion_seconds(entry.predicted)
                for entry in entries
                if entry.predicted > 0.0
            ],
        )

    def _drop(self, scheduled: ScheduledBatch[QueuedImage]) -> None:
        """Fail the expired images, and report those and the cancelled ones."""
        for entry in scheduled.expired:
            entry.fail(deadline_exceeded())
        if scheduled.expired or scheduled.cancelled:
            dropped = _traced((*scheduled.cancelled, *scheduled.expired))
            self._observer(ImagesDropped(len(scheduled.cancelled), len(scheduled.expired), dropped))


def _traced(entries: Sequence[QueuedImage]) -> list[TracedImage]:
    return [TracedImage(entry.trace, entry.arrived) for entry in entries if entry.trace is not None]
