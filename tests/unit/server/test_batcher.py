"""The batcher by itself: which images it batches, which it rejects, and that callers do not affect each other."""

from __future__ import annotations

import asyncio

import pytest

from lookalike_server.domain.calls import Caller
from lookalike_server.domain.errors import Code, LookalikeError
from lookalike_server.domain.inference import BatchProfile
from lookalike_server.inference.batcher import MicroBatcher
from lookalike_server.inference.plan import Plan
from support.batcher_harness import BatcherHarness, color
from support.both_kinds import both_kinds  # noqa: F401 - every test runs with both
from support.fakes import FailingSession, HeldSession, MeanColorSession, RecordingObserver
from support.serving import until


async def test_idle_batcher_runs_at_once_and_a_busy_one_groups() -> None:
    """One image runs alone and at once; those that arrive meanwhile share the next batches, each with its result."""
    async with BatcherHarness() as harness:
        first = await harness.occupy()
        waiting = [harness.embed(value) for value in range(6)]
        await harness.queued(6)
        assert repr(harness.batcher) == "<MicroBatcher [Queued: 6 | Running: 1]>"
        harness.session.let_go()
        assert await asyncio.gather(first, *waiting) == [200, 0, 1, 2, 3, 4, 5]
        assert harness.session.sizes == [1, 4, 2]
        assert repr(harness.batcher) == "<MicroBatcher [Queued: 0 | Running: 0]>"


async def test_runs_are_under_way_until_they_end() -> None:
    """Whoever watches that runs end sees each one while it runs, and none afterwards, also where a run failed."""
    session = FailingSession(MeanColorSession(), lambda number: number == 1)
    session.begin()
    async with BatcherHarness(session) as harness:
        runs = harness.batcher.runs
        held = await harness.occupy()
        assert [run.images for run in runs.under_way()] == [1]
        harness.session.let_go()
        assert await held == 200
        assert runs.under_way() == ()
        with pytest.raises(LookalikeError):
            await harness.embed(1)
        assert runs.under_way() == ()


async def test_cancelled_while_waiting_is_not_computed() -> None:
    """A caller that cancels while queued leaves the queue; nothing runs for it, and the others get their results."""
    async with BatcherHarness() as harness:
        first = await harness.occupy()
        waiting = [harness.embed(value) for value in range(4)]
        await harness.queued(4)
        waiting[1].cancel()
        await harness.queued(3)
        harness.session.let_go()
        answers = await asyncio.gather(first, *waiting, return_exceptions=True)
        assert isinstance(answers.pop(2), asyncio.CancelledError)
        assert answers == [200, 0, 2, 3]
        assert harness.session.sizes == [1, 3]
        assert harness.observer.cancelled == 1


async def test_cancelled_while_running_leaves_its_batch_alone() -> None:
    """A caller that cancels while its batch runs does not affect the others in it."""
    async with BatcherHarness() as harness:
        first = await harness.occupy()
        waiting = [harness.embed(value) for value in range(3)]
        await harness.queued(3)
        first.cancel()
        await asyncio.gather(first, return_exceptions=True)
        harness.session.let_go()
        assert await asyncio.gather(*waiting) == [0, 1, 2]


async def test_expired_is_not_computed() -> None:
    """An image whose deadline passes in the queue fails with DEADLINE_EXCEEDED and never reaches the model."""
    async with BatcherHarness() as harness:
        first = await harness.occupy()
        late, patient = harness.embed(1, deadline=harness.now + 10), harness.embed(2, deadline=harness.now + 1000)
        await harness.queued(2)
        harness.now += 10
        harness.session.let_go()
        with pytest.raises(LookalikeError) as caught:
            await late
        assert caught.value.code is Code.DEADLINE_EXCEEDED
        assert (await first, await patient) == (200, 2)
        assert harness.session.sizes == [1, 1]
        assert harness.observer.expired == 1


async def test_full_queue_rejects_at_once() -> None:
    """Beyond max_queue_size a caller is rejected with a time to retry after; queued callers get their results."""
    async with BatcherHarness(max_queue_size=2) as harness:
        first = await harness.occupy()
        queued = [harness.embed(1), harness.embed(2)]
        await harness.queued(2)
        with pytest.raises(LookalikeError) as caught:
            await harness.batcher.embed(color(3))
        assert caught.value.code is Code.RESOURCE_EXHAUSTED
        assert caught.value.retry_after is not None
        assert caught.value.retry_after > 0
        harness.session.let_go()
        assert await asyncio.gather(first, *queued) == [200, 1, 2]


async def test_deadline_that_cannot_be_met_is_rejected_when_busy_and_tried_when_idle() -> None:
    """A busy batcher rejects what it predicts to be late, with the predicted wait; an idle one always tries."""
    async with BatcherHarness() as harness:
        assert await harness.embed(7, deadline=harness.now + 1e-9) == 7
        first = await harness.occupy()
        with pytest.raises(LookalikeError) as caught:
            await harness.batcher.embed(color(3), deadline=harness.now + 0.015)
        assert caught.value.code is Code.RESOURCE_EXHAUSTED
        assert caught.value.retry_after == pytest.approx(0.01)
        queued = harness.embed(4, deadline=harness.now + 0.025)
        await harness.queued(1)
        harness.session.let_go()
        assert (await first, await queued) == (200, 4)


async def test_admission_counts_only_earlier_deadlines() -> None:
    """An image with an earlier deadline than the queued ones goes before them, and is admitted accordingly."""
    async with BatcherHarness(max_batch_size=1) as harness:
        first = await harness.occupy()
        queued = [harness.embed(value, deadline=harness.now + 1) for value in range(10)]
        await harness.queued(10)
        # One running and ten queued images of 10 ms each: 120 ms for an image behind them, 20 ms before them.
        with pytest.raises(LookalikeError) as caught:
            await harness.batcher.embed(color(99), deadline=harness.now + 0.015)
        assert caught.value.code is Code.RESOURCE_EXHAUSTED
        queued.append(harness.embed(42, deadline=harness.now + 0.025))
        await harness.queued(11)
        harness.session.let_go()
        assert await asyncio.gather(first, *queued) == [200, *range(10), 42]


async def test_bulk_waits_instead_of_being_rejected_and_goes_last() -> None:
    """Bulk images are not rejected by a full queue, and interactive ones that arrive later run before them."""
    async with BatcherHarness(max_batch_size=2, max_queue_size=2) as harness:
        first = await harness.occupy()
        bulk = [harness.embed(value, bulk=True) for value in range(6)]
        await harness.queued(6)
        urgent = [harness.embed(value) for value in (10, 11)]
        await harness.queued(8)
        order: list[float] = []
        for task in (*bulk, *urgent):
            task.add_done_callback(lambda done: order.append(done.result()))
        harness.session.let_go()
        await asyncio.gather(first, *bulk, *urgent)
        assert order == [10, 11, 0, 1, 2, 3, 4, 5]


async def test_bulk_does_not_starve() -> None:
    """A bulk image that has waited for `bulk_wait` runs before interactive ones."""
    async with BatcherHarness(max_batch_size=1, bulk_wait=5.0) as harness:
        first = await harness.occupy()
        bulk = harness.embed(50, bulk=True)
        await harness.queued(1)
        urgent = [harness.embed(value) for value in range(3)]
        await harness.queued(4)
        order: list[float] = []
        for task in (bulk, *urgent):
            task.add_done_callback(lambda done: order.append(done.result()))
        harness.now += 5.0
        harness.session.let_go()
        await asyncio.gather(first, bulk, *urgent)
        assert order == [50, 0, 1, 2]


async def test_failing_run_fails_its_own_callers_only() -> None:
    """A run that raises is an INTERNAL error for its batch; the batches before and after it succeed."""
    failing = FailingSession(MeanColorSession(), lambda run: run == 1)
    failing.begin()
    async with BatcherHarness(failing) as harness:
        first = await harness.occupy()
        waiting = [harness.embed(value) for value in range(8)]
        await harness.queued(8)
        harness.session.let_go()
        answers = await asyncio.gather(first, *waiting, return_exceptions=True)
        assert answers[0] == 200
        assert all(isinstance(answer, LookalikeError) and answer.code is Code.INTERNAL for answer in answers[1:5])
        assert answers[5:] == [4, 5, 6, 7]
        assert [size for size, _ in harness.observer.failed_batches] == [4]


async def test_close_fails_every_caller() -> None:
    """Closing fails running, queued and later callers with UNAVAILABLE."""
    harness = BatcherHarness()
    await harness.__aenter__()
    first = await harness.occupy()
    waiting = harness.embed(1)
    await harness.queued(1)
    closing = asyncio.create_task(harness.batcher.close())
    answers = await asyncio.gather(first, waiting, return_exceptions=True)
    assert all(isinstance(answer, LookalikeError) and answer.code is Code.UNAVAILABLE for answer in answers)
    harness.session.let_go()
    await closing
    with pytest.raises(LookalikeError) as caught:
        await harness.batcher.embed(color(1))
    assert caught.value.code is Code.UNAVAILABLE


async def test_deadline_already_past() -> None:
    """An image that arrives too late is DEADLINE_EXCEEDED, also on an idle server, and never reaches the model."""
    async with BatcherHarness() as harness:
        with pytest.raises(LookalikeError) as caught:
            await harness.embed(1, deadline=harness.now - 1)
        assert caught.value.code is Code.DEADLINE_EXCEEDED
        assert harness.session.sizes == []


async def test_model_that_takes_five_seconds() -> None:
    """With runs of 5 s an idle server tries any deadline; a busy one admits what fits and rejects the rest."""
    slow = HeldSession(MeanColorSession())
    observer = RecordingObserver()
    plan = Plan(slow, slow, 1, 1, (BatchProfile(1, 5.0),), BatchProfile(1, 5.0))
    batcher = MicroBatcher(plan, max_queue_size=10, bulk_wait=1, observer=observer, clock=lambda: 1000.0)
    slow.hold()
    first = asyncio.create_task(batcher.embed(color(1), 1001.0))
    await slow.caught()
    with pytest.raises(LookalikeError, match="about 10000 ms"):
        await batcher.embed(color(2), 1009.0)
    second = asyncio.create_task(batcher.embed(color(3), 1010.0))
    an_hour = asyncio.create_task(batcher.embed(color(4), 1000.0 + 3600))
    await until(lambda: "Queued: 2 " in repr(batcher))
    slow.let_go()
    assert [float(result.vector[0]) for result in await asyncio.gather(first, second, an_hour)] == [1, 3, 4]
    await batcher.close()


async def test_only_different_callers_compete() -> None:
    """Images of one caller share a batch, also where front ends name it by objects of their own; those of two do not.

    Nor do those of one caller for ten seconds after another one called, which may call again while the batch runs.
    The harness's batches are no faster for an image than single ones, so that two callers gain nothing by sharing.
    """
    async with BatcherHarness() as one:
        running = await one.occupy()
        tasks = [one.embed(value, caller=Caller("")) for value in range(4)]
        await one.queued(4)
        one.session.let_go()
        await asyncio.gather(running, *tasks)
        assert one.observer.batches == [1, 4]
    async with BatcherHarness() as two:
        running = await two.occupy()
        tasks = [two.embed(value, caller=Caller(f"shop{value % 2}")) for value in range(4)]
        await two.queued(4)
        two.session.let_go()
        await asyncio.gather(running, *tasks)
        assert two.observer.batches == [1, 1, 1, 1, 1]
        for later, batches in ((5.0, [1, 1, 1]), (20.0, [1, 2])):
            two.now = 1000.0 + later
            before = len(two.observer.batches)
            running = await two.occupy()
            tasks = [two.embed(value, caller=Caller("")) for value in range(2)]
            await two.queued(2)
            two.session.let_go()
            await asyncio.gather(running, *tasks)
            assert two.observer.batches[before:] == batches
