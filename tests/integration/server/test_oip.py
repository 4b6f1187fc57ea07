"""The Open Inference Protocol over real gRPC and a real model: metadata, probes and embeddings."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import grpc
import numpy as np
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from lookalike.inference import inference_service_pb2 as pb
from lookalike.v1 import embedding_service_pb2
from lookalike_server import __version__
from support.oip_requests import Output, files, images, raw_files, raw_images, stub, typed_files, typed_images, vectors
from support.serving import HeldModel, Serve, Served, encoded, raw, rejected, until

SERVICE = "inference.GRPCInferenceService"


async def test_probes_and_metadata(served: Served) -> None:
    """A server that answers is live and ready with its one model, and describes its inputs and outputs."""
    calls = stub(served)
    assert (await calls.ServerLive(pb.ServerLiveRequest())).live
    assert (await calls.ServerReady(pb.ServerReadyRequest())).ready
    for name, version, ready in (("tiny", "", True), ("tiny", "1", True), ("tiny", "2", False), ("other", "", False)):
        assert (await calls.ModelReady(pb.ModelReadyRequest(name=name, version=version))).ready is ready
    server = await calls.ServerMetadata(pb.ServerMetadataRequest())
    assert (server.name, server.version, list(server.extensions)) == ("lookalike", __version__, [])
    model = await calls.ModelMetadata(pb.ModelMetadataRequest(name="tiny"))
    assert (model.name, list(model.versions), model.platform) == ("tiny", ["1"], "onnxruntime_onnx")
    assert [(each.name, each.datatype, list(each.shape)) for each in (*model.inputs, *model.outputs)] == [
        ("image", "UINT8", [-1, 32, 32, 3]),
        ("encoded", "BYTES", [-1]),
        ("embedding", "FP32", [-1, 48]),
    ]


async def test_health_and_reflection_know_it(served: Served) -> None:
    """The standard health service and reflection know the service by its name."""
    channel: Any = served.channel
    checker: Any = health_pb2_grpc.HealthStub(channel)
    checked = await checker.Check(health_pb2.HealthCheckRequest(service=SERVICE))
    assert checked.status == health_pb2.HealthCheckResponse.SERVING
    lister: Any = reflection_pb2_grpc.ServerReflectionStub(channel)
    request = reflection_pb2.ServerReflectionRequest(file_containing_symbol=SERVICE)
    found = await lister.ServerReflectionInfo(iter([request])).read()
    assert len(found.file_descriptor_response.file_descriptor_proto) == 1


@pytest.mark.parametrize("count", [1, 3, 16, 40])
@pytest.mark.parametrize("make", [raw_images, typed_images], ids=["raw", "typed"])
async def test_images_as_embed_has_them(served: Served, make: Callable[..., Any], count: int) -> None:
    """Each row is what Embed says of that image, in the order they were sent, whether raw or typed."""
    response = await stub(served).ModelInfer(make(images(count)))
    for pixels, vector in zip(images(count), vectors(response), strict=True):
        alone = await served.embedding.Embed(embedding_service_pb2.EmbedRequest(image=raw(pixels)))
        assert np.dot(vector, alone.embedding) > 1 - 1e-6


@pytest.mark.parametrize("make", [raw_files, typed_files], ids=["raw", "typed"])
async def test_files_as_embed_has_them(served: Served, make: Callable[..., Any]) -> None:
    """Image files of any size are decoded and resized as Embed does it."""
    encoded_files = [encoded(np.repeat(pixels, 2, axis=1), "JPEG").encoded for pixels in images(5)]
    response = await stub(served).ModelInfer(make(encoded_files))
    for file, vector in zip(encoded_files, vectors(response), strict=True):
        request = embedding_service_pb2.EmbedRequest()
        request.image.encoded = file
        assert np.dot(vector, (await served.embedding.Embed(request)).embedding) > 1 - 1e-6


async def test_files_in_a_column(served: Served) -> None:
    """Image files may have the shape [N, 1], as models with batches have them elsewhere."""
    column = await stub(served).ModelInfer(raw_files(files(3), 3, 1))
    np.testing.assert_array_equal(vectors(column), vectors(await stub(served).ModelInfer(raw_files(files(3)))))


async def test_response_has_the_requested_output(served: Served) -> None:
    """The response names the model, its version, the request and the output, which is of float32 [n, dim]."""
    request = raw_images(images(2), id="mine", model_version="1", outputs=[Output(name="embedding")])
    response = await stub(served).ModelInfer(request)
    assert (response.model_name, response.model_version, response.id) == ("tiny", "1", "mine")
    (output,) = response.outputs
    assert (output.name, output.datatype, list(output.shape)) == ("embedding", "FP32", [2, 48])
    assert not output.HasField("contents")
    assert [len(data) for data in response.raw_output_contents] == [2 * 48 * 4]


async def test_parameters_are_the_stats(serve: Serve) -> None:
    """The response's parameters are the maxima of its images' stats, and how many images were in the cache."""
    async with serve(embedding_cache_bytes=1 << 20) as served:
        calls = stub(served)
        request = raw_files(files(4))
        first, second = [(await calls.ModelInfer(request)).parameters for _ in range(2)]
        model = await served.embedding.GetModel(embedding_service_pb2.GetModelRequest())
        for name in ("decode_us", "inference_us", "total_us", "batch_size", "padded_size"):
            assert first[name].int64_param > 0
        assert first["queue_us"].int64_param >= 0
        assert first["total_us"].int64_param >= first["inference_us"].int64_param
        assert first["batch_size"].int64_param == max(served.observer.batches)
        assert first["model_digest"].string_param == model.digest
        assert (first["cache_hits"].int64_param, second["cache_hits"].int64_param) == (0, 4)
        assert second["batch_size"].int64_param == 0


async def test_same_image_twice_is_embedded_once(serve: Serve) -> None:
    """The images of one call share what all calls share: equal ones are computed once."""
    async with serve(embedding_cache_bytes=1 << 20) as served:
        response = await stub(served).ModelInfer(raw_images(np.repeat(images(1), 3, axis=0)))
        assert sum(served.observer.batches) == 1
        assert len({vector.tobytes() for vector in vectors(response)}) == 1


async def test_images_share_batches_with_other_callers(serve: Serve) -> None:
    """The images of one call and those of Embed wait in the same queue and run together."""
    model = HeldModel()
    async with serve(load_session=model) as served:
        model.session.hold()
        first = asyncio.ensure_future(stub(served).ModelInfer(raw_images(images(1))))
        await model.caught()
        many = asyncio.ensure_future(stub(served).ModelInfer(raw_images(images(5, first=1))))
        one = asyncio.ensure_future(served.embedding.Embed(embedding_service_pb2.EmbedRequest(image=raw(images(1)[0]))))
        await until(lambda: "Queued: 6 " in repr(served.app.batcher))
        model.session.let_go()
        assert (await many).parameters["batch_size"].int64_param == 6
        assert (await one).stats.batch_size == 6
        await first


async def test_parameters_that_mean_nothing_here(served: Served) -> None:
    """What other servers understand and this one need not is passed over: priorities, sequences, anybody's own."""
    request = raw_images(images(1))
    request.parameters["priority"].uint64_param = 1
    request.parameters["sequence_id"].int64_param = 5
    request.parameters["mine"].string_param = "yes"
    request.inputs[0].parameters["mine"].bool_param = True
    assert vectors(await stub(served).ModelInfer(request)).shape == (1, 48)


@pytest.mark.parametrize(
    "method",
    ["ModelStreamInfer", "ModelConfig", "ModelStatistics", "RepositoryIndex", "SystemSharedMemoryStatus"],
)
async def test_what_is_not_offered(served: Served, method: str) -> None:
    """Methods of Triton's own are UNIMPLEMENTED."""
    call: Any = served.channel.unary_unary(f"/{SERVICE}/{method}")
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call(b"")
    assert caught.value.code() == grpc.StatusCode.UNIMPLEMENTED


async def test_bytes_that_are_no_message(served: Served) -> None:
    """Bytes that no request can be are the caller's fault, of a probe too, and not INTERNAL."""
    for method in ("ModelInfer", "ServerLive", "ModelReady"):
        call: Any = served.channel.unary_unary(f"/{SERVICE}/{method}")
        code, message, _ = await rejected(call(b"\xff\xff\xff"))
        assert code == grpc.StatusCode.INVALID_ARGUMENT
        assert method in message


async def test_call_has_a_request_id(served: Served) -> None:
    """A call's x-request-id comes back with its answer, as with every other service."""
    for call in (
        stub(served).ModelInfer(raw_images(images(1)), metadata=(("x-request-id", "abc"),)),
        stub(served).ServerLive(pb.ServerLiveRequest(), metadata=(("x-request-id", "abc"),)),
    ):
        await call
        assert dict(await call.trailing_metadata())["x-request-id"] == "abc"


async def test_answer_that_would_not_fit_is_rejected_before_it_is_computed(serve: Serve) -> None:
    """More images than embeddings fit into a message are rejected, with how many do, and none is computed."""
    async with serve(max_message_bytes=12_288) as served:
        code, message, _ = await rejected(stub(served).ModelInfer(raw_files([b""] * 43)))
        assert code == grpc.StatusCode.INVALID_ARGUMENT
        assert "1 to 42 images" in message
        assert served.observer.batches == []
        assert vectors(await stub(served).ModelInfer(raw_files(files(42)))).shape == (42, 48)
