"""Identical images are embedded once: concurrent callers share one computation, and a cache holds its result.

The key is a 128-bit hash of the image as it was sent, with a random seed per process, so that nobody can prepare two
images that collide.

Hashing and bookkeeping take a good part of a cheap model's time. Where images never repeat, which is after a thousand
in a row without a hit, only every 16th is looked up and the others are computed for themselves; the first hit ends
that.
"""

from __future__ import annotations

import asyncio
import secrets
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import partial

import xxhash

from lookalike_server.domain.calls import TraceContext
from lookalike_server.domain.errors import Code, LookalikeError
from lookalike_server.domain.events import EmbeddingMissed, EmbeddingReused, Observer
from lookalike_server.domain.inference import EmbedResult, EncodedImage, Floats, Image, ResponseStats
from lookalike_server.domain.observing import receiver

_OVERHEAD = 200  # bytes that an entry takes beside its vector, about
_RARE = 0.02
_LEARNING_RATE = 0.02  # weight of the newest image in the hit rate, which so covers about fifty images
_SAMPLED_AFTER = 1000  # images in a row without a hit
_SAMPLE_EVERY = 16
_SEED = secrets.randbits(64)

_FIRST_CALLERS_OWN = frozenset({Code.DEADLINE_EXCEEDED, Code.RESOURCE_EXHAUSTED, Code.INVALID_ARGUMENT})
"""Errors about the first caller's deadline or request fields, after which the other callers compute for themselves."""


@dataclass(eq=False, slots=True)
class _Computation:
    """An image that is being embedded.

    Attributes:
        key: The image's hash, and whether it is bulk work.
        future: Resolves to the embedding.
        callers: A future for each caller that waits, because cancelling one must not cancel the computation.
    """

    key: tuple[bytes, bool]
    future: asyncio.Future[EmbedResult]
    callers: list[asyncio.Future[EmbedResult]]


class EmbeddingCache:
    """An LRU cache of embeddings by image, and the computations under way. Lives on one event loop."""

    def __init__(self, capacity: int, observer: Observer) -> None:
        """Hold at most `capacity` bytes; with 0 every image is computed for itself."""
        self._capacity = capacity
        self._observer = observer
        self._on_miss = receiver(observer, EmbeddingMissed)
        self._vectors: OrderedDict[bytes, Floats] = OrderedDict()
        self._bytes = 0
        self._computations: dict[tuple[bytes, bool], _Computation] = {}
        self._hit_rate = 0.0  # of recent images
        self._misses = 0  # images in a row without a hit, of those that were looked up
        self._unsampled = 0  # images since the last one that was looked up

    @property
    def hits_are_rare(self) -> bool:
        """Whether hardly any recent image was cached or being computed already."""
        return self._hit_rate < _RARE

    async def get_or_compute(
        self,
        image: Image,
        compute: Callable[[], Awaitable[EmbedResult]],
        *,
        bulk: bool,
        trace: TraceContext | None = None,
    ) -> EmbedResult:
        """Return the image's embedding: from the cache, from a computation under way, or by `compute`.

        A caller that is cancelled does not disturb the others; the computation is cancelled with the last of them. Bulk
        and interactive calls do not share computations, because bulk ones may take far longer. `trace` is the caller's,
        where that is recorded.

        Raises:
            Exception: What `compute` raises.
        """
        if self._capacity == 0 or self._skips():
            return await compute()
        key = (image_key(image), bulk)
        while True:
            vector = self._vectors.get(key[0])
            computation = self._computations.get(key)
            first = vector is None and computation is None
            self._hit_rate += _LEARNING_RATE * ((not first) - self._hit_rate)
            self._misses = self._misses + 1 if first else 0
            if vector is not None:
                self._vectors.move_to_end(key[0])
                self._observer(EmbeddingReused(cached=True, trace=trace))
                return EmbedResult(vector, ResponseStats(cache_hit=True))
            if computation is None:
                if self._on_miss is not None:
                    self._on_miss(EmbeddingMissed())
                computation = self._start(key, compute)
            else:
                self._observer(EmbeddingReused(cached=False, trace=trace))
            try:
                return await self._wait(computation)
            except LookalikeError as error:
                if first or error.code not in _FIRST_CALLERS_OWN:
                    raise

    def _skips(self) -> bool:
        """Whether the next image is not looked up, because images do not repeat at present."""
        if self._misses < _SAMPLED_AFTER:
            return False
        self._unsampled = (self._unsampled + 1) % _SAMPLE_EVERY
        return self._unsampled != 0

    def _start(self, key: tuple[bytes, bool], compute: Callable[[], Awaitable[EmbedResult]]) -> _Computation:
        computation = self._computations[key] = _Computation(key, asyncio.ensure_future(compute()), [])
        computation.future.add_done_callback(partial(self._finish, computation))
        return computation

    def _finish(self, computation: _Computation, future: asyncio.Future[EmbedResult]) -> None:
        self._forget(computation)
        callers = [caller for caller in computation.callers if not caller.done()]
        if future.cancelled():
            for caller in callers:
                caller.cancel()
        elif error := future.exception():
            for caller in callers:
                caller.set_exception(error)
        else:
            result = future.result()
            for caller in callers:
                caller.set_result(result)
            self._store(computation.key[0], result.vector)

    async def _wait(self, computation: _Computation) -> EmbedResult:
        caller: asyncio.Future[EmbedResult] = asyncio.get_running_loop().create_future()
        computation.callers.append(caller)
        try:
            return await caller
        except asyncio.CancelledError:
            if all(each.cancelled() for each in computation.callers):
                computation.future.cancel()
                self._forget(computation)  # at once: nobody may join a cancelled computation
            raise

    def _forget(self, computation: _Computation) -> None:
        if self._computations.get(computation.key) is computation:
            del self._computations[computation.key]

    def _store(self, key: bytes, vector: Floats) -> None:
        if key in self._vectors:
            return
        # A copy: the vector is a row of its whole batch, which would stay in memory with it.
        self._vectors[key] = vector.copy()
        self._bytes += vector.nbytes + _OVERHEAD
        while self._bytes > self._capacity:
            _, oldest = self._vectors.popitem(last=False)
            self._bytes -= oldest.nbytes + _OVERHEAD


def image_key(image: Image) -> bytes:
    """Hash an image's content to 16 bytes: its file or pixels, and its region."""
    if isinstance(image, EncodedImage):
        digest = xxhash.xxh3_128(image.data, seed=_SEED)
        digest.update(b"encoded")
    else:
        digest = xxhash.xxh3_128(image.pixels.data, seed=_SEED)
        digest.update(repr(image.pixels.shape).encode())
    digest.update(repr(image.region).encode())
    return digest.digest()
