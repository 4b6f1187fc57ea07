"""The cache as callers see it: stats that say so, and the same embedding."""

from __future__ import annotations

from lookalike.v1 import embedding_service_pb2 as pb
from support.serving import Serve, encoded, noise, raw


async def test_second_time_is_from_the_cache(serve: Serve) -> None:
    """An image sent again is answered from the cache with the same embedding, and the stats say so."""
    async with serve(embedding_cache_bytes=100_000) as served:
        for image in (encoded(noise(1)), raw(noise(2))):
            first = await served.embedding.Embed(pb.EmbedRequest(image=image))
            second = await served.embedding.Embed(pb.EmbedRequest(image=image))
            assert not first.stats.cache_hit
            assert second.stats.cache_hit
            assert (second.stats.batch_size, second.stats.inference_us) == (0, 0)
            assert second.stats.model_digest == first.stats.model_digest
            assert first.embedding == second.embedding
        assert served.observer.reused == [True, True]
        assert served.observer.batches == [1, 1]
