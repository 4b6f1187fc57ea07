"""Identical images: computed once at a time, cached within a number of bytes, and callers independent of each other."""

from __future__ import annotations

import asyncio

import numpy as np

from lookalike_server.domain.errors import Code, LookalikeError, deadline_exceeded, invalid
from lookalike_server.domain.inference import EmbedResult, EncodedImage, Image, RawImage, Region, ResponseStats
from lookalike_server.inference.embedding_cache import EmbeddingCache, image_key
from support.fakes import RecordingObserver
from support.serving import until

ENTRY_BYTES = 48 * 4 + 200  # bytes that one embedding of 48 dimensions takes


def image(name: str) -> EncodedImage:
    """An image for each name."""
    return EncodedImage(name.encode(), None, "image")


class Computation:
    """Computes embeddings once `go` is set, and counts."""

    def __init__(self) -> None:
        self.started = 0
        self.go = asyncio.Event()
        self.failures: list[Exception] = []

    async def __call__(self) -> EmbedResult:
        """Wait, then fail or return a vector of this computation's number."""
        self.started += 1
        number = self.started
        await self.go.wait()
        if self.failures:
            raise self.failures.pop(0)
        return EmbedResult(np.full(48, number, dtype=np.float32), ResponseStats())


async def test_concurrent_callers_share_one_computation() -> None:
    """Ten callers with one image share one computation; another image has its own."""
    cache, compute = EmbeddingCache(10 * ENTRY_BYTES, observer := RecordingObserver()), Computation()
    callers = [asyncio.create_task(cache.get_or_compute(image("a"), compute, bulk=False)) for _ in range(10)]
    other = asyncio.create_task(cache.get_or_compute(image("b"), compute, bulk=False))
    await until(lambda: compute.started == 2)
    compute.go.set()
    assert {float(embedding.vector[0]) for embedding in await asyncio.gather(*callers)} == {1.0}
    assert float((await other).vector[0]) == 2.0
    assert observer.reused == [False] * 9


async def test_cached_embeddings_are_used() -> None:
    """An image that was embedded is not embedded again."""
    cache, compute = EmbeddingCache(10 * ENTRY_BYTES, observer := RecordingObserver()), Computation()
    compute.go.set()
    first = await cache.get_or_compute(image("a"), compute, bulk=False)
    second = await cache.get_or_compute(image("a"), compute, bulk=True)
    assert compute.started == 1
    np.testing.assert_array_equal(first.vector, second.vector)
    assert (first.stats.cache_hit, second.stats.cache_hit) == (False, True)
    assert observer.reused == [True]


async def test_the_least_recently_used_embedding_is_evicted() -> None:
    """With room for three, the fourth image evicts the one that was used longest ago."""
    cache, compute = EmbeddingCache(3 * ENTRY_BYTES, RecordingObserver()), Computation()
    compute.go.set()
    for name in ("a", "b", "c", "a", "d"):
        await cache.get_or_compute(image(name), compute, bulk=False)
    assert compute.started == 4
    for name in ("a", "c", "d"):
        await cache.get_or_compute(image(name), compute, bulk=False)
    assert compute.started == 4
    await cache.get_or_compute(image("b"), compute, bulk=False)
    assert compute.started == 5


async def test_without_capacity_nothing_is_shared() -> None:
    """With a capacity of 0 bytes, every image is computed for itself."""
    cache, compute = EmbeddingCache(0, RecordingObserver()), Computation()
    compute.go.set()
    await asyncio.gather(*(cache.get_or_compute(image("a"), compute, bulk=False) for _ in range(5)))
    assert compute.started == 5


async def test_a_cancelled_caller_does_not_disturb_the_others() -> None:
    """A computation goes on when its first caller is cancelled, and is cancelled with the last one."""
    cache, compute = EmbeddingCache(10 * ENTRY_BYTES, RecordingObserver()), Computation()
    callers = [asyncio.create_task(cache.get_or_compute(image("a"), compute, bulk=False)) for _ in range(3)]
    await until(lambda: compute.started == 1)
    callers[0].cancel()
    await asyncio.gather(callers[0], return_exceptions=True)
    compute.go.set()
    assert len(await asyncio.gather(*callers[1:])) == 2
    assert compute.started == 1

    compute.go.clear()
    last = asyncio.create_task(cache.get_or_compute(image("b"), compute, bulk=False))
    await until(lambda: compute.started == 2)
    last.cancel()
    await asyncio.gather(last, return_exceptions=True)
    compute.go.set()
    await cache.get_or_compute(image("b"), compute, bulk=False)
    assert compute.started == 3


async def test_a_shared_future_is_cancelled_with_its_last_caller() -> None:
    """Where the computation is a future, cancelling a caller leaves it alone while another one waits."""
    cache = EmbeddingCache(10 * ENTRY_BYTES, observer := RecordingObserver())
    future: asyncio.Future[EmbedResult] = asyncio.get_running_loop().create_future()
    callers = [asyncio.create_task(cache.get_or_compute(image("a"), lambda: future, bulk=False)) for _ in range(2)]
    await until(lambda: observer.reused == [False])
    for caller, expected in zip(callers, (False, True), strict=True):
        caller.cancel()
        await asyncio.gather(caller, return_exceptions=True)
        assert future.cancelled() is expected


async def test_the_first_callers_deadline_is_its_own() -> None:
    """Where the first caller's deadline passes, the others compute for themselves."""
    cache, compute = EmbeddingCache(10 * ENTRY_BYTES, RecordingObserver()), Computation()
    compute.failures = [deadline_exceeded()]
    callers = [asyncio.create_task(cache.get_or_compute(image("a"), compute, bulk=False)) for _ in range(3)]
    await until(lambda: compute.started == 1)
    compute.go.set()
    outcomes = await asyncio.gather(*callers, return_exceptions=True)
    assert isinstance(outcomes[0], LookalikeError)
    assert outcomes[0].code is Code.DEADLINE_EXCEEDED
    assert all(isinstance(outcome, EmbedResult) for outcome in outcomes[1:])
    assert compute.started == 2


async def test_a_bad_image_fails_each_caller_with_its_own_field() -> None:
    """A broken image fails each caller with an error that has its own field; nothing is cached."""
    cache, compute = EmbeddingCache(10 * ENTRY_BYTES, RecordingObserver()), Computation()
    compute.failures = [invalid(f"products[{i}].images[0]", "broken") for i in range(2)]
    callers = [asyncio.create_task(cache.get_or_compute(image("a"), compute, bulk=False)) for _ in range(2)]
    await until(lambda: compute.started == 1)
    compute.go.set()
    outcomes = await asyncio.gather(*callers, return_exceptions=True)
    assert [str(outcome) for outcome in outcomes] == [f"products[{i}].images[0]: broken" for i in range(2)]
    assert isinstance(await cache.get_or_compute(image("a"), compute, bulk=False), EmbedResult)


async def test_a_failing_model_fails_every_caller() -> None:
    """An internal error is raised in all callers that waited for it, and is not cached."""
    cache, compute = EmbeddingCache(10 * ENTRY_BYTES, RecordingObserver()), Computation()
    compute.failures = [LookalikeError(Code.INTERNAL, "failed")]
    callers = [asyncio.create_task(cache.get_or_compute(image("a"), compute, bulk=False)) for _ in range(3)]
    await until(lambda: compute.started == 1)
    compute.go.set()
    outcomes = await asyncio.gather(*callers, return_exceptions=True)
    assert all(isinstance(outcome, LookalikeError) for outcome in outcomes)
    assert compute.started == 1
    assert isinstance(await cache.get_or_compute(image("a"), compute, bulk=False), EmbedResult)


def test_keys_differ_by_content() -> None:
    """Bytes, pixels, shape and region all count; the request's field does not."""
    pixels = np.arange(48, dtype=np.uint8)
    region = Region(0, 0, 0.5, 1)
    images: list[Image] = [
        EncodedImage(b"a", None, "image"),
        EncodedImage(b"b", None, "image"),
        EncodedImage(b"a", region, "image"),
        EncodedImage(pixels.tobytes(), None, "image"),
        RawImage(pixels.reshape(4, 4, 3), None, "image"),
        RawImage(pixels.reshape(2, 8, 3), None, "image"),
        RawImage(pixels.reshape(4, 4, 3), region, "image"),
    ]
    keys = [image_key(each) for each in images]
    assert len(set(keys)) == len(keys)
    assert all(len(key) == 16 for key in keys)
    assert image_key(EncodedImage(b"a", None, "products[3].images[0]")) == keys[0]


async def test_repeated_images_are_noticed() -> None:
    """Hits are rare until images repeat, and rare again once they no longer do."""
    cache = EmbeddingCache(100 * ENTRY_BYTES, RecordingObserver())

    async def embed(name: str) -> None:
        async def compute() -> EmbedResult:
            return EmbedResult(np.zeros(48, dtype=np.float32), ResponseStats())

        await cache.get_or_compute(image(name), compute, bulk=False)

    rare = [cache.hits_are_rare]
    for _ in range(5):
        await embed("the same")
    rare.append(cache.hits_are_rare)
    for number in range(200):
        await embed(str(number))
    rare.append(cache.hits_are_rare)
    assert rare == [True, False, True]


async def test_images_that_never_repeat_are_only_sampled() -> None:
    """After a thousand images without a hit every 16th is looked up, until one of those is a hit."""
    cache, compute = EmbeddingCache(2000 * ENTRY_BYTES, observer := RecordingObserver()), Computation()
    compute.go.set()

    async def hits(name: str, times: int) -> int:
        before = len(observer.reused)
        for _ in range(times):
            await cache.get_or_compute(image(name), compute, bulk=False)
        return len(observer.reused) - before

    for number in range(1000):
        await hits(str(number), 1)
    assert await hits("a", 31) == 0  # looked up once
    assert await hits("a", 1) == 1
    assert await hits("a", 10) == 10
    assert await hits("b", 10) == 9
