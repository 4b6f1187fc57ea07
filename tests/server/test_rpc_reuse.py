"""The cache as callers see it: a receipt that says so, and the same answer."""

from __future__ import annotations

from lookalike.v1 import embedding_service_pb2 as pb
from serving import Serve, encoded, noise, raw


async def test_second_time_is_from_the_cache(serve: Serve) -> None:
    """A photo sent again is answered from the cache with the same embedding, and the receipt says that."""
    async with serve(cache_bytes=100_000) as served:
        for image in (encoded(noise(1)), raw(noise(2))):
            first = await served.embedding.Embed(pb.EmbedRequest(image=image))
            second = await served.embedding.Embed(pb.EmbedRequest(image=image))
            assert not first.receipt.cache_hit
            assert second.receipt.cache_hit
            assert (second.receipt.batch_size, second.receipt.inference_us) == (0, 0)
            assert second.receipt.model_digest == first.receipt.model_digest
            assert first.embedding == second.embedding
        assert served.observer.reused == [True, True]
        assert served.observer.batches == [1, 1]
