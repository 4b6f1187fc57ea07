"""The Open Inference Protocol while the server starts and drains, its tokens, and calls that take too long."""

from __future__ import annotations

import asyncio
import threading
from pathlib import Path
from typing import Any

import grpc
import pytest

from lookalike.inference import inference_service_pb2 as pb
from lookalike.inference import inference_service_pb2_grpc
from lookalike_server.config import Settings
from lookalike_server.engine.model_loading import load_onnx
from lookalike_server.inference.manifest import ModelFolder
from lookalike_server.inference.onnx_session import OnnxSession
from support.credentials import add_key, bearer
from support.oip_requests import embed, images, infer, raw_images, stub, vectors
from support.serving import HeldModel, Serve, Served, connect, rejected, until

IDLE = "<MicroBatcher [Queued: 0 | Running: 0]>"


async def ready(calls: Any) -> tuple[bool, bool, bool]:
    """Call the probes: live, ready, model ready."""
    return (
        (await calls.ServerLive(pb.ServerLiveRequest())).live,
        (await calls.ServerReady(pb.ServerReadyRequest())).ready,
        (await calls.ModelReady(pb.ModelReadyRequest(name="tiny"))).ready,
    )


async def wait_for_probes(calls: Any, live: bool, is_ready: bool, model_ready: bool) -> None:
    """Return once the probes answer this; a server that never does fails the test."""
    async with asyncio.timeout(30):
        while await ready(calls) != (live, is_ready, model_ready):
            pass


async def test_starting(serve: Serve, tmp_path: Path) -> None:
    """While the model loads the probes answer live and not ready, and everything else is UNAVAILABLE."""
    may_load = threading.Event()

    def load(folder: ModelFolder, settings: Settings) -> OnnxSession:
        assert may_load.wait(240)
        return load_onnx(folder, settings)

    address = f"unix:{tmp_path}/socket"

    async def start() -> None:
        async with serve(load_session=load, listen=address):
            await asyncio.Event().wait()

    starting = asyncio.create_task(start())
    async with connect(address) as channel:
        await asyncio.wait_for(channel.channel_ready(), 30)
        calls: Any = inference_service_pb2_grpc.GRPCInferenceServiceStub(channel)
        assert await ready(calls) == (True, False, False)
        for call in (
            calls.ServerMetadata(pb.ServerMetadataRequest()),
            calls.ModelMetadata(pb.ModelMetadataRequest(name="tiny")),
            calls.ModelInfer(raw_images(images(1))),
        ):
            code, message, _ = await rejected(call)
            assert code == grpc.StatusCode.UNAVAILABLE
            assert "starting" in message
        may_load.set()
        await wait_for_probes(calls, True, True, True)
        assert vectors(await calls.ModelInfer(raw_images(images(1)))).shape == (1, 48)
    starting.cancel()
    await asyncio.gather(starting, return_exceptions=True)


async def test_draining(serve: Serve) -> None:
    """Once a server is to drain the probes answer live and not ready, and what comes nevertheless is answered."""
    async with serve() as served:
        announced = asyncio.create_task(served.app.server.announce_drain(60))
        await wait_for_probes(stub(served), True, False, False)
        assert vectors(await infer(served, raw_images(images(3)))).shape == (3, 48)
        announced.cancel()


async def test_tokens(serve: Serve, tmp_path: Path) -> None:
    """With a token file the probes are open to everybody and the rest to a reader."""
    reader = add_key(tmp_path / "tokens")
    async with serve(auth_keys_file=tmp_path / "tokens") as served:
        calls = stub(served)
        assert await ready(calls) == (True, True, True)
        for call in (
            calls.ModelInfer(raw_images(images(1))),
            calls.ServerMetadata(pb.ServerMetadataRequest()),
            calls.ModelMetadata(pb.ModelMetadataRequest(name="tiny"), metadata=(("authorization", "Bearer no"),)),
        ):
            code, _, _ = await rejected(call)
            assert code == grpc.StatusCode.UNAUTHENTICATED
        metadata = bearer(reader)
        assert vectors(await calls.ModelInfer(raw_images(images(1)), metadata=metadata)).shape == (1, 48)


@pytest.mark.slow
@pytest.mark.parametrize("count", [1, 32, 33, 100])
async def test_expired_call_is_not_computed(serve: Serve, count: int) -> None:
    """A call whose deadline passes is DEADLINE_EXCEEDED, and the model sees none of its waiting images."""
    model = HeldModel()
    async with serve(load_session=model) as served:
        model.session.sizes.clear()
        model.session.hold()
        first = embed(served, 1)
        await model.caught()
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await stub(served).ModelInfer(raw_images(images(count)), timeout=0.5)
        assert caught.value.code() == grpc.StatusCode.DEADLINE_EXCEEDED
        await until(lambda: "Queued: 0 " in repr(served.app.batcher))
        model.session.let_go()
        await first
        await until(lambda: repr(served.app.batcher) == IDLE)
        assert model.session.sizes == [1]


@pytest.mark.parametrize("settings", [{"default_deadline_seconds": 0.05}, {}], ids=["default", "parameter"])
async def test_call_without_a_deadline_of_its_own(serve: Serve, settings: dict[str, float]) -> None:
    """The default deadline ends a call that has none, and so does its own `timeout` in microseconds."""
    model = HeldModel()
    async with serve(load_session=model, **settings) as served:
        model.session.hold()
        request, longest = raw_images(images(1)), None
        if not settings:
            request.parameters["timeout"].int64_param = 50_000
            longest = 20
        code, _, _ = await rejected(stub(served).ModelInfer(request, timeout=longest))
        assert code == grpc.StatusCode.DEADLINE_EXCEEDED
        await until(lambda: "Queued: 0 " in repr(served.app.batcher))
        model.session.let_go()


async def test_timeout_that_cannot_be_met_is_rejected(serve: Serve) -> None:
    """A busy server rejects at once a call that would be answered only after the request's own `timeout`."""
    model = HeldModel(seconds=0.1)
    async with serve(load_session=model, max_batch_size=1, preferred_batch_size=1) as served:
        model.session.hold()
        first = embed(served, 1)
        await model.caught()
        request = raw_images(images(1))
        request.parameters["timeout"].int64_param = 90_000
        code, message, _ = await rejected(stub(served).ModelInfer(request, timeout=20))
        assert code == grpc.StatusCode.RESOURCE_EXHAUSTED
        assert "deadline" in message
        model.session.let_go()
        await first


async def test_timeout_does_not_lengthen_a_call(served: Served) -> None:
    """A `timeout` of 0, or one beyond the call's deadline, leaves that deadline as it is."""
    request = raw_images(images(1))
    for value in (
        pb.InferParameter(int64_param=0),
        pb.InferParameter(int64_param=2**63 - 1),
        pb.InferParameter(uint64_param=2**64 - 1),
    ):
        request.parameters["timeout"].CopyFrom(value)
        assert vectors(await stub(served).ModelInfer(request)).shape == (1, 48)
