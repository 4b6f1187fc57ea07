"""A server with frontend processes behaves like a single process: the same stats, batches, rejections, isolation."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
from google.rpc import error_details_pb2

from lookalike.inference import inference_service_pb2_grpc
from lookalike.v1 import catalog_service_pb2, embedding_service_pb2, image_pb2, search_service_pb2
from support.multiprocess_server import Caller, MultiprocessServer, multiprocess_server
from support.oip_requests import images, raw_images, vectors
from support.serving import Served, encoded, noise, product, raw, rejected

OK, INVALID_ARGUMENT = 0, 3
QUEUE = 8
NOT_AN_IMAGE = image_pb2.Image(encoded=b"no image")


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MultiprocessServer]:
    """Run a server with two frontends and a short queue."""
    with multiprocess_server(tmp_path_factory.mktemp("two"), "--max-queue-size", str(QUEUE)) as started:
        started.wait_for("serving")
        yield started


@pytest.fixture
async def callers(two: MultiprocessServer) -> AsyncIterator[tuple[Caller, Caller]]:
    """Connect to each frontend."""
    async with AsyncExitStack() as stack:
        yield (
            await stack.enter_async_context(two.connect("frontend 1")),
            await stack.enter_async_context(two.connect("frontend 2")),
        )


def embed(seed: int) -> embedding_service_pb2.EmbedRequest:
    """Make a valid request."""
    return embedding_service_pb2.EmbedRequest(image=raw(noise(seed)))


async def full_queue(callers: tuple[Caller, Caller], first: int) -> tuple[list[Any], list[Any]]:
    """Call both frontends until the queue is full; return the calls that wait in it, and those that were rejected."""
    calls = [asyncio.ensure_future(callers[seed % 2].embedding.Embed(embed(first + seed))) for seed in range(QUEUE + 4)]
    done: set[Any] = set()
    waiting: set[Any] = set(calls)
    while len(waiting) > QUEUE:
        ended, waiting = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
        done |= ended
    return [call for call in calls if call in waiting], [call for call in calls if call in done]


async def test_embeddings_are_those_of_one_process(callers: tuple[Caller, Caller], served: Served) -> None:
    """Raw, encoded, large and cropped images have the embeddings of a single process, from both frontends."""
    cropped = encoded(np.concatenate([noise(1), noise(2)], axis=1), "JPEG")
    cropped.region.right, cropped.region.bottom = 0.5, 1.0
    for image in (raw(noise(1)), encoded(noise(2)), raw(noise(3, side=64)), cropped):
        request = embedding_service_pb2.EmbedRequest(image=image)
        expected = (await served.embedding.Embed(request)).embedding
        for caller in callers:
            assert (await caller.embedding.Embed(request)).embedding == expected


async def test_images_of_both_frontends_are_batched_on_a_gpu(tmp_path: Path, served: Served) -> None:
    """Images from both frontends are stacked in the GPU's staging memory and padded, and keep their embeddings."""
    requests = [embed(seed) for seed in range(40)]
    expected = [(await served.embedding.Embed(request)).embedding for request in requests]
    folder = tmp_path / "frontends"
    folder.mkdir()
    with multiprocess_server(folder, "--gpu", "--max-concurrent-batches", "2") as started:
        started.wait_for("serving")
        warm = len(started.events("copied_out"))
        async with started.connect("frontend 1") as one, started.connect("frontend 2") as other:
            answers = await asyncio.gather(
                *((one, other)[seed % 2].embedding.Embed(request) for seed, request in enumerate(requests))
            )
    for answer, vector in zip(answers, expected, strict=True):
        np.testing.assert_allclose(answer.embedding, vector, atol=1e-6)
    copied = started.events("copied_out")[warm:]
    assert sum(line["rows"] for line in copied) == len(requests)
    assert max(line["rows"] for line in copied) > 1
    assert copied[-1]["faults"] == []
    assert {answer.stats.padded_size for answer in answers} <= {1, 2, 4, 8}


async def test_stats_have_every_stage(callers: tuple[Caller, Caller]) -> None:
    """The stats have the frontend's decoding and total time, and the engine's queue, run and digest."""
    stats = (await callers[0].embedding.Embed(embedding_service_pb2.EmbedRequest(image=encoded(noise(1))))).stats
    model = await callers[1].embedding.GetModel(embedding_service_pb2.GetModelRequest())
    assert stats.decode_us > 0
    assert stats.inference_us > 0
    assert stats.total_us >= stats.decode_us + stats.queue_us + stats.inference_us
    assert (stats.batch_size, stats.padded_size) == (1, 1)
    assert stats.model_digest == model.digest


async def test_batch_spans_frontends(two: MultiprocessServer, callers: tuple[Caller, Caller]) -> None:
    """Calls of different frontends share one run of the model, and each gets its own result."""
    alone = [(await callers[0].embedding.Embed(embed(seed))).embedding for seed in range(QUEUE + 4)]
    with two.runs_held():
        first = asyncio.ensure_future(callers[0].embedding.Embed(embed(100)))
        await two.logged("run_held", images=1)
        waiting, _ = await full_queue(callers, 0)
    answers = await asyncio.gather(*waiting)
    await first
    # Of twelve calls, six by each frontend, eight wait: at least two by each.
    assert {answer.stats.batch_size for answer in answers} == {QUEUE}
    for answer in answers:
        best = max(range(len(alone)), key=lambda seed: float(np.dot(alone[seed], answer.embedding)))
        np.testing.assert_allclose(answer.embedding, alone[best], atol=1e-6)
        alone[best] = np.zeros(48)


async def test_full_queue_rejects_with_a_time_to_retry_after(
    two: MultiprocessServer, callers: tuple[Caller, Caller]
) -> None:
    """The queue's bound holds over all frontends; a rejection has RetryInfo and gRPC's retry pushback trailer."""
    held = len([line for line in two.log if line["event"] == "run_held"])
    with two.runs_held():
        first = asyncio.ensure_future(callers[0].embedding.Embed(embed(100)))
        await two.logged("run_held", held + 1)
        waiting, over = await full_queue(callers, 0)
        for call in over:
            code, message, status = await rejected(call)
            assert code == grpc.StatusCode.RESOURCE_EXHAUSTED
            assert f"{QUEUE} images are waiting" in message
            assert any(detail.Is(error_details_pb2.RetryInfo.DESCRIPTOR) for detail in status.details)
        # After a rejection a frontend admits calls before it reads them: one that sends no image is rejected too.
        while True:  # it does so for a second, which a busy machine may take
            assert (await rejected(callers[0].embedding.Embed(embed(0))))[0] == grpc.StatusCode.RESOURCE_EXHAUSTED
            unsent: Any = callers[0].channel.stream_unary("/lookalike.v1.EmbeddingService/Embed")(timeout=2)
            code = await unsent.code()
            if code != grpc.StatusCode.DEADLINE_EXCEEDED:
                break
        assert code == grpc.StatusCode.RESOURCE_EXHAUSTED
        assert int(dict(await unsent.trailing_metadata())["grpc-retry-pushback-ms"]) >= 1
    await asyncio.gather(first, *waiting)


async def test_one_cancels_and_one_sends_no_image(two: MultiprocessServer, callers: tuple[Caller, Caller]) -> None:
    """A caller that cancels leaves the queue, one with a broken image never enters it; the others get their results."""
    held = len([line for line in two.log if line["event"] == "run_held"])
    dropped = len([line for line in two.log if line["event"] == "images_dropped"])
    expected = [(await callers[0].embedding.Embed(embed(seed))).embedding for seed in range(QUEUE + 4)]
    with two.runs_held():
        first = asyncio.ensure_future(callers[0].embedding.Embed(embed(100)))
        await two.logged("run_held", held + 1)
        waiting, _ = await full_queue(callers, 0)
        waiting[0].cancel()
        waiting[1].cancel()
        await two.logged("images_dropped", dropped + 2, cancelled=1)
        broken = embedding_service_pb2.EmbedRequest(image=NOT_AN_IMAGE)
        code, message, _ = await rejected(callers[1].embedding.Embed(broken))
        assert (code, message.partition(":")[0]) == (grpc.StatusCode.INVALID_ARGUMENT, "image.encoded")
    answers = await asyncio.gather(*waiting[2:])
    await first
    assert {answer.stats.batch_size for answer in answers} == {QUEUE - 2}
    for answer in answers:
        assert min(np.abs(np.subtract(each, answer.embedding)).max() for each in expected) < 1e-6


async def test_streams_return_every_item(callers: tuple[Caller, Caller]) -> None:
    """Streams with more items than slots of shared memory return each of them, and a bad one fails alone."""
    count = 100

    def request(seed: int) -> embedding_service_pb2.EmbedStreamRequest:
        image = NOT_AN_IMAGE if seed == 7 else encoded(noise(seed))
        return embedding_service_pb2.EmbedStreamRequest(id=str(seed), image=image)

    async def collect(caller: Caller) -> dict[int, Any]:
        call = caller.embedding.EmbedStream(request(seed) for seed in range(count))
        return {int(answer.id): answer async for answer in call}

    one, other = await asyncio.gather(*map(collect, callers))
    assert set(one) == set(other) == set(range(count))
    assert one[7].status.code == other[7].status.code == INVALID_ARGUMENT
    for seed in range(count):
        if seed != 7:
            np.testing.assert_allclose(one[seed].embedding.values, other[seed].embedding.values, atol=1e-6)
            assert one[seed].status.code == OK


async def test_frontends_share_the_catalog(callers: tuple[Caller, Caller]) -> None:
    """Products stored through one frontend are found, read, listed, exported and deleted through another."""
    one, other = callers
    stored = [product(f"p{at}", at, attributes={"color": "red" if at % 2 else "blue"}) for at in range(5)]
    stored.append(product("bad", 1))
    stored[-1].images[0].CopyFrom(NOT_AN_IMAGE)
    upserted = await one.catalog.UpsertProducts(catalog_service_pb2.UpsertProductsRequest(products=stored))
    assert [result.status.code for result in upserted.results] == [OK] * 5 + [INVALID_ARGUMENT]

    async def found(**query: Any) -> list[str]:
        usual: dict[str, Any] = {"category": "Shoes", "k": 2, "exact": True}
        request = search_service_pb2.SearchRequest(**usual | query)
        answer = await other.search.Search(request)
        assert answer.stats.exact
        assert answer.stats.total_us >= answer.stats.search_us > 0
        return [neighbor.product.id for neighbor in answer.neighbors]

    embedding = (await one.embedding.Embed(embed(3))).embedding
    assert (await found(image=raw(noise(3))))[0] == "p3"
    assert (await found(vector={"values": embedding}))[0] == "p3"
    assert "p3" not in await found(product_id="p3")
    wanted = {"attribute": "color", "equals": "blue"}
    assert (await found(image=raw(noise(4)), filters=[wanted])) == [
        "p4",
        *[name for name in await found(image=raw(noise(4)), filters=[wanted], k=9) if name != "p4"][:1],
    ]
    code, _, status = await rejected(
        other.search.Search(search_service_pb2.SearchRequest(image=raw(noise(1)), category="None"))
    )
    assert code == grpc.StatusCode.NOT_FOUND
    assert any(detail.Is(error_details_pb2.ResourceInfo.DESCRIPTOR) for detail in status.details)

    requests = (
        search_service_pb2.SearchStreamRequest(
            id=str(at), search=search_service_pb2.SearchRequest(image=raw(noise(at)), category="Shoes", k=1)
        )
        for at in range(5)
    )
    answers = {answer.id: answer async for answer in other.search.SearchStream(requests)}
    assert {at: answers[at].response.neighbors[0].product.id for at in answers} == {
        str(at): f"p{at}" for at in range(5)
    }

    image = await other.catalog.GetImage(catalog_service_pb2.GetImageRequest(id="p2"))
    assert image.ByteSize() > 0
    (shoes,) = (
        await other.catalog.ListCategories(catalog_service_pb2.ListCategoriesRequest(include_attributes=True))
    ).categories
    assert (shoes.name, shoes.count) == ("Shoes", 5)
    listed = await other.catalog.ListProducts(catalog_service_pb2.ListProductsRequest(page_size=3))
    assert [each.id for each in listed.products] == ["p0", "p1", "p2"]
    exported = [each async for each in other.catalog.ExportProducts(catalog_service_pb2.ExportProductsRequest())]
    assert len(exported) == 5
    imports = (catalog_service_pb2.ImportProductsRequest(product=product(f"p{at}", at)) for at in (5, 6))
    assert {each.result.status.code async for each in other.catalog.ImportProducts(imports)} == {OK}
    update = catalog_service_pb2.UpdateAttributesRequest(id="p5", attributes={"color": "green"})
    assert (await one.catalog.UpdateAttributes(update)).product.attributes["color"] == "green"
    gone = await one.catalog.DeleteProducts(catalog_service_pb2.DeleteProductsRequest(ids=["p5", "p6", "none"]))
    assert [result.status.code for result in gone.results] == [OK, OK, 5]
    code, _, _ = await rejected(other.catalog.GetProduct(catalog_service_pb2.GetProductRequest(id="p6")))
    assert code == grpc.StatusCode.NOT_FOUND


async def test_open_inference_protocol(callers: tuple[Caller, Caller], served: Served) -> None:
    """ModelInfer of many images at once returns the embeddings of a single process."""
    stub: Any = inference_service_pb2_grpc.GRPCInferenceServiceStub(callers[0].channel)
    single: Any = inference_service_pb2_grpc.GRPCInferenceServiceStub(served.channel)
    request = raw_images(images(12))
    np.testing.assert_allclose(
        vectors(await stub.ModelInfer(request)), vectors(await single.ModelInfer(request)), atol=1e-6
    )


@pytest.mark.slow
async def test_deadline_that_cannot_be_met_is_rejected(tmp_path: Path) -> None:
    """A call that is predicted to miss its deadline is rejected at once by either frontend."""
    with multiprocess_server(
        tmp_path, "--max-batch-size", "1", "--preferred-batch-size", "1", "--seconds", "0.1"
    ) as slow:
        slow.wait_for("serving")
        async with slow.connect("frontend 1") as one, slow.connect("frontend 2") as other:
            with slow.runs_held():
                # Forty runs of 100 ms do not fit into two seconds.
                calls = [
                    asyncio.ensure_future(rejected(caller.embedding.Embed(embed(seed), timeout=2.0)))
                    for seed in range(20)
                    for caller in (one, other)
                ]
                done, waiting = await asyncio.wait(calls, return_when=asyncio.FIRST_COMPLETED)
                code, message, status = done.pop().result()
                assert code == grpc.StatusCode.RESOURCE_EXHAUSTED
                assert "deadline" in message
                assert any(detail.Is(error_details_pb2.RetryInfo.DESCRIPTOR) for detail in status.details)
                for call in waiting:
                    call.cancel()
                await asyncio.gather(*waiting, return_exceptions=True)
