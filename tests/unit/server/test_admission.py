"""Which calls are admitted, from their headers and once they have been read."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from lookalike_server.domain.calls import Call, Caller
from lookalike_server.domain.errors import Code, LookalikeError, Rejection
from lookalike_server.engine.admission import Admission, Demand
from lookalike_server.engine.api import Work
from lookalike_server.scheduling.fair_queue import FairQueue
from lookalike_server.search.coalescer import Coalescer
from support.batcher_harness import BatcherHarness

IMAGE = Demand(embeds=True)


class Stages:
    """An admission over real queues, with a model that can be held and takes 10 ms an image by its profile."""

    def __init__(self, batches: BatcherHarness) -> None:
        self.batches = batches
        self.repeating = False
        self.reads = FairQueue(1, clock=self.now)
        self.pool = ThreadPoolExecutor(1)
        searches: Coalescer[Any, Any] = Coalescer(self.pool, lambda _: None, list)
        self.admission = Admission(
            decode=FairQueue(1, clock=self.now),
            batcher=batches.batcher,
            bulk=FairQueue(8, clock=self.now),
            searches=searches,
            reads=self.reads,
            writes=FairQueue(128, 128, clock=self.now),
            hits_are_rare=lambda: not self.repeating,
            clock=self.now,
        )

    def now(self) -> float:
        """Return the harness's time."""
        return self.batches.now

    def call(self, seconds: float, caller: str = "") -> Call:
        """Make a call with this deadline, counted from now."""
        return Call(self.now(), self.now() + seconds, Caller(caller))

    def rejection(self, work: Work | Demand, call: Call) -> LookalikeError:
        """Return why a call is rejected."""
        with pytest.raises(LookalikeError) as caught:
            self.check(work, call)
        if caught.value.code is Code.RESOURCE_EXHAUSTED:
            assert caught.value.rejection in (Rejection.DEADLINE, Rejection.QUEUE_FULL)
        return caught.value

    def check(self, work: Work | Demand, call: Call) -> None:
        """Judge a call, from its headers or as it has been read."""
        if isinstance(work, Work):
            self.admission.admit(work, call).arrived()
        else:
            self.admission.check(work, call)


@pytest.fixture
async def stages() -> AsyncIterator[Stages]:
    """Make the stages, idle."""
    async with BatcherHarness() as batches:
        made = Stages(batches)
        yield made
        made.pool.shutdown()


async def occupied(stages: Stages, images: int) -> asyncio.Task[float]:
    """Hold the model with one image, and queue so many more, whose deadlines are before those of any later call."""
    running = await stages.batches.occupy()
    stages.batches.drop_results(stages.batches.embed(value, stages.now() + 2.0) for value in range(images))
    await stages.batches.queued(images)
    stages.batches.now += 2.0 - 1e-6
    return running


async def test_an_idle_server_rejects_nothing(stages: Stages) -> None:
    """What need not wait is tried, however short its deadline is; only one that has passed is rejected."""
    for work in Work:
        stages.check(work, stages.call(1e-6))
        error = stages.rejection(work, stages.call(0))
        assert error.code is Code.DEADLINE_EXCEEDED
    stages.check(Demand(embeds=True, searches=True), stages.call(1e-6))


async def test_a_busy_model_rejects_what_needs_it(stages: Stages) -> None:
    """Calls that would be too late for the model are rejected unread, with the time to wait; others are not."""
    await occupied(stages, 40)
    error = stages.rejection(Work.EMBED, stages.call(0.1))
    assert error.code is Code.RESOURCE_EXHAUSTED
    assert error.retry_after == pytest.approx(0.4, abs=0.05)
    stages.rejection(IMAGE, stages.call(0.1))
    stages.check(Work.EMBED, stages.call(10))
    for work in (Work.INFER, Work.READ, Work.SEARCH, Work.UPSERT, Work.WRITE):
        stages.check(work, stages.call(0.1))
    stages.repeating = True
    stages.check(Work.EMBED, stages.call(0.1))  # its embedding may be in the cache


async def test_searches_by_image_are_rejected_unread(stages: Stages) -> None:
    """A caller that searched by image only is rejected unread, except now and then, so that a change is noticed."""
    shop, analyst = stages.call(10), stages.call(10, "analyst")
    for _ in range(200):
        stages.admission.record_kind(Work.SEARCH, shop, embeds=True)
        stages.admission.record_kind(Work.SEARCH, analyst, embeds=False)
    await occupied(stages, 40)
    stages.check(Work.SEARCH, analyst)
    admitted = 0
    for _ in range(160):
        try:
            stages.check(Work.SEARCH, stages.call(0.1))
        except LookalikeError:
            continue
        admitted += 1
    assert admitted == 10
    for _ in range(10):
        stages.admission.record_kind(Work.SEARCH, shop, embeds=False)
    stages.check(Work.SEARCH, stages.call(0.1))


async def test_calls_that_are_being_read_count(stages: Stages) -> None:
    """Calls that were admitted and are still being read are ahead of the next one, until they have arrived."""
    await occupied(stages, 1)
    arriving = []
    for _ in range(1000):
        try:
            arriving.append(stages.admission.admit(Work.EMBED, stages.call(0.2)))
        except LookalikeError:
            break
    assert 5 < len(arriving) < 50
    stages.rejection(Work.EMBED, stages.call(0.2))
    for each in arriving:
        each.arrived()
    stages.check(Work.EMBED, stages.call(0.2))


async def test_callers_have_their_share(stages: Stages) -> None:
    """A caller that queues nothing is admitted beside one that has filled the queue."""
    await occupied(stages, 100)
    stages.rejection(Work.EMBED, stages.call(0.2))
    stages.check(Work.EMBED, stages.call(0.2, "quiet"))


async def test_lasting_overload_keeps_the_queue_short(stages: Stages) -> None:
    """Where calls are rejected for a while, calls that would wait for most of their time are too; afterwards not."""
    await occupied(stages, 30)
    patient = 0.5  # about 0.3 s of waiting
    stages.check(Work.EMBED, stages.call(patient))
    for _ in range(10):
        stages.rejection(Work.EMBED, stages.call(0.1))
        stages.batches.now += 0.1
    stages.rejection(Work.EMBED, stages.call(patient))
    stages.check(Work.EMBED, stages.call(30))
    stages.batches.now += 2.0
    stages.check(Work.EMBED, stages.call(patient))


async def test_predictions_follow_what_calls_really_took(stages: Stages) -> None:
    """After calls that took longer than predicted, later ones are rejected earlier."""
    await occupied(stages, 10)
    stages.check(IMAGE, stages.call(0.2))
    for _ in range(100):
        stages.admission.record_completion(0.1, 0.3)
    stages.rejection(IMAGE, stages.call(0.2))


async def test_reads_wait_for_reads_only(stages: Stages) -> None:
    """A full queue of reads rejects reads that would be too late, and nothing else."""
    entered = asyncio.Event()
    leave = asyncio.Event()

    async def read() -> None:
        async with stages.reads.enter(stages.call(100)):
            entered.set()
            await leave.wait()

    reading = asyncio.create_task(read())
    await entered.wait()
    stages.batches.now += 20.0
    leave.set()
    await reading
    leave.clear()
    reads = [asyncio.create_task(read()) for _ in range(3)]
    await asyncio.sleep(0)
    stages.rejection(Work.READ, stages.call(1.0))
    stages.check(Work.READ, stages.call(100))
    stages.check(Work.EMBED, stages.call(1.0))
    for each in reads:
        each.cancel()
