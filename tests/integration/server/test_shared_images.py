"""The rows of shared memory that images come in, both ends in one process: nobody reads what is being written."""

from __future__ import annotations

import asyncio
import gc
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
from lookalike_server.domain.errors import Code, LookalikeError
from lookalike_server.domain.inference import Call, Pixels, RawImage
from lookalike_server.domain.search import Query
from lookalike_server.frontend.ipc import EngineError
from lookalike_server.frontend.ipc_client import IpcEngine
from lookalike_server.frontend.ipc_server import IpcServer
from lookalike_server.inference.batcher import MicroBatcher
from support.fakes import RecordingObserver
from support.paths import MODELS
from support.serving import HeldModel, noise, until

ROWS = 6
QUEUE = 3


class Pair:
    """A worker's engine, the model's process's end of it, and the model, which can be held."""

    def __init__(self, remote: IpcEngine, host: IpcServer, batcher: MicroBatcher, model: HeldModel) -> None:
        self.remote = remote
        self.host = host
        self.batcher = batcher
        self.model = model

    def embed(self, seed: int, seconds: float = 30.0, *, bulk: bool = False) -> asyncio.Task[Any]:
        """Embed an image of its own for every seed."""
        return asyncio.create_task(self.remote.embed(image(noise(seed)), call(seconds), bulk=bulk))

    async def hold(self) -> asyncio.Task[Any]:
        """Have an image's run held."""
        self.model.session.hold()
        task = self.embed(1000)
        await self.model.caught()
        return task

    async def queued(self, count: int) -> None:
        """Return once so many wait."""
        await until(lambda: f"Queued: {count} " in repr(self.batcher))

    async def settled(self) -> None:
        """Return once what was sent before has had its effect: messages keep their order, and this one takes long."""
        await self.remote.categories(include_attributes=False)

    async def all_free(self) -> None:
        """Return once every row may be written again."""
        await until(lambda: self.remote.rows_free == ROWS)


Connect = Callable[..., AbstractAsyncContextManager[Pair]]


def call(seconds: float = 30.0) -> Call:
    """A call that came now."""
    now = time.monotonic()
    return Call(now, now + seconds)


def image(pixels: Pixels) -> RawImage:
    """These pixels as a request's image."""
    return RawImage(pixels, None, "image.rgb")


def expected(seed: int) -> Any:
    """What the tiny model makes of that seed's image."""
    tiles = noise(seed).reshape(4, 8, 4, 8, 3).mean(axis=(1, 3)) - 127.5
    row = tiles.transpose(2, 0, 1).ravel()
    return row / np.linalg.norm(row)


@pytest.fixture
def connected(tmp_path: Path) -> Connect:
    """What connects a worker's engine with a real one, in this process."""

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
                host = IpcServer(loaded.engine, lambda _: ended.set())
                remote = IpcEngine(lambda of: image_decoder(settings, of), decoders, observer)
                one, other = socket.socketpair()
                await host.start(one, ROWS)
                assert await remote.connect(other)
                yield Pair(remote, host, loaded.batcher, model)
                model.session.let_go()
                host.close()
                await remote.lost.wait()
                await ended.wait()

    return connect


@pytest.fixture
async def pair(connected: Connect) -> AsyncIterator[Pair]:
    """One such pair. Without the garbage collector: a row must not wait for it."""
    async with connected() as one:
        gc.disable()
        try:
            yield one
        finally:
            gc.enable()


async def test_rows_come_back_after_answers(pair: Pair) -> None:
    """More images than there are rows, one after the other and side by side, have their own embeddings."""
    for seed in range(2 * ROWS):
        np.testing.assert_allclose((await pair.embed(seed)).vector, expected(seed), atol=1e-6)
    await pair.all_free()
    answers = await asyncio.gather(*(pair.embed(seed, bulk=True) for seed in range(5 * ROWS)))
    for seed, answer in enumerate(answers):
        np.testing.assert_allclose(answer.vector, expected(seed), atol=1e-6)
    await pair.all_free()


async def test_rows_come_back_after_rejections(pair: Pair) -> None:
    """An image that is rejected, or whose search is for nothing, gives its row back at once."""
    first = await pair.hold()
    inside = [pair.embed(seed) for seed in range(QUEUE)]
    await pair.queued(QUEUE)
    for seed in range(2 * ROWS):
        with pytest.raises(LookalikeError) as caught:
            await pair.embed(seed)
        assert caught.value.code is Code.RESOURCE_EXHAUSTED
        assert caught.value.retry_after is not None
    with pytest.raises(LookalikeError) as caught:
        await pair.remote.find_similar(Query(image=image(noise(1)), category="none"), call())
    assert caught.value.resource is not None
    await until(lambda: pair.remote.rows_free == ROWS - 1 - QUEUE)
    pair.model.session.let_go()
    await asyncio.gather(first, *inside)
    await pair.all_free()


async def test_rows_come_back_after_deadlines(pair: Pair) -> None:
    """An image that expires in the queue gives its row back when it leaves."""
    first = await pair.hold()
    late = [pair.embed(seed, 0.05, bulk=True) for seed in range(QUEUE)]
    await pair.queued(QUEUE)
    over = time.monotonic() + 0.05
    await until(lambda: time.monotonic() > over)
    pair.model.session.let_go()
    await first
    for task in late:
        with pytest.raises(LookalikeError) as caught:
            await task
        assert caught.value.code is Code.DEADLINE_EXCEEDED
    await pair.all_free()


async def test_cancelled_image_keeps_its_row_while_it_is_read(pair: Pair) -> None:
    """A run that a caller has left still reads its image, so the row is free only after the run."""
    first = await pair.hold()
    first.cancel()
    await asyncio.gather(first, return_exceptions=True)
    waiting = pair.embed(1)
    await pair.queued(1)
    waiting.cancel()
    await pair.queued(0)
    # The one that left the queue is free; the one that is being run is not.
    await pair.settled()
    assert pair.remote.rows_free == ROWS - 1
    pair.model.session.let_go()
    await pair.all_free()


async def test_cancelled_before_it_was_begun(pair: Pair) -> None:
    """A call that is made and given up in one turn of the event loop takes no row with it."""
    for seed in range(2 * ROWS):
        task = pair.embed(seed)
        await asyncio.sleep(0)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
    await pair.all_free()


async def test_shared_image_outlives_its_first_caller(connected: Connect) -> None:
    """Who waits for the same image as a caller that gave up gets that image's embedding, whatever came after."""
    async with connected(embedding_cache_bytes=1_000_000, max_queue_size=100) as pair:
        first = await pair.hold()
        leaving, staying = pair.embed(1), pair.embed(1)
        await pair.queued(1)
        leaving.cancel()
        await asyncio.gather(leaving, return_exceptions=True)
        await pair.settled()
        others = [pair.embed(seed) for seed in range(2, 2 + ROWS)]  # write whatever row there is
        await pair.queued(1 + ROWS)
        pair.model.session.let_go()
        np.testing.assert_allclose((await staying).vector, expected(1), atol=1e-6)
        for seed, other in enumerate(others, start=2):
            np.testing.assert_allclose((await other).vector, expected(seed), atol=1e-6)
        await first
        await pair.all_free()


async def test_images_go_without_a_row_where_none_is_free(connected: Connect) -> None:
    """More images at once than there are rows are judged by the queue like any others."""
    async with connected(max_queue_size=3 * ROWS) as pair:
        first = await pair.hold()
        inside = [pair.embed(seed) for seed in range(3 * ROWS)]
        await pair.queued(3 * ROWS)
        assert pair.remote.rows_free == 0
        pair.model.session.let_go()
        for seed, answer in enumerate(await asyncio.gather(*inside)):
            np.testing.assert_allclose(answer.vector, expected(seed), atol=1e-6)
        await first
        await pair.all_free()


async def test_broken_connection_gives_everything_up(pair: Pair) -> None:
    """When the connection breaks the callers are told UNAVAILABLE, and the model's side drops what they asked."""
    first = await pair.hold()
    inside = [pair.embed(seed) for seed in range(QUEUE)]
    await pair.queued(QUEUE)
    pair.host.close()
    for task in (first, *inside):
        with pytest.raises(LookalikeError) as caught:
            await task
        assert caught.value.code is Code.UNAVAILABLE
        assert caught.value.retry_after is not None
    await pair.queued(0)
    with pytest.raises(LookalikeError) as caught:
        await pair.embed(1)
    assert caught.value.code is Code.UNAVAILABLE


async def test_fault_of_the_models_process_is_told_with_its_traceback(pair: Pair) -> None:
    """What raises over there comes back as a fault whose text says where, for this process's log."""
    with pytest.raises(EngineError, match="in _read_page"):
        await pair.remote.page(None, "", "none")  # type: ignore[arg-type]
