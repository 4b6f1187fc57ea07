"""A whole server whose model runs on a fake device."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from functools import partial
from typing import Any

import grpc
import pytest
import structlog
from google.rpc import error_details_pb2, status_pb2

from lookalike.v1 import embedding_service_pb2
from lookalike_server.domain.errors import LookalikeError
from lookalike_server.inference.gpu_errors import GpuFailure, gpu_failure
from support.fake_device import FakeDevice
from support.fake_device import load as load_on_fake_device
from support.serving import Serve, Served, noise, raw, until

REQUESTS = [embedding_service_pb2.EmbedRequest(image=raw(noise(seed))) for seed in range(20)]
ON_DEVICE = {"max_concurrent_batches": 0, "preferred_batch_size": 8, "max_batch_size": 8, "embedding_cache_bytes": 0}


async def embed_all(served: Served, device: FakeDevice) -> list[Any]:
    """Embed the images in batches of 1, 1, 8, 8 and 2; return the responses and errors."""
    device.hold("run")
    calls = [served.embedding.Embed(request) for request in REQUESTS]
    await until(lambda: repr(served.app.batcher) == "<MicroBatcher [Queued: 18 | Running: 2]>")
    device.let_go("run")
    return await asyncio.gather(*calls, return_exceptions=True)


def codes(responses: Sequence[Any]) -> list[grpc.StatusCode]:
    """Return how each call ended."""
    return [each.code() if isinstance(each, grpc.aio.AioRpcError) else grpc.StatusCode.OK for each in responses]


def retry_seconds(error: Any) -> float:
    """Return after how many seconds the caller may try again."""
    status = status_pb2.Status.FromString(dict(error.trailing_metadata())["grpc-status-details-bin"])
    retry = error_details_pb2.RetryInfo()
    assert any(detail.Unpack(retry) for detail in status.details)
    return float(retry.retry_delay.ToTimedelta().total_seconds())


async def test_a_server_on_a_device_gives_the_same_embeddings(serve: Serve) -> None:
    """A whole server on a device returns the CPU's embeddings, and frees the memory in the end."""
    device = FakeDevice()
    requests = [embedding_service_pb2.EmbedRequest(image=raw(noise(seed))) for seed in range(20)]
    async with serve() as cpu:
        expected_embeddings = [list((await cpu.embedding.Embed(request)).embedding) for request in requests]
    on_device = partial(load_on_fake_device, device=device)
    async with serve(
        load_session=on_device, max_concurrent_batches=0, preferred_batch_size=8, max_batch_size=8
    ) as served:
        device.hold("run")
        calls = [served.embedding.Embed(request) for request in requests]
        await until(lambda: repr(served.app.batcher) == "<MicroBatcher [Queued: 18 | Running: 2]>")
        device.let_go("run")
        answers = await asyncio.gather(*calls)
        assert sorted(served.observer.batches) == [1, 1, 2, 8, 8]  # which of two running ones ends first is open
    for answer, expected in zip(answers, expected_embeddings, strict=True):
        assert list(answer.embedding) == pytest.approx(expected, abs=1e-6)
    assert device.faults == []
    assert device.open_slots == {}


async def test_a_batch_without_memory_runs_in_halves(serve: Serve) -> None:
    """Where the GPU runs out of memory in a run, callers get the embeddings that they would have got."""
    device = FakeDevice()
    async with serve(load_session=partial(load_on_fake_device, device=device), **ON_DEVICE) as served:
        expected = await embed_all(served, device)
        served.observer.events.clear()
        device.fits = lambda _, rows: rows <= 4
        responses = await embed_all(served, device)
        assert codes(responses) == [grpc.StatusCode.OK] * 20
        assert [list(each.embedding) for each in responses] == [list(each.embedding) for each in expected]
        assert served.observer.split_batches == [8, 8]
        assert sorted(served.observer.batches) == [1, 1, 2, 4, 4, 4, 4]


async def test_a_half_without_memory_is_rejected(serve: Serve) -> None:
    """Where memory is short for a half too, its callers get a time to retry, and those of other batches are served.

    Once there is memory again, all are.
    """
    device = FakeDevice()
    async with serve(load_session=partial(load_on_fake_device, device=device), **ON_DEVICE) as served:
        device.fits = lambda _, rows: rows <= 2
        responses = await embed_all(served, device)
        assert sorted(codes(responses), key=str) == [grpc.StatusCode.OK] * 4 + [grpc.StatusCode.RESOURCE_EXHAUSTED] * 16
        for error in responses:
            if isinstance(error, grpc.aio.AioRpcError):
                assert "too little memory" in str(error.details())
                assert retry_seconds(error) == 1.0
        device.fits = lambda _, _rows: True
        assert codes(await embed_all(served, device)) == [grpc.StatusCode.OK] * 20


async def test_calls_after_a_sticky_error(serve: Serve) -> None:
    """Once the GPU is lost every caller gets UNAVAILABLE with a time to retry, and no run is tried again."""
    device = FakeDevice()
    async with serve(load_session=partial(load_on_fake_device, device=device), **ON_DEVICE) as served:
        device.breaks_at = "run"
        responses = await embed_all(served, device)
        assert codes(responses) == [grpc.StatusCode.UNAVAILABLE] * 20
        assert {retry_seconds(error) for error in responses} == {1.0}
        await until(lambda: repr(served.app.batcher) == "<MicroBatcher [Queued: 0 | Running: 0]>")
        device.forget()
        with pytest.raises(grpc.aio.AioRpcError, match="the GPU failed and the server is being restarted"):
            await served.embedding.Embed(REQUESTS[0])
        assert device.events == []


async def test_too_little_memory_at_the_start(serve: Serve) -> None:
    """The largest batch is halved until it fits, with a line in the log for each time; nothing stays allocated."""
    device = FakeDevice()
    device.fits = lambda operation, rows: rows <= (4 if operation == "allocate" else 2)
    with structlog.testing.capture_logs() as log:
        async with serve(load_session=partial(load_on_fake_device, device=device), **ON_DEVICE) as served:
            reduced = [line for line in log if line["event"] == "max_batch_size_reduced"]
            assert [line["max_batch_size"] for line in reduced] == [4, 2]
            assert "too little free memory" in reduced[0]["reason"]
            assert "Failed to allocate memory" in reduced[1]["reason"]
            assert len(device.open_slots) == 2
            model = await served.embedding.GetModel(embedding_service_pb2.GetModelRequest())
            assert max(profile.batch_size for profile in model.batch_profiles) == 2
            assert codes(await embed_all(served, device)) == [grpc.StatusCode.OK] * 20
    assert device.open_slots == {}


@pytest.mark.parametrize("operation", ["allocate", "run"])
async def test_too_little_memory_for_one_image(serve: Serve, operation: str) -> None:
    """Where not even one image fits, the server does not start, and says what an operator can do."""
    device = FakeDevice()
    device.fits = lambda each, _: each != operation
    with pytest.raises(LookalikeError, match=r"the GPU has too little free memory.*--provider cpu"):
        async with serve(load_session=partial(load_on_fake_device, device=device), **ON_DEVICE):
            pass
    assert device.open_slots == {}


async def test_a_gpu_that_breaks_at_the_start(serve: Serve) -> None:
    """A sticky error while batches are measured ends the start with CUDA's words."""
    device = FakeDevice()
    device.breaks_at = "run"
    with pytest.raises(LookalikeError, match=r"cannot run the model on the GPU: .*illegal memory access") as caught:
        async with serve(load_session=partial(load_on_fake_device, device=device), **ON_DEVICE):
            pass
    assert gpu_failure(caught.value) is GpuFailure.STICKY
