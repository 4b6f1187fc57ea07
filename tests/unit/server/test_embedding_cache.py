"""Identical images: computed once while on their way, kept within a number of bytes, and no caller tied to another."""

from __future__ import annotations

import asyncio

import numpy as np

from lookalike_server.domain.errors import Code, LookalikeError, deadline_exceeded, invalid
from lookalike_server.domain.inference import EncodedImage, Image, RawImage, Region
from lookalike_server.inference.embedding_cache import Embedding, EmbeddingCache, image_key
from support.fakes import RecordingObserver
from support.serving import until

ROOM = 48 * 4 + 200  # bytes that one embedding of 48 numbers takes


def image(name: str) -> EncodedImage:
    """An image that is like no other."""
    return EncodedImage(name.encode(), None, "image")


class Computing:
    """Computes embeddings when told to, and counts."""

    def __init__(self) -> None:
        self.started = 0
        self.go = asyncio.Event()
        self.failures: list[Exception] = []

    async def __call__(self) -> Embedding:
        """Wait for the word, then fail or give a vector of this computation's number."""
        self.started += 1
        number = self.started
        await self.go.wait()
        if self.failures:
            raise self.failures.pop(0)
        return Embedding(np.full(48, number, dtype=np.float32), 0.0, None)


async def test_the_same_image_on_its_way_is_computed_once() -> None:
    """Ten callers with one image share one computation; another image has its own."""
    reuse, computing = EmbeddingCache(10 * ROOM, observer := RecordingObserver()), Computing()
    callers = [asyncio.create_task(reuse.embed(image("a"), computing, bulk=False)) for _ in range(10)]
    other = asyncio.create_task(reuse.embed(image("b"), computing, bulk=False))
    await until(lambda: computing.started == 2)
    computing.go.set()
    assert {float(embedding.vector[0]) for embedding in await asyncio.gather(*callers)} == {1.0}
    assert float((await other).vector[0]) == 2.0
    assert observer.reused == [False] * 9


async def test_kept_embeddings_are_used() -> None:
    """An image that was embedded is not embedded again."""
    reuse, computing = EmbeddingCache(10 * ROOM, observer := RecordingObserver()), Computing()
    computing.go.set()
    first = await reuse.embed(image("a"), computing, bulk=False)
    second = await reuse.embed(image("a"), computing, bulk=True)
    assert computing.started == 1
    np.testing.assert_array_equal(first.vector, second.vector)
    assert second.ran is None
    assert observer.reused == [True]


async def test_the_cache_is_bounded_and_forgets_the_least_recently_used() -> None:
    """With room for three, the fourth image pushes out the one that was used longest ago."""
    reuse, computing = EmbeddingCache(3 * ROOM, RecordingObserver()), Computing()
    computing.go.set()
    for name in ("a", "b", "c", "a", "d"):
        await reuse.embed(image(name), computing, bulk=False)
    assert computing.started == 4
    for name in ("a", "c", "d"):
        await reuse.embed(image(name), computing, bulk=False)
    assert computing.started == 4
    await reuse.embed(image("b"), computing, bulk=False)
    assert computing.started == 5


async def test_off_means_off() -> None:
    """With no bytes, every image is computed for itself."""
    reuse, computing = EmbeddingCache(0, RecordingObserver()), Computing()
    computing.go.set()
    await asyncio.gather(*(reuse.embed(image("a"), computing, bulk=False) for _ in range(5)))
    assert computing.started == 5


async def test_a_caller_that_gives_up_does_not_disturb_the_others() -> None:
    """The first caller's cancel leaves the computation to the others; with the last of them it is given up."""
    reuse, computing = EmbeddingCache(10 * ROOM, RecordingObserver()), Computing()
    callers = [asyncio.create_task(reuse.embed(image("a"), computing, bulk=False)) for _ in range(3)]
    await until(lambda: computing.started == 1)
    callers[0].cancel()
    await asyncio.gather(callers[0], return_exceptions=True)
    computing.go.set()
    assert len(await asyncio.gather(*callers[1:])) == 2
    assert computing.started == 1

    computing.go.clear()
    last = asyncio.create_task(reuse.embed(image("b"), computing, bulk=False))
    await until(lambda: computing.started == 2)
    last.cancel()
    await asyncio.gather(last, return_exceptions=True)
    computing.go.set()
    await reuse.embed(image("b"), computing, bulk=False)
    assert computing.started == 3


async def test_the_first_callers_deadline_is_not_the_others() -> None:
    """Where the first caller's time runs out, those who waited along compute for themselves."""
    reuse, computing = EmbeddingCache(10 * ROOM, RecordingObserver()), Computing()
    computing.failures = [deadline_exceeded()]
    callers = [asyncio.create_task(reuse.embed(image("a"), computing, bulk=False)) for _ in range(3)]
    await until(lambda: computing.started == 1)
    computing.go.set()
    outcomes = await asyncio.gather(*callers, return_exceptions=True)
    assert isinstance(outcomes[0], LookalikeError)
    assert outcomes[0].code is Code.DEADLINE_EXCEEDED
    assert all(isinstance(outcome, Embedding) for outcome in outcomes[1:])
    assert computing.started == 2


async def test_a_bad_image_is_told_to_each_in_its_own_words() -> None:
    """A broken image fails for each caller with an error of its own, which names its own field; nothing is kept."""
    reuse, computing = EmbeddingCache(10 * ROOM, RecordingObserver()), Computing()
    computing.failures = [invalid(f"products[{i}].images[0]", "broken") for i in range(2)]
    callers = [asyncio.create_task(reuse.embed(image("a"), computing, bulk=False)) for _ in range(2)]
    await until(lambda: computing.started == 1)
    computing.go.set()
    outcomes = await asyncio.gather(*callers, return_exceptions=True)
    assert [str(outcome) for outcome in outcomes] == [f"products[{i}].images[0]: broken" for i in range(2)]
    assert isinstance(await reuse.embed(image("a"), computing, bulk=False), Embedding)


async def test_a_failing_model_is_everybodys() -> None:
    """A failure of ours is told to all who waited for it, and is not kept."""
    reuse, computing = EmbeddingCache(10 * ROOM, RecordingObserver()), Computing()
    computing.failures = [LookalikeError(Code.INTERNAL, "failed")]
    callers = [asyncio.create_task(reuse.embed(image("a"), computing, bulk=False)) for _ in range(3)]
    await until(lambda: computing.started == 1)
    computing.go.set()
    outcomes = await asyncio.gather(*callers, return_exceptions=True)
    assert all(isinstance(outcome, LookalikeError) for outcome in outcomes)
    assert computing.started == 1
    assert isinstance(await reuse.embed(image("a"), computing, bulk=False), Embedding)


def test_keys_tell_images_apart() -> None:
    """Bytes, pixels, shape and region all count; the field where an image stood does not."""
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


async def test_images_that_come_again_are_noticed() -> None:
    """EmbeddingCache is rare until images come again, and rare again once they do not any more."""
    reuse = EmbeddingCache(100 * ROOM, RecordingObserver())

    async def ask(name: str) -> None:
        async def compute() -> Embedding:
            return Embedding(np.zeros(48, dtype=np.float32), 0.0, None)

        await reuse.embed(image(name), compute, bulk=False)

    noticed = [reuse.is_rare]
    for _ in range(5):
        await ask("the same")
    noticed.append(reuse.is_rare)
    for number in range(200):
        await ask(str(number))
    noticed.append(reuse.is_rare)
    assert noticed == [True, False, True]
