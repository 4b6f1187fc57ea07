"""A caller of the Open Inference Protocol that cancels, at each point where its call waits: no other is affected."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import pytest

from lookalike_server import app
from support.both_runtimes import provider  # noqa: F401 - every server runs with both
from support.oip_requests import embed, files, images, infer, raw_files, raw_images, stub, typed_images, vectors
from support.serving import HeldModel, Serve, Served, until

IDLE = "<MicroBatcher [Queued: 0 | Running: 0]>"


class CountingPool(ThreadPoolExecutor):
    """A pool that counts its tasks."""

    submitted = 0

    def submit(self, *arguments: Any, **keywords: Any) -> Future[Any]:
        """Count it."""
        self.submitted += 1
        return super().submit(*arguments, **keywords)


@contextmanager
def occupied(pool: ThreadPoolExecutor) -> Iterator[None]:
    """Keep a pool of one thread busy until the block ends."""
    end, begun = threading.Event(), threading.Event()

    def wait() -> None:
        begun.set()
        end.wait(240)

    pool.submit(wait)
    assert begun.wait(60)
    try:
        yield
    finally:
        end.set()


async def cancel(served: Served, call: asyncio.Task[Any]) -> None:
    """Cancel a call, and return once the server has recorded that and none of its images waits."""
    calls = len(served.observer.calls)
    call.cancel()
    await until(lambda: any(code == "CANCELLED" for _, code, _, _ in served.observer.calls[calls:]))
    await until(lambda: "Queued: 0 " in repr(served.app.batcher))


async def check_batches(served: Served, model: HeldModel, sizes: list[int]) -> None:
    """Check that the model ran these batches and no more, and that the next call is answered."""
    await until(lambda: repr(served.app.batcher) == IDLE)
    assert model.session.sizes == sizes
    assert vectors(await stub(served).ModelInfer(raw_images(images(2, first=500)))).shape == (2, 48)


async def test_cancelled_while_typed_contents_are_converted(serve: Serve) -> None:
    """When a caller cancels while its typed contents wait to become images, none of them is embedded."""
    model = HeldModel()
    with CountingPool(1) as pool:
        async with serve(load_session=model) as served:
            model.session.sizes.clear()
            asyncio.get_running_loop().set_default_executor(pool)
            with occupied(pool):
                call = infer(served, typed_images(images(2)))
                await until(lambda: pool.submitted == 2)
                await cancel(served, call)
            await check_batches(served, model, [])


async def test_cancelled_while_files_are_decoded(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    """When a caller cancels while its files wait to be decoded, none of them is embedded."""
    model = HeldModel()
    make_pool = app.pool
    with CountingPool(1) as pool:
        # The test keeps the only decoder busy, which needs its pool.
        monkeypatch.setattr(app, "pool", lambda threads, name: pool if name == "decoder" else make_pool(threads, name))
        async with serve(load_session=model, decode_threads=1) as served:
            model.session.sizes.clear()
            with occupied(pool):
                call = infer(served, raw_files(files(3)))
                await until(lambda: pool.submitted == 2)  # the other two wait in front of it
                await cancel(served, call)
            await check_batches(served, model, [])


@pytest.mark.parametrize("embedding_cache_bytes", [0, 1 << 20], ids=["no cache", "cache"])
@pytest.mark.parametrize(
    ("count", "max_queue_size"), [(1, 100), (5, 100), (5, 2), (40, 100)], ids=["one", "queued", "window", "bulk"]
)
async def test_cancelled_in_the_queue(
    serve: Serve, count: int, max_queue_size: int, embedding_cache_bytes: int
) -> None:
    """When a caller cancels, its images leave the queue, and so do those that had not entered the window yet."""
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
        await cancel(served, call)
        model.session.let_go()
        await first
        await check_batches(served, model, [1])


async def test_cancelled_behind_other_bulk_work(serve: Serve) -> None:
    """When a caller cancels behind the bulk images of another one, neither those nor the next call are affected."""
    model = HeldModel()
    async with serve(load_session=model, max_queue_size=20) as served:
        model.session.sizes.clear()
        model.session.hold()
        before = infer(served, raw_images(images(21)))
        await model.caught()
        await until(lambda: "Queued: 19 " in repr(served.app.batcher))
        behind = infer(served, raw_images(images(21, first=100)))
        await until(lambda: "bulk: <FairQueue [Queued: 20 " in repr(served.app.engine))
        behind.cancel()
        await until(lambda: any(code == "CANCELLED" for _, code, _, _ in served.observer.calls))
        model.session.let_go()
        assert vectors(await before).shape == (21, 48)
        await until(lambda: repr(served.app.batcher) == IDLE)
        assert sum(model.session.sizes) == 21


async def test_cancelled_while_the_model_runs(serve: Serve) -> None:
    """When a caller cancels while the model runs its image, the others of that batch get their embeddings."""
    model = HeldModel()
    async with serve(load_session=model) as served:
        model.session.sizes.clear()
        model.session.hold()
        call = infer(served, raw_images(images(1)))
        await model.caught()
        await cancel(served, call)
        model.session.let_go()
        await check_batches(served, model, [1])


async def test_cancelled_beside_the_same_image(serve: Serve) -> None:
    """When a caller cancels while it waits for the same image of another call, that image is still embedded."""
    model = HeldModel()
    async with serve(load_session=model, embedding_cache_bytes=1 << 20) as served:
        model.session.sizes.clear()
        model.session.hold()
        other = embed(served, 0)
        await model.caught()
        call = infer(served, raw_images(images(1)))
        await until(lambda: served.observer.reused == [False])
        await cancel(served, call)
        model.session.let_go()
        assert len((await other).embedding) == 48
        await check_batches(served, model, [1])
