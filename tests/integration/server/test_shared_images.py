"""The slots of shared memory for images, with both ends in one process: no slot is written while it is read."""

from __future__ import annotations

import asyncio
import gc
import math
import socket
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lookalike_server.app import image_decoder, loading, pool
from lookalike_server.config import Settings
from lookalike_server.domain.calls import Call
from lookalike_server.domain.errors import Code, LookalikeError
from lookalike_server.domain.inference import Pixels, RawImage
from lookalike_server.domain.search import Query
from lookalike_server.frontend.ipc import EngineError
from lookalike_server.frontend.ipc_client import IpcEngine
from lookalike_server.frontend.ipc_server import IpcServer
from lookalike_server.inference.batcher import MicroBatcher
from lookalike_server.inference.decoding_pool import DecodingPool
from support.fakes import RecordingObserver
from support.paths import MODELS
from support.serving import HeldModel, noise, until

FOREVER = Call(0.0, math.inf)
SLOTS = 6
QUEUE = 3
SOON = 2.0
"""Seconds in which images are queued also on a busy machine, and which a test can wait for."""


class Pair:
    """A frontend's engine, its server in the engine process, and the model, which can be held."""

    def __init__(self, client: IpcEngine, server: IpcServer, batcher: MicroBatcher, model: HeldModel) -> None:
        self.client = client
        self.server = server
        self.batcher = batcher
        self.model = model

    def embed(self, seed: int, seconds: float = 30.0, *, bulk: bool = False) -> asyncio.Task[Any]:
        """Embed the image of a seed."""
        return asyncio.create_task(self.client.embed(image(noise(seed)), call(seconds), bulk=bulk))

    async def hold(self) -> asyncio.Task[Any]:
        """Hold the run of an image."""
        self.model.session.hold()
        task = self.embed(1000)
        await self.model.caught()
        return task

    async def queued(self, count: int) -> None:
        """Return once this many images are queued."""
        await until(lambda: f"Queued: {count} " in repr(self.batcher))

    async def settled(self) -> None:
        """Return once earlier messages have had their effect: they keep their order, and this call takes long."""
        await self.client.categories(FOREVER, include_attributes=False)

    async def all_free(self) -> None:
        """Return once every slot is free."""
        await until(lambda: self.client.free_slots == SLOTS)


Connect = Callable[..., AbstractAsyncContextManager[Pair]]


def call(seconds: float = 30.0) -> Call:
    """Make a call that arrives now."""
    now = time.monotonic()
    return Call(now, now + seconds)


def image(pixels: Pixels) -> RawImage:
    """Make a request's image of pixels."""
    return RawImage(pixels, None, "image.rgb")


def expected(seed: int) -> Any:
    """Compute the tiny model's embedding of a seed's image."""
    tiles = noise(seed).reshape(4, 8, 4, 8, 3).mean(axis=(1, 3)) - 127.5
    vector = tiles.transpose(2, 0, 1).ravel()
    return vector / np.linalg.norm(vector)


@pytest.fixture
def connected(tmp_path: Path) -> Connect:
    """Provide a function that connects a frontend's engine with a real one, in this process."""

    @asynccontextmanager
    async def connect(**changes: Any) -> AsyncIterator[Pair]:
        chosen: dict[str, Any] = {
            "model": MODELS / "tiny",
            "data_dir": tmp_path / "data",
            "intra_op_threads": 1,
            "max_concurrent_batches": 1,
            "preferred_batch_size": 4,
            "embedding_cache_bytes": 0,
            "max_queue_size": QUEUE,
        } | changes
        settings, observer, model = Settings(**chosen), RecordingObserver(), HeldModel()
        ended = asyncio.Event()
        async with loading(settings, observer, model) as loaded:
            with pool(1, "decoder") as decoders:
                server = IpcServer(loaded.engine, lambda _: ended.set())
                decoding = DecodingPool(decoders, 1, settings.max_decoding_bytes, settings.bulk_max_wait_seconds)
                client = IpcEngine(lambda model: image_decoder(settings, model), decoding, observer)
                one, other = socket.socketpair()
                await server.start(one, SLOTS)
                assert await client.connect(other)
                yield Pair(client, server, loaded.batcher, model)
                model.session.let_go()
                server.close()
                await client.disconnected.wait()
                await ended.wait()

    return connect


@pytest.fixture
async def pair(connected: Connect) -> AsyncIterator[Pair]:
    """Provide a connected pair without the garbage collector, which must not be needed to free a slot."""
    async with connected() as one:
        gc.disable()
        try:
            yield one
        finally:
            gc.enable()


async def test_slots_are_freed_after_results(pair: Pair) -> None:
    """More images than slots, one after the other and concurrently, have their own embeddings."""
    for seed in range(2 * SLOTS):
        np.testing.assert_allclose((await pair.embed(seed)).vector, expected(seed), atol=1e-6)
    await pair.all_free()
    answers = await asyncio.gather(*(pair.embed(seed, bulk=True) for seed in range(5 * SLOTS)))
    for seed, answer in enumerate(answers):
        np.testing.assert_allclose(answer.vector, expected(seed), atol=1e-6)
    await pair.all_free()


async def test_slots_are_freed_after_rejections(pair: Pair) -> None:
    """An image that is rejected, or whose search fails, frees its slot at once."""
    first = await pair.hold()
    waiting = [pair.embed(seed) for seed in range(QUEUE)]
    await pair.queued(QUEUE)
    for seed in range(2 * SLOTS):
        with pytest.raises(LookalikeError) as caught:
            await pair.embed(seed)
        assert caught.value.code is Code.RESOURCE_EXHAUSTED
        assert caught.value.retry_after is not None
    with pytest.raises(LookalikeError) as caught:
        await pair.client.search(Query(image=image(noise(1)), category="none"), call())
    assert caught.value.resource is not None
    await until(lambda: pair.client.free_slots == SLOTS - 1 - QUEUE)
    pair.model.session.let_go()
    await asyncio.gather(first, *waiting)
    await pair.all_free()


async def test_slots_are_freed_after_deadlines(pair: Pair) -> None:
    """An image that expires in the queue frees its slot when it leaves the queue."""
    first = await pair.hold()
    late = [pair.embed(seed, SOON, bulk=True) for seed in range(QUEUE)]
    await pair.queued(QUEUE)
    over = time.monotonic() + SOON
    await until(lambda: time.monotonic() > over)
    pair.model.session.let_go()
    await first
    for task in late:
        with pytest.raises(LookalikeError) as caught:
            await task
        assert caught.value.code is Code.DEADLINE_EXCEEDED
    await pair.all_free()


async def test_cancelled_image_keeps_its_slot_while_it_runs(pair: Pair) -> None:
    """A run whose caller has cancelled still reads its image, so the slot is freed only after the run."""
    first = await pair.hold()
    first.cancel()
    await asyncio.gather(first, return_exceptions=True)
    waiting = pair.embed(1)
    await pair.queued(1)
    waiting.cancel()
    await pair.queued(0)
    # The slot of the image that left the queue is free; that of the running one is not.
    await pair.settled()
    assert pair.client.free_slots == SLOTS - 1
    pair.model.session.let_go()
    await pair.all_free()


async def test_cancelled_before_it_started(pair: Pair) -> None:
    """A call that is made and cancelled in one iteration of the event loop frees its slot."""
    for seed in range(2 * SLOTS):
        task = pair.embed(seed)
        await asyncio.sleep(0)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
    await pair.all_free()


async def test_shared_image_outlives_its_first_caller(connected: Connect) -> None:
    """A caller that waits for the same image as a cancelled one gets its embedding, whatever is sent afterwards."""
    async with connected(embedding_cache_bytes=1_000_000, max_queue_size=100) as pair:
        first = await pair.hold()
        leaving, staying = pair.embed(1), pair.embed(1)
        await pair.queued(1)
        leaving.cancel()
        await asyncio.gather(leaving, return_exceptions=True)
        await pair.settled()
        others = [pair.embed(seed) for seed in range(2, 2 + SLOTS)]  # write every free slot
        await pair.queued(1 + SLOTS)
        pair.model.session.let_go()
        np.testing.assert_allclose((await staying).vector, expected(1), atol=1e-6)
        for seed, other in enumerate(others, start=2):
            np.testing.assert_allclose((await other).vector, expected(seed), atol=1e-6)
        await first
        await pair.all_free()


async def test_images_are_sent_in_messages_where_no_slot_is_free(connected: Connect) -> None:
    """Images beyond the slots are queued like the others."""
    async with connected(max_queue_size=3 * SLOTS) as pair:
        first = await pair.hold()
        waiting = [pair.embed(seed) for seed in range(3 * SLOTS)]
        await pair.queued(3 * SLOTS)
        assert pair.client.free_slots == 0
        pair.model.session.let_go()
        for seed, answer in enumerate(await asyncio.gather(*waiting)):
            np.testing.assert_allclose(answer.vector, expected(seed), atol=1e-6)
        await first
        await pair.all_free()


async def test_broken_connection_cancels_every_call(pair: Pair) -> None:
    """When the connection breaks the callers get UNAVAILABLE, and the engine process cancels their calls."""
    first = await pair.hold()
    waiting = [pair.embed(seed) for seed in range(QUEUE)]
    await pair.queued(QUEUE)
    pair.server.close()
    for task in (first, *waiting):
        with pytest.raises(LookalikeError) as caught:
            await task
        assert caught.value.code is Code.UNAVAILABLE
        assert caught.value.retry_after is not None
    await pair.queued(0)
    with pytest.raises(LookalikeError) as caught:
        await pair.embed(1)
    assert caught.value.code is Code.UNAVAILABLE


async def test_an_internal_error_has_its_traceback(pair: Pair) -> None:
    """An unexpected exception in the engine comes back with its traceback as text, for the frontend's log."""
    with pytest.raises(EngineError, match="in _read_page"):
        await pair.client.page(None, "", "none", FOREVER)  # type: ignore[arg-type]
