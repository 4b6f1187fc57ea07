"""Streams: every item is answered once, waits rather than being rejected, and fails alone."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable
from typing import Any

import numpy as np
import pytest
from google.rpc import code_pb2

from lookalike.v1 import catalog_service_pb2, embedding_service_pb2, image_pb2, product_pb2, search_service_pb2
from support.both_runtimes import provider  # noqa: F401 - every server runs with both
from support.serving import HeldModel, Serve, Served, noise, product, raw, until


def images(seeds: Iterable[int]) -> list[embedding_service_pb2.EmbedStreamRequest]:
    """A stream's requests, each named by its seed."""
    return [embedding_service_pb2.EmbedStreamRequest(id=str(seed), image=raw(noise(seed))) for seed in seeds]


async def embed_stream(served: Served, requests: Iterable[Any]) -> dict[str, Any]:
    """Collect the responses of an EmbedStream by id; no id may come twice."""
    responses: dict[str, Any] = {}
    async for response in served.embedding.EmbedStream(iter(requests)):
        assert response.id not in responses
        responses[response.id] = response
    return responses


async def test_embed_stream_responses_each_with_its_own(served: Served) -> None:
    """Every image of a stream has the embedding that it has alone, under its own id, with stats."""
    responses = await embed_stream(served, images(range(40)))
    assert len(responses) == 40
    for seed in (0, 17, 39):
        alone = await served.embedding.Embed(embedding_service_pb2.EmbedRequest(image=raw(noise(seed))))
        assert np.dot(alone.embedding, responses[str(seed)].embedding.values) >= 0.99999
        assert responses[str(seed)].stats.batch_size >= 1
    assert max(served.observer.batches) > 1


async def test_empty_streams(served: Served) -> None:
    """A stream without items ends at once with OK."""
    assert await embed_stream(served, []) == {}
    assert [r async for r in served.search.SearchStream(iter([]))] == []
    assert [r async for r in served.catalog.ImportProducts(iter([]))] == []


async def test_bad_items_fail_alone(served: Served) -> None:
    """A bad image in a stream has a status that names its field; its neighbors are answered."""
    requests = images(range(6))
    requests[2].image.CopyFrom(image_pb2.Image(encoded=b"nonsense"))
    requests[4].ClearField("image")
    responses = await embed_stream(served, requests)
    assert sorted(name for name, response in responses.items() if response.HasField("status")) == ["2", "4"]
    assert responses["2"].status.code == code_pb2.INVALID_ARGUMENT
    assert responses["2"].status.message.startswith("image.encoded: ")
    assert responses["4"].status.message.startswith("image: ")


async def test_import_and_search_streams(served: Served) -> None:
    """Products imported over a stream are found over another; bad items of both fail alone."""
    requests = [catalog_service_pb2.ImportProductsRequest(product=product(f"p{i}", i)) for i in range(20)]
    requests[7].product.ClearField("category")
    results = {
        response.result.id: response.result.status async for response in served.catalog.ImportProducts(iter(requests))
    }
    assert len(results) == 20
    assert [name for name, status in results.items() if status.code] == ["p7"]
    assert results["p7"].message.startswith("product.category: ")
    queries = [
        search_service_pb2.SearchStreamRequest(
            id=f"q{i}", search=search_service_pb2.SearchRequest(image=raw(noise(i)), category="Shoes", k=1)
        )
        for i in range(10)
    ]
    queries.append(
        search_service_pb2.SearchStreamRequest(id="ghost", search=search_service_pb2.SearchRequest(product_id="ghost"))
    )
    responses = {response.id: response async for response in served.search.SearchStream(iter(queries))}
    assert len(responses) == 11
    assert responses["ghost"].status.code == code_pb2.NOT_FOUND
    for i in range(10):
        if i != 7:
            assert responses[f"q{i}"].response.neighbors[0].product.id == f"p{i}"


@pytest.mark.slow
async def test_ten_thousand_images_on_one_stream(served: Served) -> None:
    """A stream far longer than any queue is answered completely, and nothing of it is rejected."""
    one = image_pb2.Image(rgb=image_pb2.RawImage(width=32, height=32, data=noise(1).tobytes()))
    requests = (embedding_service_pb2.EmbedStreamRequest(id=str(i), image=one) for i in range(10_000))
    responses = await embed_stream(served, requests)
    assert len(responses) == 10_000
    assert all(response.HasField("embedding") for response in responses.values())


async def test_stream_whose_caller_never_reads(serve: Serve) -> None:
    """A caller that sends and never reads is not read beyond the window, and no other call is affected."""
    model = HeldModel()
    async with serve(load_session=model, max_batch_size=4) as served:
        sent = 0

        async def endless() -> AsyncIterator[embedding_service_pb2.EmbedStreamRequest]:
            nonlocal sent
            for request in images(range(1000)):
                sent += 1
                yield request

        model.session.hold()
        call = served.embedding.EmbedStream(endless())
        await model.caught()
        await until(lambda: "Queued: 7 " in repr(served.app.batcher) or "Queued: 4 " in repr(served.app.batcher))
        # The caller offers 3 MB; what the window and gRPC's buffers do not hold is not read.
        assert sent < 1000
        model.session.let_go()
        response = await served.embedding.Embed(embedding_service_pb2.EmbedRequest(image=raw(noise(1))))
        assert len(response.embedding) == 48
        call.cancel()
        await until(lambda: repr(served.app.batcher) == "<MicroBatcher [Queued: 0 | Running: 0]>")


async def test_streams_wait_where_calls_are_rejected(serve: Serve) -> None:
    """While the queue of interactive calls is full, a stream's images wait for their turn and are all answered."""
    model = HeldModel()
    async with serve(load_session=model, max_queue_size=1, max_batch_size=2) as served:
        model.session.hold()
        first = asyncio.ensure_future(embed_stream(served, images(range(30))))
        await model.caught()
        single = asyncio.ensure_future(served.embedding.Embed(embedding_service_pb2.EmbedRequest(image=raw(noise(99)))))
        await until(lambda: "Queued: " in repr(served.app.batcher))
        model.session.let_go()
        responses = await first
        assert len((await single).embedding) == 48
        assert len(responses) == 30
        assert all(response.HasField("embedding") for response in responses.values())


@pytest.mark.parametrize("count", [1, 5, 50])
async def test_cancelled_stream_leaves_nothing_behind(serve: Serve, count: int) -> None:
    """A stream that its caller cancels takes its waiting images with it; the server goes on."""
    model = HeldModel()
    async with serve(load_session=model) as served:
        model.session.hold()
        call = served.embedding.EmbedStream(iter(images(range(count))))
        await model.caught()
        call.cancel()
        await until(lambda: "Queued: 0 " in repr(served.app.batcher))
        model.session.let_go()
        await until(lambda: "Running: 0]" in repr(served.app.batcher))
        assert await embed_stream(served, images([1, 2])) != {}


async def test_streamed_product_without_a_body(served: Served) -> None:
    """An import item without a product has a status that says what is missing."""
    call = served.catalog.ImportProducts(iter([catalog_service_pb2.ImportProductsRequest()]))
    response = await call.read()
    assert response.result.status.code == code_pb2.INVALID_ARGUMENT
    assert isinstance(response.result, product_pb2.ItemStatus)
