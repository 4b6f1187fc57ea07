"""A caller of the Open Inference Protocol that leaves, at each point where its call waits: nobody else notices."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import pytest

from support.oip_requests import embed, files, images, infer, raw_files, raw_images, stub, typed_images, vectors
from support.serving import HeldModel, Serve, Served, until

IDLE = "<MicroBatcher [Queued: 0 | Running: 0]>"


class CountingPool(ThreadPoolExecutor):
    """A pool that knows how much it was given."""

    given = 0

    def submit(self, *arguments: Any, **keywords: Any) -> Future[Any]:
        """Count it."""
        self.given += 1
        return super().submit(*arguments, **keywords)


@contextmanager
def occupied(pool: ThreadPoolExecutor) -> Iterator[None]:
    """A pool of one thread that does something else until the block ends."""
    end, begun = threading.Event(), threading.Event()

    def wait() -> None:
        begun.set()
        end.wait(60)

    pool.submit(wait)
    assert begun.wait(30)
    try:
        yield
    finally:
        end.set()


async def given_up(served: Served, call: asyncio.Task[Any]) -> None:
    """Cancel a call, and return once the server has noted it and nothing of it waits."""
    calls = len(served.observer.calls)
    call.cancel()
    await until(lambda: any(code == "CANCELLED" for _, code, _, _ in served.observer.calls[calls:]))
    await until(lambda: "Queued: 0 " in repr(served.app.batcher))


async def goes_on(served: Served, model: HeldModel, sizes: list[int]) -> None:
    """The model has run these batches and no more, and the next call is answered."""
    await until(lambda: repr(served.app.batcher) == IDLE)
    assert model.session.sizes == sizes
    assert vectors(await stub(served).ModelInfer(raw_images(images(2, first=500)))).shape == (2, 48)


async def test_cancelled_while_numbers_are_converted(serve: Serve) -> None:
    """A caller that leaves while its numbers wait to become images has none of them embedded."""
    model = HeldModel()
    with CountingPool(1) as pool:
        async with serve(load_session=model) as served:
            model.session.sizes.clear()
            asyncio.get_running_loop().set_default_executor(pool)
            with occupied(pool):
                call = infer(served, typed_images(images(2)))
                await until(lambda: pool.given == 2)
                await given_up(served, call)
            await goes_on(served, model, [])


async def test_cancelled_while_files_are_decoded(serve: Serve) -> None:
    """A caller that leaves while its files wait to be decoded has none of them embedded."""
    model = HeldModel()
    with CountingPool(1) as pool:
        async with serve(load_session=model) as served:
            model.session.sizes.clear()
            served.app.engine._embedder._decoders = pool  # no other way to keep a decoder busy for so long
            with occupied(pool):
                call = infer(served, raw_files(files(3)))
                await until(lambda: pool.given == 4)
                await given_up(served, call)
            await goes_on(served, model, [])


@pytest.mark.parametrize("embedding_cache_bytes", [0, 1 << 20], ids=["alone", "reuse"])
@pytest.mark.parametrize(
    ("count", "max_queue_size"), [(1, 100), (5, 100), (5, 2), (40, 100)], ids=["one", "queued", "window", "bulk"]
)
async def test_cancelled_in_the_queue(
    serve: Serve, count: int, max_queue_size: int, embedding_cache_bytes: int
) -> None:
    """A caller that leaves takes its images out of the queue, and those that had not come into the window yet."""
    model = HeldModel()
    async with serve(
        load_session=model, max_queue_size=max_queue_size, embedding_cache_bytes=embedding_cache_bytes
    ) as served:
        model.session.sizes.clear()
        model.session.hold()
        first = embed(served, 1000)
        await model.caught()
        call = infer(served, raw_images(images(count)))
        inside = min(count, served.app.engine.stream_window)
        await until(lambda: f"Queued: {inside} " in repr(served.app.batcher))
        await given_up(served, call)
        model.session.let_go()
        await first
        await goes_on(served, model, [1])


async def test_cancelled_behind_other_bulk_work(serve: Serve) -> None:
    """A caller that leaves while others' bulk images are before its own disturbs neither them nor the next."""
    model = HeldModel()
    async with serve(load_session=model, max_queue_size=20) as served:
        model.session.sizes.clear()
        model.session.hold()
        before = infer(served, raw_images(images(21)))
        await model.caught()
        await until(lambda: "Queued: 19 " in repr(served.app.batcher))
        behind = infer(served, raw_images(images(21, first=100)))
        await until(lambda: "waiters:20]" in repr(served.app.engine._bulk))
        behind.cancel()
        await until(lambda: any(code == "CANCELLED" for _, code, _, _ in served.observer.calls))
        model.session.let_go()
        assert vectors(await before).shape == (21, 48)
        await until(lambda: repr(served.app.batcher) == IDLE)
        assert sum(model.session.sizes) == 21


async def test_cancelled_while_the_model_runs(serve: Serve) -> None:
    """A caller that leaves while the model has its image leaves the others of that batch their answers."""
    model = HeldModel()
    async with serve(load_session=model) as served:
        model.session.sizes.clear()
        model.session.hold()
        call = infer(served, raw_images(images(1)))
        await model.caught()
        await given_up(served, call)
        model.session.let_go()
        await goes_on(served, model, [1])


async def test_cancelled_beside_the_same_image(serve: Serve) -> None:
    """A caller that leaves while it waits along for another's image leaves that image on its way."""
    model = HeldModel()
    async with serve(load_session=model, embedding_cache_bytes=1 << 20) as served:
        model.session.sizes.clear()
        model.session.hold()
        other = embed(served, 0)
        await model.caught()
        call = infer(served, raw_images(images(1)))
        await until(lambda: served.observer.reused == [False])
        await given_up(served, call)
        model.session.let_go()
        assert len((await other).embedding) == 48
        await goes_on(served, model, [1])
