"""The batcher on several max_concurrent_batches, on the wide session, with padding, and in place."""

from __future__ import annotations

import asyncio
import threading

import pytest

from lookalike_server.domain.errors import Code, LookalikeError
from lookalike_server.domain.inference import BatchProfile, Floats, Pixels
from lookalike_server.inference.autotune import Plan
from lookalike_server.inference.batcher import InferenceResult, MicroBatcher
from support.batcher_harness import BatcherHarness, color
from support.fakes import HeldSession, MeanColorSession, RecordingObserver
from support.serving import until


async def test_lanes_share_what_waits() -> None:
    """With two max_concurrent_batches, what waits is split over both instead of filling one."""
    async with BatcherHarness(max_concurrent_batches=2, max_batch_size=4) as rig:
        first = await rig.occupy()
        second = rig.embed(201)
        await until(lambda: "Running: 2]" in repr(rig.batcher))
        waiting = [rig.embed(value) for value in range(5)]
        # One batch is handed over ahead, so that a lane that comes free need not wait for the event loop.
        await until(lambda: repr(rig.batcher) == "<MicroBatcher [Queued: 4 | Running: 3]>")
        rig.session.let_go()
        assert await asyncio.gather(first, second, *waiting) == [200, 201, 0, 1, 2, 3, 4]
        assert sum(rig.session.sizes) == 7
        assert max(rig.session.sizes) > 1


async def test_batch_handed_over_ahead_is_computed_for_nobody_who_left() -> None:
    """Who cancels or expires while a batch waits for its lane is not computed; the others in it are answered."""
    async with BatcherHarness(max_concurrent_batches=2, max_batch_size=4) as rig:
        first = await rig.occupy()
        second = rig.embed(201)
        await until(lambda: "Running: 2]" in repr(rig.batcher))
        ahead = [rig.embed(0)]
        await until(lambda: "Running: 3]" in repr(rig.batcher))
        behind = [rig.embed(1), rig.embed(2, deadline=rig.now + 5)]
        await rig.queued(2)
        ahead[0].cancel()
        await asyncio.gather(*ahead, return_exceptions=True)
        rig.now += 10
        rig.session.let_go()
        assert (await first, await second, await behind[0]) == (200, 201, 1)
        with pytest.raises(LookalikeError) as caught:
            await behind[1]
        assert caught.value.code is Code.DEADLINE_EXCEEDED
        assert sum(rig.session.sizes) == 3
        assert (rig.observer.cancelled, rig.observer.expired) == (1, 1)


async def test_single_image_on_an_idle_server_runs_wide() -> None:
    """Alone an image runs on the wide session and nothing beside it; together images run in the max_concurrent_batches."""
    wide = HeldSession(MeanColorSession())
    async with BatcherHarness(max_concurrent_batches=2, max_batch_size=1, wide=wide) as rig:
        wide.hold()
        alone = rig.embed(1)
        await asyncio.to_thread(wide.waiting.wait, 30)
        others = [rig.embed(2), rig.embed(3)]
        await rig.queued(2)
        wide.let_go()
        assert await asyncio.gather(alone, *others) == [1, 2, 3]
        assert (wide.sizes, rig.session.sizes) == ([1], [1, 1])


async def test_two_callers_in_turns_run_in_lanes() -> None:
    """An image that waited for another run is not alone, though nobody else waits: it runs in a lane."""
    wide = HeldSession(MeanColorSession())
    async with BatcherHarness(max_concurrent_batches=2, wide=wide) as rig:
        wide.hold()
        first = rig.embed(1)
        await asyncio.to_thread(wide.waiting.wait, 30)
        second = rig.embed(2)
        await rig.queued(1)
        wide.let_go()
        assert list(await asyncio.gather(first, second)) == [1, 2]
        assert (wide.sizes, rig.session.sizes) == ([1], [1])
        assert await rig.embed(3) == 3
        assert wide.sizes == [1, 1]


async def test_fixed_shapes_are_padded_and_filled_with_bulk() -> None:
    """Where shapes are fixed a batch runs at the next profile, and bulk images fill it up."""
    session = MeanColorSession()
    session.fixed_shapes = True
    async with BatcherHarness(session, max_batch_size=4) as rig:
        first = await rig.occupy()
        bulk = [rig.embed(value, bulk=True) for value in range(2)]
        urgent = [rig.embed(value) for value in (10, 11, 12)]
        await rig.queued(5)
        rig.session.let_go()
        assert await asyncio.gather(first, *bulk, *urgent) == [200, 0, 1, 10, 11, 12]
        assert rig.session.sizes == [1, 4, 1]
        assert rig.observer.batches == [1, 4, 1]


async def test_tiny_models_run_in_place() -> None:
    """Where no thread is worth it, the loop runs the model itself, and failures stay where they are."""
    threads: list[str] = []

    class Noting(MeanColorSession):
        def run(self, images: Pixels) -> Floats:
            threads.append(threading.current_thread().name)
            if len(threads) == 2:
                raise RuntimeError("the second run fails by request")
            return super().run(images)

    session = Noting()
    plan = Plan(session, session, 1, 4, (BatchProfile(4, 0.0001),), BatchProfile(1, 0.0001), inline=True)
    batcher = MicroBatcher(plan, max_queue_size=10, bulk_wait=1, observer=RecordingObserver())
    answers: list[InferenceResult | BaseException] = []
    for value in (1, 2, 3):
        answers += await asyncio.gather(batcher.embed(color(value)), return_exceptions=True)
    await batcher.close()
    assert threads == [threading.current_thread().name] * 3
    assert isinstance(answers[1], LookalikeError)
    assert answers[1].code is Code.INTERNAL
    assert [float(ran.vector[0]) for ran in answers if isinstance(ran, InferenceResult)] == [1, 3]
