"""From an image to its embedding: look in the cache, decode, run in a batch."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial

from lookalike_server.domain.catalog import StoredImage
from lookalike_server.domain.inference import EmbedResult, Image, RawImage
from lookalike_server.inference.batcher import MicroBatcher
from lookalike_server.inference.embedding_cache import EmbeddingCache
from lookalike_server.inference.image_decoding import ImageDecoder
from lookalike_server.inference.stored_image import stored_image_of


class ImageEmbedder:
    """Cache, decoder and batcher in a row. Lives on one event loop; images are decoded in a pool of threads."""

    def __init__(
        self,
        decoder: ImageDecoder,
        batcher: MicroBatcher,
        cache: EmbeddingCache,
        decode_threads: ThreadPoolExecutor,
        clock: Callable[[], float],
        max_stored_image_bytes: int,
    ) -> None:
        """Take the stages; image files up to `max_stored_image_bytes` are kept for the catalog (0: none)."""
        self._decoder = decoder
        self._batcher = batcher
        self._cache = cache
        self._decode_threads = decode_threads
        self._clock = clock
        self._max_stored_image_bytes = max_stored_image_bytes

    def admit(self, deadline: float) -> None:
        """Reject an image before it is read, unless images repeat so often that the cache may have it.

        Raises:
            LookalikeError: As `MicroBatcher.admit`.
        """
        if self._cache.hits_are_rare:
            self._batcher.admit(deadline)

    def embed(self, image: Image, deadline: float, *, bulk: bool = False) -> Awaitable[EmbedResult]:
        """Embed one image: float32 [dim], with the stats of decoding, queue, run and cache.

        Raises:
            LookalikeError: As `ImageDecoder.decode` and `MicroBatcher.embed`.
        """
        if isinstance(image, RawImage) and self._decoder.is_model_input(image):
            compute: Callable[[], Awaitable[EmbedResult]] = partial(
                self._batcher.submit, image.pixels, deadline, bulk=bulk
            )  # there is nothing to decode
        else:
            compute = partial(self._decode_and_embed, image, deadline, bulk=bulk)
        return self._cache.get_or_compute(image, compute, bulk=bulk)

    async def stored_image(self, image: Image) -> StoredImage | None:
        """Make the file that the catalog keeps of an image; None where it is too large or none is kept."""
        if self._max_stored_image_bytes == 0:
            return None
        return await asyncio.get_running_loop().run_in_executor(
            self._decode_threads, stored_image_of, image, self._max_stored_image_bytes
        )

    async def _decode_and_embed(self, image: Image, deadline: float, *, bulk: bool) -> EmbedResult:
        started = self._clock()
        loop = asyncio.get_running_loop()
        pixels = await loop.run_in_executor(self._decode_threads, self._decoder.decode, image)
        decode = self._clock() - started
        result = await self._batcher.submit(pixels, deadline, bulk=bulk)
        return EmbedResult(result.vector, result.stats._replace(decode=decode))
