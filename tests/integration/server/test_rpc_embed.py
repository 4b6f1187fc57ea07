"""Embed and GetModel, over real gRPC and a real model."""

from __future__ import annotations

import asyncio
import hashlib

import numpy as np

from lookalike.v1 import embedding_service_pb2 as pb
from support.both_runtimes import provider  # noqa: F401 - every server runs with both
from support.paths import MODELS
from support.serving import SIDE, HeldModel, Serve, Served, encoded, noise, raw, until


async def test_embedding_is_the_models(served: Served) -> None:
    """An embedding has the model's dimension, length 1 under cosine, and is what the graph computes."""
    pixels = noise(1)
    response = await served.embedding.Embed(pb.EmbedRequest(image=raw(pixels)))
    tiles = pixels.reshape(4, 8, 4, 8, 3).mean(axis=(1, 3)) - 127.5
    expected = tiles.transpose(2, 0, 1).ravel()
    expected /= np.linalg.norm(expected)
    np.testing.assert_allclose(response.embedding, expected, atol=1e-6)


async def test_alone_and_in_a_batch_of_sixteen(serve: Serve) -> None:
    """An image embedded alone and among fifteen others has the same embedding, and they did share a batch."""
    model = HeldModel()
    async with serve(load_session=model, max_batch_size=16) as served:
        images = [noise(seed) for seed in range(17)]

        async def embed(i: int) -> pb.EmbedResponse:
            response: pb.EmbedResponse = await served.embedding.Embed(pb.EmbedRequest(image=raw(images[i])))
            return response

        alone = [await embed(i) for i in range(16)]
        assert {one.stats.batch_size for one in alone} == {1}
        model.session.hold()
        first = asyncio.create_task(embed(16))
        await model.caught()
        others = [asyncio.create_task(embed(i)) for i in range(16)]
        await until(lambda: "Queued: 16" in repr(served.app.batcher))
        model.session.let_go()
        together = await asyncio.gather(*others)
        await first
        assert max(served.observer.batches) == 16
        for one, other in zip(alone, together, strict=True):
            assert other.stats.batch_size == 16
            assert np.dot(one.embedding, other.embedding) >= 0.99999


async def test_encoded_and_raw_are_one(served: Served) -> None:
    """A lossless file and its pixels have the same embedding."""
    one = await served.embedding.Embed(pb.EmbedRequest(image=raw(noise(3))))
    other = await served.embedding.Embed(pb.EmbedRequest(image=encoded(noise(3))))
    assert one.embedding == other.embedding


async def test_region_is_what_counts(served: Served) -> None:
    """With a region only that part of the image is embedded."""
    wide = np.concatenate([noise(1), noise(2)], axis=1)
    image = encoded(wide)
    image.region.left, image.region.right, image.region.top, image.region.bottom = 0.5, 1.0, 0.0, 1.0
    part = await served.embedding.Embed(pb.EmbedRequest(image=image))
    whole = await served.embedding.Embed(pb.EmbedRequest(image=raw(noise(2))))
    assert part.embedding == whole.embedding


async def test_stats_add_up(served: Served) -> None:
    """The stats name the model and the batch, and their stages fit into the total."""
    response = await served.embedding.Embed(pb.EmbedRequest(image=encoded(noise(1))))
    stats = response.stats
    assert stats.decode_us > 0
    assert stats.inference_us > 0
    assert stats.decode_us + stats.queue_us + stats.inference_us <= stats.total_us
    assert (stats.batch_size, stats.padded_size) == (1, 1)
    assert stats.model_digest == hashlib.sha256((MODELS / "tiny" / "model.onnx").read_bytes()).hexdigest()
    assert not stats.HasField("exact")


async def test_get_model(serve: Serve, provider: str) -> None:  # noqa: F811 - the fixture
    """GetModel describes the model: names, input, metric, what runs it, digest and the measured batch profiles."""
    async with serve(max_batch_size=6) as served:
        model = await served.embedding.GetModel(pb.GetModelRequest())
        assert (model.name, model.backbone, model.weights) == ("tiny", "tiles", "none")
        assert (model.dim, model.input_width, model.input_height) == (48, SIDE, SIDE)
        assert model.metric == pb.METRIC_COSINE
        assert model.resize == pb.RESIZE_BILINEAR
        assert (model.pooling, model.precision) == ("avg", "fp32")
        assert model.provider == {"cpu": "CPUExecutionProvider", "openvino": "OpenVINO"}[provider]
        assert model.runtime.library.startswith({"cpu": "ONNX Runtime ", "openvino": "OpenVINO "}[provider])
        assert model.runtime.HasField("parity") == (provider == "openvino")
        assert model.runtime.parity.within_bounds == (provider == "openvino")
        assert len(model.digest) == 64
        assert [profile.batch_size for profile in model.batch_profiles] == [1, 2, 4, 6]
        assert all(profile.latency_ms > 0 for profile in model.batch_profiles)


async def test_many_callers_share_batches(served: Served) -> None:
    """Sixty-four callers at once are answered each with its own embedding."""

    async def embed(seed: int) -> pb.EmbedResponse:
        response: pb.EmbedResponse = await served.embedding.Embed(pb.EmbedRequest(image=raw(noise(seed))))
        return response

    alone = [await embed(seed) for seed in range(64)]
    together = await asyncio.gather(*(embed(seed) for seed in range(64)))
    for one, other in zip(alone, together, strict=True):
        np.testing.assert_allclose(one.embedding, other.embedding, atol=1e-6)
