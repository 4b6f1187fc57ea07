"""From an image to its embedding: look in the cache, decode, run in a batch."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import partial

from lookalike_server.domain.calls import Call
from lookalike_server.domain.catalog import StoredImage
from lookalike_server.domain.inference import EmbedResult, Image, RawImage
from lookalike_server.inference.batcher import MicroBatcher
from lookalike_server.inference.decoding_pool import DecodingPool
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
        decoding: DecodingPool,
        max_stored_image_bytes: int,
    ) -> None:
        """Take the stages.

        Args:
            decoder: From files to the model's input.
            batcher: From that to embeddings.
            cache: Of embeddings.
            decoding: Where images are decoded.
            max_stored_image_bytes: The largest image file kept for the catalog; 0 keeps none.
        """
        self._decoder = decoder
        self._batcher = batcher
        self._cache = cache
        self._decoding = decoding
        self._max_stored_image_bytes = max_stored_image_bytes

    def hits_are_rare(self) -> bool:
        """Whether hardly any image is in the cache at present, so that nearly all need the model."""
        return self._cache.hits_are_rare

    def decodes(self, image: Image) -> bool:
        """Whether there is anything to decode in an image."""
        return not (isinstance(image, RawImage) and self._decoder.is_model_input(image))

    def embed(self, image: Image, call: Call, *, bulk: bool = False) -> Awaitable[EmbedResult]:
        """Embed one image: float32 [dim], with the stats of decoding, queue, run and cache.

        Raises:
            LookalikeError: As `ImageDecoder.decode` and `MicroBatcher.embed`.
        """
        if isinstance(image, RawImage) and self._decoder.is_model_input(image):
            compute: Callable[[], Awaitable[EmbedResult]] = partial(
                self._batcher.submit, image.pixels, call.deadline, bulk=bulk, caller=call.caller, trace=call.trace
            )  # there is nothing to decode
        else:
            compute = partial(self._decode_and_embed, image, call, bulk=bulk)
        return self._cache.get_or_compute(image, compute, bulk=bulk, trace=call.trace)

    async def stored_image(self, image: Image, call: Call) -> StoredImage | None:
        """Make the file that the catalog keeps of an image; None where it is too large or none is kept."""
        if self._max_stored_image_bytes == 0:
            return None
        return await self._decoding.run(call, stored_image_of, image, self._max_stored_image_bytes)

    async def _decode_and_embed(self, image: Image, call: Call, *, bulk: bool) -> EmbedResult:
        pixels, decode = await self._decoding.decode(self._decoder, image, call, bulk=bulk)
        result = await self._batcher.submit(pixels, call.deadline, bulk=bulk, caller=call.caller, trace=call.trace)
        return EmbedResult(result.vector, result.stats._replace(decode=decode))
