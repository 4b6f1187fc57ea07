"""The batcher with concurrent batches, with a latency session, with padding, and inline."""

from __future__ import annotations

import asyncio
import threading

import pytest

from lookalike_server.domain.errors import Code, LookalikeError
from lookalike_server.domain.inference import BatchProfile, EmbedResult, Floats, Pixels
from lookalike_server.inference.batcher import MicroBatcher
from lookalike_server.inference.plan import Plan
from support.batcher_harness import BatcherHarness, color
from support.both_kinds import both_kinds  # noqa: F401 - every test runs with both
from support.fakes import HeldSession, MeanColorSession, RecordingObserver
from support.serving import until


async def test_concurrent_batches_share_the_queue() -> None:
    """With two concurrent batches the queue is split over both instead of filling one."""
    async with BatcherHarness(max_concurrent_batches=2, max_batch_size=4) as harness:
        first = await harness.occupy()
        second = harness.embed(201)
        await until(lambda: "Running: 2]" in repr(harness.batcher))
        waiting = [harness.embed(value) for value in range(5)]
        # One batch is prefetched, so that a free thread need not wait for the event loop.
        await until(lambda: repr(harness.batcher) == "<MicroBatcher [Queued: 4 | Running: 3]>")
        harness.session.let_go()
        assert await asyncio.gather(first, second, *waiting) == [200, 201, 0, 1, 2, 3, 4]
        assert sum(harness.session.sizes) == 7
        assert max(harness.session.sizes) > 1


async def test_prefetched_batch_drops_cancelled_and_expired_images() -> None:
    """Images that are cancelled or expire while their batch waits for a thread do not run; the others in it do."""
    async with BatcherHarness(max_concurrent_batches=2, max_batch_size=4) as harness:
        first = await harness.occupy()
        second = harness.embed(201)
        await until(lambda: "Running: 2]" in repr(harness.batcher))
        ahead = [harness.embed(0)]
        await until(lambda: "Running: 3]" in repr(harness.batcher))
        behind = [harness.embed(1), harness.embed(2, deadline=harness.now + 5)]
        await harness.queued(2)
        ahead[0].cancel()
        await asyncio.gather(*ahead, return_exceptions=True)
        harness.now += 10
        harness.session.let_go()
        assert (await first, await second, await behind[0]) == (200, 201, 1)
        with pytest.raises(LookalikeError) as caught:
            await behind[1]
        assert caught.value.code is Code.DEADLINE_EXCEEDED
        assert sum(harness.session.sizes) == 3
        assert (harness.observer.cancelled, harness.observer.expired) == (1, 1)


async def test_single_image_on_an_idle_server_uses_the_latency_session() -> None:
    """A lone image runs on the latency session with nothing beside it; several images run concurrently."""
    latency = HeldSession(MeanColorSession())
    async with BatcherHarness(max_concurrent_batches=2, max_batch_size=1, latency_session=latency) as harness:
        latency.hold()
        alone = harness.embed(1)
        await latency.caught()
        others = [harness.embed(2), harness.embed(3)]
        await harness.queued(2)
        latency.let_go()
        assert await asyncio.gather(alone, *others) == [1, 2, 3]
        assert (latency.sizes, harness.session.sizes) == ([1], [1, 1])


async def test_two_alternating_callers_use_the_throughput_session() -> None:
    """An image that waited for another run is not alone: it runs on the throughput session."""
    latency = HeldSession(MeanColorSession())
    async with BatcherHarness(max_concurrent_batches=2, latency_session=latency) as harness:
        latency.hold()
        first = harness.embed(1)
        await latency.caught()
        second = harness.embed(2)
        await harness.queued(1)
        latency.let_go()
        assert list(await asyncio.gather(first, second)) == [1, 2]
        assert (latency.sizes, harness.session.sizes) == ([1], [1])
        assert await harness.embed(3) == 3
        assert latency.sizes == [1, 1]


async def test_fixed_shapes_are_padded_and_filled_with_bulk() -> None:
    """Where shapes are fixed a batch runs at the next profile's size, and bulk images fill it up."""
    session = MeanColorSession()
    session.fixed_shapes = True
    async with BatcherHarness(session, max_batch_size=4) as harness:
        first = await harness.occupy()
        bulk = [harness.embed(value, bulk=True) for value in range(2)]
        interactive = [harness.embed(value) for value in (10, 11, 12)]
        await harness.queued(5)
        harness.session.let_go()
        assert await asyncio.gather(first, *bulk, *interactive) == [200, 0, 1, 10, 11, 12]
        assert harness.session.sizes == [1, 4, 1]
        assert harness.observer.batches == [1, 4, 1]


async def test_tiny_models_run_inline() -> None:
    """With an inline plan the event loop runs the model itself, and a failure affects only its own batch."""
    threads: list[str] = []

    class RecordingSession(MeanColorSession):
        def run(self, images: Pixels) -> Floats:
            threads.append(threading.current_thread().name)
            if len(threads) == 2:
                raise RuntimeError("the second run fails by request")
            return super().run(images)

    session = RecordingSession()
    plan = Plan(session, session, 1, 4, (BatchProfile(4, 0.0001),), BatchProfile(1, 0.0001), inline=True)
    batcher = MicroBatcher(plan, max_queue_size=10, bulk_wait=1, observer=RecordingObserver())
    results: list[EmbedResult | BaseException] = []
    for value in (1, 2, 3):
        results += await asyncio.gather(batcher.embed(color(value)), return_exceptions=True)
    await batcher.close()
    assert threads == [threading.current_thread().name] * 3
    assert isinstance(results[1], LookalikeError)
    assert results[1].code is Code.INTERNAL
    assert [float(result.vector[0]) for result in results if isinstance(result, EmbedResult)] == [1, 3]
