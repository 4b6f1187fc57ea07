"""Starting, deadlines, overload, canceling, tokens and SIGTERM, over real gRPC; `test_draining` has draining."""

from __future__ import annotations

import asyncio
import re
import signal
import threading
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.rpc import error_details_pb2
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc
from structlog.testing import capture_logs

from lookalike.v1 import (
    catalog_service_pb2,
    catalog_service_pb2_grpc,
    embedding_service_pb2,
    embedding_service_pb2_grpc,
    search_service_pb2,
)
from lookalike_server.config import Settings
from lookalike_server.domain.protocols import Session
from lookalike_server.engine.model_loading import LoadSession
from lookalike_server.inference.manifest import ModelFolder
from support.both_runtimes import provider  # noqa: F401 - every server runs with both
from support.credentials import add_key, bearer
from support.paths import MODELS
from support.processes import SERVE, server_process
from support.serving import HeldModel, Serve, Served, connect, load_session, noise, product, raw, rejected, until

SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING
SERVICES = tuple(f"lookalike.v1.{name}Service" for name in ("Embedding", "Search", "Catalog"))


async def health(channel: grpc.aio.Channel, service: str = "") -> int:
    """What the standard health service says."""
    stub: Any = health_pb2_grpc.HealthStub(channel)
    response = await stub.Check(health_pb2.HealthCheckRequest(service=service))
    return int(response.status)


def embed_request(seed: int = 1) -> embedding_service_pb2.EmbedRequest:
    """A good request."""
    return embedding_service_pb2.EmbedRequest(image=raw(noise(seed)))


async def test_health_of_every_service(serve: Serve) -> None:
    """Health says SERVING for the server and for each service by name, and knows no others."""
    async with serve() as served:
        for service in ("", *SERVICES):
            assert await health(served.channel, service) == SERVING
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await health(served.channel, "lookalike.v1.OtherService")
        assert caught.value.code() == grpc.StatusCode.NOT_FOUND


async def test_starting_server_says_so(serve: Serve, tmp_path: Path) -> None:
    """While the model loads health is NOT_SERVING and calls are UNAVAILABLE; afterwards they are answered."""
    may_load = threading.Event()

    def load(folder: ModelFolder, settings: Settings) -> Session:
        assert may_load.wait(240)
        return load_session(folder, settings)

    address = f"unix:{tmp_path}/socket"  # its name is known before the server runs, unlike a free port
    starting = asyncio.create_task(_serve_until_cancelled(serve, load, address))
    async with connect(address) as channel:
        await asyncio.wait_for(channel.channel_ready(), 30)
        assert await health(channel) == NOT_SERVING
        stub: Any = embedding_service_pb2_grpc.EmbeddingServiceStub(channel)
        code, message, _ = await rejected(stub.Embed(embed_request()))
        assert code == grpc.StatusCode.UNAVAILABLE
        assert "starting" in message
        may_load.set()
        watcher: Any = health_pb2_grpc.HealthStub(channel)
        async for update in watcher.Watch(health_pb2.HealthCheckRequest()):
            if update.status == SERVING:
                break
        assert len((await stub.Embed(embed_request())).embedding) == 48
    starting.cancel()
    await asyncio.gather(starting, return_exceptions=True)


async def test_reflection_lists_our_services(serve: Serve) -> None:
    """Tools that know no proto can list the services."""
    async with serve() as served:
        channel: Any = served.channel
        stub: Any = reflection_pb2_grpc.ServerReflectionStub(channel)
        call = stub.ServerReflectionInfo(iter([reflection_pb2.ServerReflectionRequest(list_services="")]))
        response = await call.read()
        names = {service.name for service in response.list_services_response.service}
        assert names >= {*SERVICES, "grpc.health.v1.Health"}


async def test_expired_call_is_not_computed(serve: Serve) -> None:
    """A call whose deadline passes in the queue is DEADLINE_EXCEEDED, and the model never sees its image."""
    model = HeldModel()
    async with serve(load_session=model, max_batch_size=4) as served:
        model.session.sizes.clear()
        model.session.hold()
        first = asyncio.ensure_future(served.embedding.Embed(embed_request()))
        await model.caught()
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await served.embedding.Embed(embed_request(2), timeout=0.2)
        assert caught.value.code() == grpc.StatusCode.DEADLINE_EXCEEDED
        await until(lambda: "Queued: 0 " in repr(served.app.batcher))
        model.session.let_go()
        await first
        await served.embedding.Embed(embed_request(3))
        assert model.session.sizes == [1, 1]


async def test_cancelled_call_is_not_computed(serve: Serve) -> None:
    """A caller that cancels leaves the queue, the server notes it, and the others are answered."""
    model = HeldModel()
    async with serve(load_session=model) as served:
        model.session.sizes.clear()
        model.session.hold()
        first = asyncio.ensure_future(served.embedding.Embed(embed_request()))
        await model.caught()
        calls = [served.embedding.Embed(embed_request(seed)) for seed in range(3)]
        await until(lambda: "Queued: 3 " in repr(served.app.batcher))
        calls[1].cancel()
        await until(lambda: "Queued: 2 " in repr(served.app.batcher))
        model.session.let_go()
        await asyncio.gather(first, calls[0], calls[2])
        assert model.session.sizes == [1, 2]
        await until(lambda: any(code == "CANCELLED" for _, code, _, _ in served.observer.calls))


async def test_full_queue_is_rejected_with_a_time_to_come_back(serve: Serve) -> None:
    """Beyond max_queue_size a call is RESOURCE_EXHAUSTED at once, with RetryInfo and the trailer that clients obey."""
    model = HeldModel()
    async with serve(load_session=model, max_queue_size=2) as served:
        model.session.hold()
        first = asyncio.ensure_future(served.embedding.Embed(embed_request()))
        await model.caught()
        inside = [asyncio.ensure_future(served.embedding.Embed(embed_request(seed))) for seed in (1, 2)]
        await until(lambda: "Queued: 2 " in repr(served.app.batcher))
        call = served.embedding.Embed(embed_request(3))
        code, _, status = await rejected(call)
        assert code == grpc.StatusCode.RESOURCE_EXHAUSTED
        retry = error_details_pb2.RetryInfo()
        assert any(detail.Unpack(retry) for detail in status.details)
        assert retry.retry_delay.ToMilliseconds() >= 1
        pushback = dict(await call.trailing_metadata())["grpc-retry-pushback-ms"]
        assert int(pushback) == retry.retry_delay.ToMilliseconds()
        model.session.let_go()
        await asyncio.gather(first, *inside)


async def test_busy_server_rejects_a_image_unread(serve: Serve) -> None:
    """Embed is rejected from its headers alone: no image is taken in that nobody can embed in time."""
    model = HeldModel()
    async with serve(load_session=model, max_queue_size=1) as served:
        model.session.hold()
        first = asyncio.ensure_future(served.embedding.Embed(embed_request()))
        await model.caught()
        inside = asyncio.ensure_future(served.embedding.Embed(embed_request(1)))
        await until(lambda: "Queued: 1 " in repr(served.app.batcher))
        sends_nothing: Any = served.channel.stream_unary("/lookalike.v1.EmbeddingService/Embed")()
        code, _, _ = await rejected(sends_nothing)
        assert code == grpc.StatusCode.RESOURCE_EXHAUSTED
        model.session.let_go()
        await asyncio.gather(first, inside)


async def test_call_without_a_message(served: Served) -> None:
    """A caller that sends headers and nothing more gets an error that says so."""
    call: Any = served.channel.stream_unary("/lookalike.v1.EmbeddingService/Embed")()
    await call.done_writing()
    code, message, _ = await rejected(call)
    assert code == grpc.StatusCode.INVALID_ARGUMENT
    assert "message" in message


async def test_deadline_that_cannot_be_met_is_rejected(serve: Serve) -> None:
    """A busy server rejects at once, with RetryInfo, a call that it predicts to answer too late."""
    model = HeldModel(seconds=0.1)
    async with serve(load_session=model, max_batch_size=1) as served:
        model.session.hold()
        calls = [
            asyncio.ensure_future(rejected(served.embedding.Embed(embed_request(), timeout=2.0))) for _ in range(40)
        ]
        # Forty runs of 100 ms do not fit into two seconds: the second half is rejected while the first is still held.
        done, waiting = await asyncio.wait(calls, return_when=asyncio.FIRST_COMPLETED)
        code, message, status = done.pop().result()
        assert code == grpc.StatusCode.RESOURCE_EXHAUSTED
        assert "deadline" in message
        assert any(detail.Is(error_details_pb2.RetryInfo.DESCRIPTOR) for detail in status.details)
        for call in waiting:
            call.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)
        model.session.let_go()


async def test_call_without_a_deadline_gets_one(serve: Serve) -> None:
    """A call that brings no deadline has the configured one: it does not wait for ever."""
    model = HeldModel()
    async with serve(load_session=model, default_deadline_seconds=0.05, preferred_batch_size=1) as served:
        model.session.hold()
        code, _, _ = await rejected(served.embedding.Embed(embed_request()))
        assert code == grpc.StatusCode.DEADLINE_EXCEEDED
        model.session.let_go()


async def test_tokens(serve: Serve, tmp_path: Path) -> None:
    """With a token file: nobody without a token, readers read, writers write; health and reflection stay open."""
    tokens = tmp_path / "tokens"
    secrets = {role: add_key(tokens, role) for role in ("reader", "writer")}
    async with serve(auth_keys_file=tokens) as served:

        def upsert(*metadata: tuple[str, str]) -> Any:
            request = catalog_service_pb2.UpsertProductsRequest(products=[product("a", 1)])
            return served.catalog.UpsertProducts(request, metadata=metadata)

        def search(*metadata: tuple[str, str]) -> Any:
            request = search_service_pb2.SearchRequest(image=raw(noise(1)), category="Shoes")
            return served.search.Search(request, metadata=metadata)

        for wrong in ((), bearer("lk_nope"), (("authorization", f"Basic {secrets['writer']}"),)):
            code, message, _ = await rejected(search(*wrong))
            assert code == grpc.StatusCode.UNAUTHENTICATED
            assert "token" in message
        reader, writer = (("authorization", f"Bearer {secrets[role]}") for role in ("reader", "writer"))
        code, _, _ = await rejected(upsert(reader))
        assert code == grpc.StatusCode.PERMISSION_DENIED
        assert (await upsert(writer)).results[0].status.code == 0
        assert [n.product.id for n in (await search(reader)).neighbors] == ["a"]
        assert await health(served.channel) == SERVING


async def test_request_id_comes_back(serve: Serve) -> None:
    """A call keeps the request id it brings, and gets one where it brings none or an unfit one."""
    async with serve() as served:
        for sent, kept in (("abc-123", True), ("x" * 129, False), (None, False)):
            metadata = (("x-request-id", sent),) if sent else ()
            call = served.embedding.GetModel(embedding_service_pb2.GetModelRequest(), metadata=metadata)
            await call
            back = dict(await call.trailing_metadata())["x-request-id"]
            assert (back == sent) if kept else re.fullmatch("[0-9a-f]{32}", back)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_signal_stops_the_command(tmp_path: Path, number: signal.Signals) -> None:
    """The real command serves, and a signal ends it with status 0 and everything acknowledged on disk."""
    with server_process(MODELS / "tiny", tmp_path) as server:
        async with connect(server.address) as channel:
            stub: Any = catalog_service_pb2_grpc.CatalogServiceStub(channel)
            request = catalog_service_pb2.UpsertProductsRequest(products=[product("a", 1)])
            assert (await stub.UpsertProducts(request)).results[0].status.code == 0
        assert server.stop(number) == 0
    with server_process(MODELS / "tiny", tmp_path) as server:
        async with connect(server.address) as channel:
            stub = catalog_service_pb2_grpc.CatalogServiceStub(channel)
            assert (await stub.GetProduct(catalog_service_pb2.GetProductRequest(id="a"))).product.id == "a"
        assert server.stop(number) == 0


@pytest.mark.slow
async def test_command_that_cannot_start_says_why(tmp_path: Path) -> None:
    """Without a usable model, provider or address the command ends with status 1 and one line, no traceback."""
    for arguments, expected in (
        (("--model", str(tmp_path / "none")), "lookalike-exporter export"),
        (("--model", str(MODELS / "tiny"), "--provider", "cuda"), "CUDAExecutionProvider"),
        (("--model", str(MODELS / "tiny"), "--listen", "999.0.0.1:1"), "cannot listen"),
        (("--model", str(MODELS / "tiny"), "--max-batch-size", "0"), "max_batch_size"),
        ((), "--model"),
    ):
        process = await asyncio.create_subprocess_exec(
            *SERVE, "--data-dir", str(tmp_path / "data"), *arguments, stderr=asyncio.subprocess.PIPE
        )
        _, errors = await asyncio.wait_for(process.communicate(), 60)
        last = errors.decode().strip().splitlines()[-1]
        assert process.returncode == 1
        assert expected in last
        assert last.startswith("lookalike-server: ")
        assert "Traceback" not in errors.decode()


async def test_a_unix_socket_has_no_port_in_the_log(serve: Serve, tmp_path: Path) -> None:
    """The line `serving` names the socket alone; gRPC calls its port 1. Another address has its port."""
    for listen, has_port in ((f"unix:{tmp_path}/socket", False), ("127.0.0.1:0", True)):
        with capture_logs() as log:
            async with serve(listen=listen):
                pass
        (line,) = [each for each in log if each["event"] == "serving"]
        assert (line["listen"], "port" in line) == (listen, has_port)


async def _serve_until_cancelled(serve: Serve, load: LoadSession, address: str) -> None:
    async with serve(load_session=load, listen=address):
        await asyncio.Event().wait()
