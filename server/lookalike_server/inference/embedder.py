"""From an image to its embedding: reuse, decode, batch."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from lookalike_server.domain.catalog import StoredImage
from lookalike_server.domain.inference import EmbedResult, Image, RawImage, ResponseStats
from lookalike_server.inference.batcher import MicroBatcher
from lookalike_server.inference.embedding_cache import Embedding, EmbeddingCache
from lookalike_server.inference.image_decoding import ImageDecoder
from lookalike_server.inference.stored_image import stored_image_of


class ImageEmbedder:
    """The three stages put together. Lives on one event loop; decoding runs in a worker pool."""

    def __init__(
        self,
        reader: ImageDecoder,
        batcher: MicroBatcher,
        reuse: EmbeddingCache,
        decoders: ThreadPoolExecutor,
        clock: Callable[[], float],
        keep_bytes: int,
    ) -> None:
        """Take the stages; `decoders` is where images are read, and files of up to `keep_bytes` are kept (0: none)."""
        self._keep_bytes = keep_bytes
        self._reader = reader
        self._batcher = batcher
        self._reuse = reuse
        self._decoders = decoders
        self._clock = clock

    def admit(self, deadline: float) -> None:
        """Reject an image before it is seen; not where images come again, because then it may be known already.

        Raises:
            LookalikeError: As `MicroBatcher.admit`.
        """
        if self._reuse.is_rare:
            self._batcher.admit(deadline)

    async def embed(self, image: Image, deadline: float, *, bulk: bool = False) -> EmbedResult:
        """Embed one image; the stats lacks what only the caller knows (search, total, model).

        Raises:
            LookalikeError: As `ImageDecoder.read` and `MicroBatcher.embed`.
        """

        async def compute() -> Embedding:
            started = self._clock()
            if isinstance(image, RawImage) and self._reader.is_input(image):
                pixels = image.pixels  # nothing to do, so no trip to another thread
            else:
                pixels = await asyncio.get_running_loop().run_in_executor(self._decoders, self._reader.read, image)
            decoded = self._clock()
            ran = await self._batcher.embed(pixels, deadline, bulk=bulk)
            return Embedding(ran.vector, decoded - started, ran)

        embedding = await self._reuse.embed(image, compute, bulk=bulk)
        ran = embedding.ran
        if ran is None:
            return EmbedResult(embedding.vector, ResponseStats(cache_hit=True))
        stats = ResponseStats(
            decode=embedding.decode,
            queue=ran.queue,
            inference=ran.inference,
            batch_size=ran.batch_size,
            padded_size=ran.padded_size,
        )
        return EmbedResult(embedding.vector, stats)

    async def keep(self, image: Image) -> StoredImage | None:
        """The file of an embedded image as the catalog keeps it; None where it is too large or none is kept."""
        if self._keep_bytes == 0:
            return None
        return await asyncio.get_running_loop().run_in_executor(
            self._decoders, stored_image_of, image, self._keep_bytes
        )
