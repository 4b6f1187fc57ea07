"""The spans of calls, as a collector receives them by OTLP."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import grpc
import pytest

from lookalike.v1 import catalog_service_pb2, embedding_service_pb2, image_pb2, search_service_pb2
from support.credentials import add_key, bearer
from support.fakes import FailingSession
from support.otlp_receiver import OtlpReceiver, ReceivedSpan
from support.serving import HeldModel, Serve, encoded, load_session, noise, product, raw, rejected, until

SEARCH = "lookalike.v1.SearchService/Search"
EMBED = "lookalike.v1.EmbeddingService/Embed"
TRACE, SPAN = "ab" * 16, "cd" * 8
SAMPLED = (("traceparent", f"00-{TRACE}-{SPAN}-01"),)
NOT_SAMPLED = (("traceparent", f"00-{TRACE}-{SPAN}-00"),)

Upsert = catalog_service_pb2.UpsertProductsRequest


def embed(seed: int) -> embedding_service_pb2.EmbedRequest:
    """Make a valid request."""
    return embedding_service_pb2.EmbedRequest(image=raw(noise(seed)))


def of_call(collector: OtlpReceiver, name: str) -> tuple[ReceivedSpan, dict[str, list[ReceivedSpan]]]:
    """Return the span of the only call of a method, and the spans right below it by name."""
    (call,) = collector.spans(name)
    stages: dict[str, list[ReceivedSpan]] = {}
    for span in collector.spans():
        if span.parent == call.span_id:
            assert span.trace_id == call.trace_id
            stages.setdefault(span.name, []).append(span)
    return call, stages


async def test_a_search_by_image_is_a_span_with_its_stages(serve: Serve, collector: OtlpReceiver) -> None:
    """The call is a child of its caller's span; its stages are within it; it and its batch have links to each other."""
    async with serve() as served:
        await served.catalog.UpsertProducts(Upsert(products=[product("p1", 1)]))
        request = search_service_pb2.SearchRequest(image=encoded(noise(1)), category="Shoes")
        calling = served.search.Search(request, metadata=(*SAMPLED, ("x-request-id", "mine")))
        await calling
        trailers = dict(await calling.trailing_metadata())
    call, stages = of_call(collector, SEARCH)
    assert (call.trace_id, call.parent) == (TRACE, SPAN)
    assert call.span.kind == call.span.SPAN_KIND_SERVER
    assert call.attributes == {
        "rpc.system": "grpc",
        "rpc.service": "lookalike.v1.SearchService",
        "rpc.method": "Search",
        "rpc.grpc.status_code": 0,
        "lookalike.request_id": "mine",
    }
    assert trailers["traceresponse"] == f"00-{TRACE}-{call.span_id}-01"
    assert {name: len(spans) for name, spans in stages.items()} == dict.fromkeys(
        ("receive", "decode", "queue", "inference", "search"), 1
    )
    for (stage,) in stages.values():
        assert call.span.start_time_unix_nano <= stage.span.start_time_unix_nano
        assert stage.span.start_time_unix_nano <= stage.span.end_time_unix_nano <= call.span.end_time_unix_nano
        assert not stage.is_error
    (batch,) = [span for span in collector.spans("batch") if span.links == [call.span_id]]
    assert stages["inference"][0].links == [batch.span_id]
    assert batch.parent == ""
    assert batch.attributes == {"lookalike.batch.size": 1, "lookalike.batch.padded_size": 1}
    assert call.resource["service.name"] == "lookalike-server"


async def test_calls_of_one_batch_link_to_the_same_span(serve: Serve, collector: OtlpReceiver) -> None:
    """Calls whose images the model ran together link to one batch, which links to each of them."""
    async with serve(load_session=(model := HeldModel())) as served:
        model.session.hold()
        first = asyncio.ensure_future(served.embedding.Embed(embed(0)))
        await model.caught()
        others = [asyncio.ensure_future(served.embedding.Embed(embed(seed))) for seed in (1, 2, 3)]
        await until(lambda: "Queued: 3" in repr(served.app.batcher))
        model.session.let_go()
        await asyncio.gather(first, *others)
    calls = {call.span_id for call in collector.spans(EMBED)}
    by_size = {batch.attributes["lookalike.batch.size"]: batch for batch in collector.spans("batch")}
    assert set(by_size) == {1, 3}
    linked = [span.parent for span in collector.spans("inference") if span.links == [by_size[3].span_id]]
    assert set(linked) == set(by_size[3].links)
    assert len(calls) == 4
    assert set(linked) == calls - set(by_size[1].links)


async def test_reads_and_writes_have_their_stages(serve: Serve, collector: OtlpReceiver) -> None:
    """A write shows when the store had it, a read when it was read, and a repeated image that it was in the cache."""
    async with serve(embedding_cache_bytes=1 << 20) as served:
        await served.embedding.Embed(embed(1))
        await served.catalog.UpsertProducts(Upsert(products=[product("p1", 1)]))
        await served.catalog.GetProduct(catalog_service_pb2.GetProductRequest(id="p1"))
        await served.catalog.DeleteProducts(catalog_service_pb2.DeleteProductsRequest(ids=["p1"]))
    service = "lookalike.v1.CatalogService"
    stages = {name: of_call(collector, f"{service}/{name}")[1] for name in ("UpsertProducts", "GetProduct")}
    assert set(stages["UpsertProducts"]) == {"receive", "embedding_cache", "write"}
    assert stages["UpsertProducts"]["embedding_cache"][0].attributes == {"lookalike.cache": "hit"}
    assert set(stages["GetProduct"]) == {"receive", "read"}
    assert set(of_call(collector, f"{service}/DeleteProducts")[1]) == {"receive", "write"}


async def test_rejected_and_cancelled_calls_say_so(serve: Serve, collector: OtlpReceiver) -> None:
    """A rejection is an event of its call and no error of the server; an image that left the queue is shown there."""
    async with serve(load_session=(model := HeldModel()), max_queue_size=1) as served:
        model.session.hold()
        running = asyncio.ensure_future(served.embedding.Embed(embed(0)))
        await model.caught()
        waiting = served.embedding.Embed(embed(1))
        await until(lambda: "Queued: 1" in repr(served.app.batcher))
        assert (await rejected(served.embedding.Embed(embed(2))))[0] is grpc.StatusCode.RESOURCE_EXHAUSTED
        waiting.cancel()
        await until(lambda: "Queued: 0" in repr(served.app.batcher))
        model.session.let_go()
        await running
    codes = {call.attributes["rpc.grpc.status_code"]: call for call in collector.spans(EMBED)}
    assert set(codes) == {0, 1, 8}
    assert {code: [event.name for event in call.span.events] for code, call in codes.items()} == {
        0: [],
        1: [],
        8: ["rejected"],
    }
    (reason,) = codes[8].span.events[0].attributes
    assert (reason.key, reason.value.string_value) == ("lookalike.reason", "queue_full")
    assert not any(call.is_error for call in codes.values())
    (queue,) = [span for span in collector.spans("queue") if span.parent == codes[1].span_id]
    assert queue.attributes == {"lookalike.dropped": True}


async def test_a_fault_is_an_error_of_call_stage_and_batch(serve: Serve, collector: OtlpReceiver) -> None:
    """A failing run is an error of the batch, of the stage and of the call, with its type and none of its words."""
    sessions: list[FailingSession] = []

    def failing(*arguments: Any) -> FailingSession:
        sessions.append(FailingSession(load_session(*arguments), lambda _: True))
        return sessions[-1]

    async with serve(load_session=failing) as served:
        sessions[-1].begin()
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await served.embedding.Embed(embed(1))
    call, stages = of_call(collector, EMBED)
    assert caught.value.code() is grpc.StatusCode.INTERNAL
    assert dict(caught.value.trailing_metadata() or ())["traceresponse"] == f"00-{call.trace_id}-{call.span_id}-01"
    (batch,) = collector.spans("batch")
    assert all(span.is_error for span in (call, batch, *stages["inference"]))
    assert stages["inference"][0].links == [batch.span_id]
    assert stages["inference"][0].attributes["error.type"] == "RuntimeError"
    assert [event.name for event in batch.span.events] == ["exception"]
    assert (call.attributes["error.type"], call.attributes["rpc.grpc.status_code"]) == ("INTERNAL", 13)
    assert not any(b"secret detail" in request for request in collector.requests)


@pytest.mark.parametrize(
    ("sampler", "argument", "recorded"),
    [
        ("", "", ["sampled", "root"]),
        ("parentbased_traceidratio", "0", ["sampled"]),
        ("always_off", "", []),
        ("always_on", "", ["not sampled", "root", "sampled"]),
    ],
)
async def test_sampling_is_respected(
    serve: Serve,
    collector: OtlpReceiver,
    monkeypatch: pytest.MonkeyPatch,
    sampler: str,
    argument: str,
    recorded: list[str],
) -> None:
    """The sampler decides, by default as the caller has; a call that is not recorded has no span of any kind."""
    monkeypatch.setenv("OTEL_TRACES_SAMPLER", sampler)
    monkeypatch.setenv("OTEL_TRACES_SAMPLER_ARG", argument)
    flags = {}
    async with serve() as served:
        for name, parent in (("sampled", SAMPLED), ("not sampled", NOT_SAMPLED), ("root", ())):
            calling = served.embedding.Embed(embed(1), metadata=(*parent, ("x-request-id", name)))
            await calling
            flags[name] = dict(await calling.trailing_metadata())["traceresponse"][-2:]
    calls = {call.attributes["lookalike.request_id"]: call for call in collector.spans(EMBED)}
    assert sorted(calls) == sorted(recorded)
    assert [name for name, value in flags.items() if value == "01"] == [name for name in flags if name in recorded]
    assert {span.parent for span in collector.spans("queue")} == {call.span_id for call in calls.values()}
    assert len(collector.spans("batch")) == len(recorded)


async def test_a_stream_does_not_fill_its_trace(serve: Serve, collector: OtlpReceiver) -> None:
    """Of a long stream the first stages have spans, and the call says how many were left out."""
    from lookalike_server.tracing.spans import MAX_PARTS

    requests = [embedding_service_pb2.EmbedStreamRequest(id=str(each), image=raw(noise(1))) for each in range(200)]
    async with serve() as served:
        answers = [answer async for answer in served.embedding.EmbedStream(iter(requests))]
    assert len(answers) == len(requests)
    call, stages = of_call(collector, "lookalike.v1.EmbeddingService/EmbedStream")
    assert sum(map(len, stages.values())) == MAX_PARTS
    assert call.attributes["lookalike.spans_left_out"] == 2 * len(requests) - MAX_PARTS


async def test_no_content_is_in_spans(serve: Serve, collector: OtlpReceiver, tmp_path: Path) -> None:
    """No key, image, vector, product id, category, title or attribute is in a span, nor in an error's."""
    token = add_key(tmp_path / "keys", "writer")
    private = {"id": "the-product", "category": "the-category", "key": "the-attribute", "value": "the-value"}
    item = product(private["id"], 1, private["category"], attributes={private["key"]: private["value"]})
    async with serve(auth_keys_file=tmp_path / "keys") as served:
        metadata = (*bearer(token), ("x-request-id", "my-request"))
        await served.catalog.UpsertProducts(Upsert(products=[item]), metadata=metadata)
        for request in (
            search_service_pb2.SearchRequest(image=encoded(noise(1)), category=private["category"]),
            search_service_pb2.SearchRequest(product_id=private["id"]),
            search_service_pb2.SearchRequest(product_id="the-product-that-is-missing"),
            search_service_pb2.SearchRequest(vector=image_pb2.Vector(values=[0.25] * 7), category=private["category"]),
        ):
            await asyncio.gather(served.search.Search(request, metadata=metadata), return_exceptions=True)
        assert (await rejected(served.embedding.Embed(embed(1))))[0] is grpc.StatusCode.UNAUTHENTICATED
    received = b"".join(collector.requests)
    assert received.count(b"my-request") == 5  # what is searched for would be found
    pixels = noise(1).tobytes()
    secrets = [*(text.encode() for text in private.values()), b"Title", token.encode(), token.split("_")[-1].encode()]
    assert [secret for secret in (*secrets, pixels[:24], encoded(noise(1)).encoded[:24]) if secret in received] == []


async def test_without_the_variables_nothing_is_traced(serve: Serve) -> None:
    """Without the variables a call gets no `traceresponse`, whatever it sends."""
    async with serve() as served:
        calling = served.embedding.Embed(embed(1), metadata=SAMPLED)
        await calling
        assert set(dict(await calling.trailing_metadata())) == {"x-request-id"}
