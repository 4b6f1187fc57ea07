"""What is decided before a request is read, and what a request may cost, over real gRPC."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.rpc import error_details_pb2

from lookalike.v1 import catalog_service_pb2, embedding_service_pb2, search_service_pb2
from lookalike_server.rpc.message_limits import methods
from support.credentials import add_key, bearer
from support.serving import HeldModel, Serve, Served, noise, product, raw, rejected, until, violation

METHODS = [name for name, _ in methods() if "ServerLive" not in name and "Ready" not in name]
EMBED = "/lookalike.v1.EmbeddingService/Embed"
SEARCH = "/lookalike.v1.SearchService/Search"


async def nothing() -> AsyncIterator[bytes]:
    """Send no message, and do not say that there is none."""
    await asyncio.Event().wait()
    yield b""


def unread(served: Served, method: str, *, deadline: float | None = None, token: str = "") -> Any:
    """Begin a call and send headers only."""
    call = served.channel.stream_unary(method, request_serializer=bytes, response_deserializer=bytes)
    metadata = bearer(token) if token else None
    return call(nothing(), timeout=deadline, metadata=metadata)


def embed_request(seed: int = 1) -> embedding_service_pb2.EmbedRequest:
    """A good request."""
    return embedding_service_pb2.EmbedRequest(image=raw(noise(seed)))


@pytest.mark.parametrize("method", METHODS)
async def test_strangers_are_not_read(serve: Serve, tmp_path: Path, method: str) -> None:
    """A call without a token is UNAUTHENTICATED before it has sent anything, whatever its method."""
    tokens = tmp_path / "tokens"
    add_key(tokens, "writer")
    async with serve(auth_keys_file=tokens) as served:
        code, _, _ = await asyncio.wait_for(rejected(unread(served, method)), 30)
        assert code == grpc.StatusCode.UNAUTHENTICATED


async def test_a_busy_server_rejects_what_needs_the_model_unread(serve: Serve) -> None:
    """Embed, and Search of a caller that searches by image, are rejected from their headers, with RetryInfo."""
    model = HeldModel()
    async with serve(load_session=model, max_queue_size=4, max_batch_size=1) as served:
        await served.catalog.UpsertProducts(
            catalog_service_pb2.UpsertProductsRequest(products=[product(f"p{i}", i) for i in range(3)])
        )
        search = search_service_pb2.SearchRequest(image=raw(noise(1)), category="Shoes", k=1)
        for _ in range(100):
            await served.search.Search(search)
        model.session.hold()
        calls = [served.embedding.Embed(embed_request(seed)) for seed in range(5)]
        await until(lambda: "Queued: 4 " in repr(served.app.batcher))
        for method in (EMBED, SEARCH):
            code, _, status = await asyncio.wait_for(rejected(unread(served, method, deadline=20)), 30)
            assert code == grpc.StatusCode.RESOURCE_EXHAUSTED
            retry = error_details_pb2.RetryInfo()
            assert any(detail.Unpack(retry) for detail in status.details)
        by_id = search_service_pb2.SearchRequest(product_id="p1", k=1)
        outcomes = [await asyncio.gather(served.search.Search(by_id), return_exceptions=True) for _ in range(16)]
        assert any(not isinstance(outcome, Exception) for (outcome,) in outcomes)
        model.session.let_go()
        await asyncio.gather(*calls)


async def test_a_deadline_of_nothing(served: Served) -> None:
    """A call whose deadline has passed when it arrives is DEADLINE_EXCEEDED, and nothing runs for it."""
    for deadline in (0.0, 1e-9):
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await served.embedding.Embed(embed_request(), timeout=deadline)
        assert caught.value.code() == grpc.StatusCode.DEADLINE_EXCEEDED
    assert served.observer.batches == []


async def test_a_caller_that_never_sends_is_cut_off(serve: Serve) -> None:
    """A call whose request does not arrive in time, and a stream without messages, end; both say why."""
    async with serve(message_timeout_seconds=0.2) as served:
        code, message, _ = await asyncio.wait_for(rejected(unread(served, EMBED)), 30)
        assert code == grpc.StatusCode.DEADLINE_EXCEEDED
        assert "did not arrive within 0.2 seconds" in message
        call = served.channel.stream_stream(f"{EMBED}Stream", request_serializer=bytes, response_deserializer=bytes)(
            nothing()
        )
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await call.read()
        assert caught.value.code() == grpc.StatusCode.DEADLINE_EXCEEDED
        assert "sent no message" in (caught.value.details() or "")


async def test_malformed_messages_of_a_stream_fail_alone(served: Served) -> None:
    """Bytes that are no message have a status that names their position, and every other item its answer."""
    good = [embedding_service_pb2.EmbedStreamRequest(id=f"i{seed}", image=raw(noise(seed))) for seed in range(4)]
    messages = [good[0].SerializeToString(), b"\xff", good[1].SerializeToString(), good[2].SerializeToString()[:-1]]
    messages.append(good[3].SerializeToString())

    async def send() -> AsyncIterator[bytes]:
        for message in messages:
            yield message

    call = served.channel.stream_stream(
        f"{EMBED}Stream",
        request_serializer=bytes,
        response_deserializer=embedding_service_pb2.EmbedStreamResponse.FromString,
    )
    responses = [response async for response in call(send())]
    answered = {response.id for response in responses if response.HasField("embedding")}
    assert answered == {"i0", "i1", "i3"}
    failed = [response.status for response in responses if response.HasField("status")]
    assert sorted(violation(status) for status in failed) == ["stream[1]", "stream[3]"]
    assert {status.code for status in failed} == {grpc.StatusCode.INVALID_ARGUMENT.value[0]}


async def test_malformed_products_of_an_import_fail_alone(served: Served) -> None:
    """An import goes on after bytes that are no message."""
    requests = [
        catalog_service_pb2.ImportProductsRequest(product=product(f"p{i}", i)).SerializeToString() for i in range(3)
    ]

    async def send() -> AsyncIterator[bytes]:
        for message in (requests[0], b"\xff\xff", requests[1], requests[2]):
            yield message

    call = served.channel.stream_stream(
        "/lookalike.v1.CatalogService/ImportProducts",
        request_serializer=bytes,
        response_deserializer=catalog_service_pb2.ImportProductsResponse.FromString,
    )
    results = [response.result async for response in call(send())]
    assert sorted(result.id for result in results if not result.status.code) == ["p0", "p1", "p2"]
    assert len(results) == 4


async def test_callers_take_turns(serve: Serve, tmp_path: Path) -> None:
    """A caller with one image is embedded before the rest of another's crowd, although it came last."""
    tokens = tmp_path / "tokens"
    secrets = {name: add_key(tokens, name=name) for name in ("greedy", "quiet")}
    model = HeldModel()
    async with serve(load_session=model, auth_keys_file=tokens, max_batch_size=1, preferred_batch_size=1) as served:
        model.session.hold()
        order: list[str] = []

        async def embed(name: str, seed: int) -> None:
            await served.embedding.Embed(embed_request(seed), metadata=bearer(secrets[name]), timeout=30)
            order.append(name)

        greedy = [asyncio.create_task(embed("greedy", seed)) for seed in range(20)]
        await until(lambda: "Queued: 19 " in repr(served.app.batcher))
        quiet = asyncio.create_task(embed("quiet", 100))
        await until(lambda: "Queued: 20 " in repr(served.app.batcher))
        model.session.let_go()
        await asyncio.gather(quiet, *greedy)
        # The third image that ran; in which order responses of the same moment are read is open.
        assert order.index("quiet") < 10


async def test_quotas(serve: Serve, tmp_path: Path) -> None:
    """A caller above its quota is rejected from its headers, with the time to wait; the others are not."""
    tokens, quotas = tmp_path / "tokens", tmp_path / "quotas.toml"
    noisy, quiet = (add_key(tokens, name=name) for name in ("noisy", "quiet"))
    quotas.write_text("[callers.noisy]\nrequests_per_second = 0.001\n", encoding="utf-8")
    async with serve(auth_keys_file=tokens, quotas_file=quotas) as served:

        async def embed(token: str) -> None:
            await served.embedding.Embed(embed_request(), metadata=bearer(token))

        await embed(noisy)
        code, message, status = await asyncio.wait_for(rejected(unread(served, EMBED, token=noisy)), 30)
        assert code == grpc.StatusCode.RESOURCE_EXHAUSTED
        assert "over its quota of 0.001 requests a second" in message
        retry = error_details_pb2.RetryInfo()
        assert any(detail.Unpack(retry) for detail in status.details)
        for _ in range(3):
            await embed(quiet)


async def test_calls_in_flight_are_counted_out_again(serve: Serve, tmp_path: Path) -> None:
    """However a call ends, it makes room for the next one of its caller."""
    quotas = tmp_path / "quotas.toml"
    quotas.write_text("[default]\nmax_in_flight = 1\n", encoding="utf-8")
    async with serve(quotas_file=quotas) as served:

        async def embed() -> None:
            # The server may hear of what a caller cancelled later than of its next call.
            code = grpc.StatusCode.RESOURCE_EXHAUSTED
            async with asyncio.timeout(60):
                while code == grpc.StatusCode.RESOURCE_EXHAUSTED:
                    code = await served.embedding.Embed(embed_request()).code()
            assert code == grpc.StatusCode.OK

        for _ in range(3):
            await embed()
            await rejected(served.embedding.Embed(embedding_service_pb2.EmbedRequest()))
            await embed()
            cancelled = unread(served, EMBED)
            cancelled.cancel()
        await embed()


async def test_messages_in_memory_are_bounded(serve: Serve) -> None:
    """While the requests in memory use up the budget, further ones are rejected unread; afterwards they pass."""
    model = HeldModel()
    async with serve(load_session=model, max_inflight_message_bytes=4000) as served:
        model.session.hold()
        inside = [served.embedding.Embed(embed_request(seed)) for seed in range(2)]  # 3 KB each
        await until(lambda: "Queued: 1 " in repr(served.app.batcher))
        code, message, _ = await asyncio.wait_for(rejected(unread(served, EMBED)), 30)
        assert code == grpc.StatusCode.RESOURCE_EXHAUSTED
        assert "too many bytes" in message
        model.session.let_go()
        await asyncio.gather(*inside)
        await served.embedding.Embed(embed_request())
