"""The batcher by itself: whom it runs with whom, whom it rejects, and that no caller's end touches another's."""

from __future__ import annotations

import asyncio

import pytest

from lookalike_server.domain.errors import Code, LookalikeError
from lookalike_server.domain.inference import BatchProfile
from lookalike_server.inference.autotune import Plan
from lookalike_server.inference.batcher import MicroBatcher
from support.batcher_harness import BatcherHarness, color
from support.fakes import FailingSession, HeldSession, MeanColorSession, RecordingObserver
from support.serving import until


async def test_idle_batcher_runs_at_once_and_a_busy_one_groups() -> None:
    """One image runs alone and at once; what comes while it runs shares the next batches, each with its own answer."""
    async with BatcherHarness() as rig:
        first = await rig.occupy()
        waiting = [rig.embed(value) for value in range(6)]
        await rig.queued(6)
        assert repr(rig.batcher) == "<MicroBatcher [Queued: 6 | Running: 1]>"
        rig.session.let_go()
        assert await asyncio.gather(first, *waiting) == [200, 0, 1, 2, 3, 4, 5]
        assert rig.session.sizes == [1, 4, 2]
        assert repr(rig.batcher) == "<MicroBatcher [Queued: 0 | Running: 0]>"


async def test_cancelled_while_waiting_is_not_computed() -> None:
    """A caller that gives up while waiting leaves the queue; nothing is computed for it and the others are answered."""
    async with BatcherHarness() as rig:
        first = await rig.occupy()
        waiting = [rig.embed(value) for value in range(4)]
        await rig.queued(4)
        waiting[1].cancel()
        await rig.queued(3)
        rig.session.let_go()
        answers = await asyncio.gather(first, *waiting, return_exceptions=True)
        assert isinstance(answers.pop(2), asyncio.CancelledError)
        assert answers == [200, 0, 2, 3]
        assert rig.session.sizes == [1, 3]
        assert rig.observer.cancelled == 1


async def test_cancelled_while_running_leaves_its_batch_alone() -> None:
    """A caller that gives up while its batch runs costs the others in it nothing."""
    async with BatcherHarness() as rig:
        first = await rig.occupy()
        waiting = [rig.embed(value) for value in range(3)]
        await rig.queued(3)
        first.cancel()
        await asyncio.gather(first, return_exceptions=True)
        rig.session.let_go()
        assert await asyncio.gather(*waiting) == [0, 1, 2]


async def test_expired_is_not_computed() -> None:
    """An entry whose deadline passes while it waits is told so and never reaches the model."""
    async with BatcherHarness() as rig:
        first = await rig.occupy()
        late, patient = rig.embed(1, deadline=rig.now + 10), rig.embed(2, deadline=rig.now + 1000)
        await rig.queued(2)
        rig.now += 10
        rig.session.let_go()
        with pytest.raises(LookalikeError) as caught:
            await late
        assert caught.value.code is Code.DEADLINE_EXCEEDED
        assert (await first, await patient) == (200, 2)
        assert rig.session.sizes == [1, 1]
        assert rig.observer.expired == 1


async def test_full_queue_rejects_at_once() -> None:
    """Beyond max_queue_size a caller is rejected with a time to come back; those inside are answered."""
    async with BatcherHarness(max_queue_size=2) as rig:
        first = await rig.occupy()
        inside = [rig.embed(1), rig.embed(2)]
        await rig.queued(2)
        with pytest.raises(LookalikeError) as caught:
            await rig.batcher.embed(color(3))
        assert caught.value.code is Code.RESOURCE_EXHAUSTED
        assert caught.value.retry_after is not None
        assert caught.value.retry_after > 0
        rig.session.let_go()
        assert await asyncio.gather(first, *inside) == [200, 1, 2]


async def test_deadline_that_cannot_be_met_is_rejected_when_busy_and_tried_when_idle() -> None:
    """A busy batcher rejects what it predicts to miss, with the predicted wait; an idle one always tries."""
    async with BatcherHarness() as rig:
        assert await rig.embed(7, deadline=rig.now + 1e-9) == 7
        first = await rig.occupy()
        with pytest.raises(LookalikeError) as caught:
            await rig.batcher.embed(color(3), deadline=rig.now + 0.015)
        assert caught.value.code is Code.RESOURCE_EXHAUSTED
        assert caught.value.retry_after == pytest.approx(0.01)
        inside = rig.embed(4, deadline=rig.now + 0.025)
        await rig.queued(1)
        rig.session.let_go()
        assert (await first, await inside) == (200, 4)


async def test_admission_looks_at_what_goes_before() -> None:
    """An image with an earlier deadline than those waiting goes before them, and is judged as such."""
    async with BatcherHarness(max_batch_size=1) as rig:
        first = await rig.occupy()
        inside = [rig.embed(value, deadline=rig.now + 1) for value in range(10)]
        await rig.queued(10)
        # One run under way and ten images of 10 ms each: 120 ms for one that comes after them, 20 ms before them.
        with pytest.raises(LookalikeError) as caught:
            await rig.batcher.embed(color(99), deadline=rig.now + 0.015)
        assert caught.value.code is Code.RESOURCE_EXHAUSTED
        inside.append(rig.embed(42, deadline=rig.now + 0.025))
        await rig.queued(11)
        rig.session.let_go()
        assert await asyncio.gather(first, *inside) == [200, *range(10), 42]


async def test_bulk_waits_instead_of_being_rejected_and_lets_others_go_first() -> None:
    """Bulk images are not rejected by a full queue, and interactive ones that come later are run before them."""
    async with BatcherHarness(max_batch_size=2, max_queue_size=2) as rig:
        first = await rig.occupy()
        bulk = [rig.embed(value, bulk=True) for value in range(6)]
        await rig.queued(6)
        urgent = [rig.embed(value) for value in (10, 11)]
        await rig.queued(8)
        order: list[float] = []
        for task in (*bulk, *urgent):
            task.add_done_callback(lambda done: order.append(done.result()))
        rig.session.let_go()
        await asyncio.gather(first, *bulk, *urgent)
        assert order == [10, 11, 0, 1, 2, 3, 4, 5]


async def test_bulk_does_not_starve() -> None:
    """A bulk image that waited for the configured time is run before interactive ones."""
    async with BatcherHarness(max_batch_size=1, bulk_wait=5.0) as rig:
        first = await rig.occupy()
        bulk = rig.embed(50, bulk=True)
        await rig.queued(1)
        urgent = [rig.embed(value) for value in range(3)]
        await rig.queued(4)
        order: list[float] = []
        for task in (bulk, *urgent):
            task.add_done_callback(lambda done: order.append(done.result()))
        rig.now += 5.0
        rig.session.let_go()
        await asyncio.gather(first, bulk, *urgent)
        assert order == [50, 0, 1, 2]


async def test_failing_run_fails_its_own_callers_only() -> None:
    """A run that raises is an INTERNAL error to its batch; the batches before and after it are answered."""
    failing = FailingSession(MeanColorSession(), lambda run: run == 1)
    failing.begin()
    async with BatcherHarness(failing) as rig:
        first = await rig.occupy()
        waiting = [rig.embed(value) for value in range(8)]
        await rig.queued(8)
        rig.session.let_go()
        answers = await asyncio.gather(first, *waiting, return_exceptions=True)
        assert answers[0] == 200
        assert all(isinstance(answer, LookalikeError) and answer.code is Code.INTERNAL for answer in answers[1:5])
        assert answers[5:] == [4, 5, 6, 7]
        assert [size for size, _ in rig.observer.failed_batches] == [4]


async def test_close_answers_everybody() -> None:
    """Closing lets the running batch's callers and the waiting ones know; later callers too."""
    rig = BatcherHarness()
    await rig.__aenter__()
    first = await rig.occupy()
    waiting = rig.embed(1)
    await rig.queued(1)
    closing = asyncio.create_task(rig.batcher.close())
    answers = await asyncio.gather(first, waiting, return_exceptions=True)
    assert all(isinstance(answer, LookalikeError) and answer.code is Code.UNAVAILABLE for answer in answers)
    rig.session.let_go()
    await closing
    with pytest.raises(LookalikeError) as caught:
        await rig.batcher.embed(color(1))
    assert caught.value.code is Code.UNAVAILABLE


async def test_deadline_already_past() -> None:
    """An image that comes too late is DEADLINE_EXCEEDED, also on an idle server, and the model never sees it."""
    async with BatcherHarness() as rig:
        with pytest.raises(LookalikeError) as caught:
            await rig.embed(1, deadline=rig.now - 1)
        assert caught.value.code is Code.DEADLINE_EXCEEDED
        assert rig.session.sizes == []


async def test_model_that_takes_five_seconds() -> None:
    """With runs of 5 s an idle server tries any deadline; a busy one admits what fits behind and rejects the rest."""
    slow = HeldSession(MeanColorSession())
    observer = RecordingObserver()
    plan = Plan(slow, slow, 1, 1, (BatchProfile(1, 5.0),), BatchProfile(1, 5.0))
    batcher = MicroBatcher(plan, max_queue_size=10, bulk_wait=1, observer=observer, clock=lambda: 1000.0)
    slow.hold()
    first = asyncio.create_task(batcher.embed(color(1), 1001.0))
    await asyncio.to_thread(slow.waiting.wait, 30)
    with pytest.raises(LookalikeError, match="about 10000 ms"):
        await batcher.embed(color(2), 1009.0)
    second = asyncio.create_task(batcher.embed(color(3), 1010.0))
    an_hour = asyncio.create_task(batcher.embed(color(4), 1000.0 + 3600))
    await until(lambda: "Queued: 2 " in repr(batcher))
    slow.let_go()
    assert [float(ran.vector[0]) for ran in await asyncio.gather(first, second, an_hour)] == [1, 3, 4]
    await batcher.close()
