"""Identical images are embedded once: while one is on its way others wait for it, and afterwards a cache has it.

The key is a 128-bit hash of the image as it was sent, with a seed of this process, so that nobody can prepare two
images that collide.
"""

from __future__ import annotations

import asyncio
import secrets
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import xxhash

from lookalike_server.domain.errors import Code, LookalikeError
from lookalike_server.domain.events import EmbeddingReused, Observer
from lookalike_server.domain.inference import EncodedImage, Floats, Image
from lookalike_server.inference.batcher import InferenceResult

_OVERHEAD = 200  # bytes that an entry takes beside its numbers, about
_RARE, _LEARNING_RATE = 0.02, 0.02  # the second is the newest image's weight: fifty images, about, are remembered
_SEED = secrets.randbits(64)

_FIRST_CALLERS_OWN = frozenset({Code.DEADLINE_EXCEEDED, Code.RESOURCE_EXHAUSTED, Code.INVALID_ARGUMENT})
"""Failures about the first caller's time, or that name a field of its request: whoever waits along tries for itself."""


@dataclass(frozen=True, slots=True)
class Embedding:
    """An image's embedding: float32 [dim], the seconds that decoding took, and its run (None from the cache)."""

    vector: Floats
    decode: float
    ran: InferenceResult | None


@dataclass(eq=False, slots=True)
class _Flight:
    task: asyncio.Task[Embedding]
    waiting: int = 0


class EmbeddingCache:
    """Embeddings by image, on their way and done. Lives on one event loop."""

    def __init__(self, capacity: int, observer: Observer) -> None:
        """Keep at most `capacity` bytes; 0 reuses nothing at all."""
        self._capacity = capacity
        self._observer = observer
        self._kept: OrderedDict[bytes, Floats] = OrderedDict()
        self._bytes = 0
        self._flights: dict[tuple[bytes, bool], _Flight] = {}
        self._share = 0.0  # of the images of late that were reused

    @property
    def is_rare(self) -> bool:
        """Whether hardly any image of late was on its way or kept already."""
        return self._share < _RARE

    async def embed(self, image: Image, compute: Callable[[], Awaitable[Embedding]], *, bulk: bool) -> Embedding:
        """The image's embedding: kept, or of the same image on its way, or by `compute`.

        A caller that gives up does not disturb the others; the computation is given up with the last of them. Bulk and
        interactive calls do not wait for each other: one is in less of a hurry.
        """
        if self._capacity == 0:
            return await compute()
        key = image_key(image)
        while True:
            vector = self._kept.get(key)
            self._share += _LEARNING_RATE * ((vector is not None or (key, bulk) in self._flights) - self._share)
            if vector is not None:
                self._kept.move_to_end(key)
                self._observer(EmbeddingReused(cached=True))
                return Embedding(vector, 0.0, None)
            flight = self._flights.get((key, bulk))
            first = flight is None
            if flight is None:
                flight = self._start(key, compute, bulk=bulk)
            else:
                self._observer(EmbeddingReused(cached=False))
            try:
                return await self._wait(flight)
            except LookalikeError as error:
                if first or error.code not in _FIRST_CALLERS_OWN:
                    raise

    def _start(self, key: bytes, compute: Callable[[], Awaitable[Embedding]], *, bulk: bool) -> _Flight:
        async def fly() -> Embedding:
            embedding = await compute()
            self._keep(key, embedding.vector)
            return embedding

        flight = _Flight(asyncio.create_task(fly()))
        self._flights[key, bulk] = flight

        def land(task: asyncio.Task[Embedding]) -> None:
            if self._flights.get((key, bulk)) is flight:
                del self._flights[key, bulk]
            if not task.cancelled():
                task.exception()  # seen, also when every caller has gone

        flight.task.add_done_callback(land)
        return flight

    async def _wait(self, flight: _Flight) -> Embedding:
        flight.waiting += 1
        try:
            return await asyncio.shield(flight.task)
        finally:
            flight.waiting -= 1
            if flight.waiting == 0 and not flight.task.done():
                flight.task.cancel()
                # A cancelled flight is nobody's to join.
                self._flights = {key: other for key, other in self._flights.items() if other is not flight}

    def _keep(self, key: bytes, vector: Floats) -> None:
        if key in self._kept:
            return
        # A copy: the vector is a row of its whole batch, which would stay in memory with it.
        self._kept[key] = vector.copy()
        self._bytes += vector.nbytes + _OVERHEAD
        while self._bytes > self._capacity:
            _, oldest = self._kept.popitem(last=False)
            self._bytes -= oldest.nbytes + _OVERHEAD


def image_key(image: Image) -> bytes:
    """16 bytes that name an image's content: its bytes or pixels, and its region."""
    if isinstance(image, EncodedImage):
        digest = xxhash.xxh3_128(image.data, seed=_SEED)
        digest.update(b"encoded")
    else:
        digest = xxhash.xxh3_128(image.pixels.data, seed=_SEED)
        digest.update(repr(image.pixels.shape).encode())
    digest.update(repr(image.region).encode())
    return digest.digest()
