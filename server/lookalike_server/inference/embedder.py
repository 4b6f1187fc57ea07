"""From a photo to its embedding: reuse, decode, batch."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from lookalike_server.domain import Embedded, Photo, Picture, RawPhoto, Receipt
from lookalike_server.inference.batcher import MicroBatcher
from lookalike_server.inference.image import PhotoReader
from lookalike_server.inference.pictures import picture_of
from lookalike_server.inference.reuse import Embedding, Reuse


class PhotoEmbedder:
    """The three stages put together. Lives on one event loop; decoding runs in a worker pool."""

    def __init__(
        self,
        reader: PhotoReader,
        batcher: MicroBatcher,
        reuse: Reuse,
        decoders: ThreadPoolExecutor,
        clock: Callable[[], float],
        keep_bytes: int,
    ) -> None:
        """Take the stages; `decoders` is where photos are read, and files of up to `keep_bytes` are kept (0: none)."""
        self._keep_bytes = keep_bytes
        self._reader = reader
        self._batcher = batcher
        self._reuse = reuse
        self._decoders = decoders
        self._clock = clock

    def admit(self, deadline: float) -> None:
        """Refuse a photo before it is seen; not where photos come again, because then it may be known already.

        Raises:
            LookalikeError: As `MicroBatcher.admit`.
        """
        if self._reuse.is_rare:
            self._batcher.admit(deadline)

    async def embed(self, photo: Photo, deadline: float, *, bulk: bool = False) -> Embedded:
        """Embed one photo; the receipt lacks what only the caller knows (search, total, model).

        Raises:
            LookalikeError: As `PhotoReader.read` and `MicroBatcher.embed`.
        """

        async def compute() -> Embedding:
            started = self._clock()
            if isinstance(photo, RawPhoto) and self._reader.is_input(photo):
                pixels = photo.pixels  # nothing to do, so no trip to another thread
            else:
                pixels = await asyncio.get_running_loop().run_in_executor(self._decoders, self._reader.read, photo)
            decoded = self._clock()
            ran = await self._batcher.embed(pixels, deadline, bulk=bulk)
            return Embedding(ran.vector, decoded - started, ran)

        embedding = await self._reuse.embed(photo, compute, bulk=bulk)
        ran = embedding.ran
        if ran is None:
            return Embedded(embedding.vector, Receipt(cache_hit=True))
        receipt = Receipt(
            decode=embedding.decode,
            queue=ran.queue,
            inference=ran.inference,
            batch_size=ran.batch_size,
            padded_size=ran.padded_size,
        )
        return Embedded(embedding.vector, receipt)

    async def keep(self, photo: Photo) -> Picture | None:
        """The file of an embedded photo as the catalogue keeps it; None where it is too large or none is kept."""
        if self._keep_bytes == 0:
            return None
        return await asyncio.get_running_loop().run_in_executor(self._decoders, picture_of, photo, self._keep_bytes)
