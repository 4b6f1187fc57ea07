"""Draining: callers are sent away and none of their calls is lost, streams end between two items, nobody delays it."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.rpc import error_details_pb2, status_pb2
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from lookalike.v1 import catalog_service_pb2, embedding_service_pb2, search_service_pb2
from lookalike_client import AsyncClient, LookalikeError
from lookalike_client.inputs import ProductInput
from lookalike_client.transfer.import_batches import Batch, PendingProduct
from lookalike_client.transfer.importer import ImportProgress, StreamDestination, import_batches
from support.serving import HeldModel, Serve, Served, encoded, noise, product, raw

SECONDS = 60.0
"""The grace of a drain that must not need it."""


def embed_request(seed: int = 1) -> embedding_service_pb2.EmbedRequest:
    """Make a valid request."""
    return embedding_service_pb2.EmbedRequest(image=raw(noise(seed)))


# A call that is on its way for longer than responses are held is lost, as where cores are overloaded many times.
@pytest.mark.slow
@pytest.mark.serial
async def test_callers_lose_no_call(serve: Serve) -> None:
    """Callers that call again and again have every call answered until they are sent away, at whatever moment."""
    outcomes: Counter[str] = Counter()

    async def call(served: Served, seed: int) -> None:
        while True:
            try:
                await served.embedding.Embed(embed_request(seed))
            except grpc.aio.AioRpcError as error:
                # The client has read the GOAWAY and finds nobody at another connection.
                outcomes[f"{error.code().name} {'onnect' in (error.details() or '')}"] += 1
                return
            outcomes["OK"] += 1

    for _ in range(5):
        async with serve() as served:
            callers = [asyncio.create_task(call(served, seed)) for seed in range(16)]
            while outcomes["OK"] < 100:  # noqa: ASYNC110 - calls, of which nothing notifies
                await asyncio.sleep(0)
            assert await served.app.server.drain(SECONDS)
            await asyncio.gather(*callers)
            outcomes["OK"] = 0
    assert set(outcomes) == {"OK", "UNAVAILABLE True"}


async def test_lame_duck_serves_everything(serve: Serve) -> None:
    """Once health says NOT_SERVING all is served as before, until the drain goes on."""
    async with serve() as served:
        announced = asyncio.create_task(served.app.server.announce_drain(SECONDS))
        health: Any = health_pb2_grpc.HealthStub(served.channel)
        async for update in health.Watch(health_pb2.HealthCheckRequest()):
            if update.status == health_pb2.HealthCheckResponse.NOT_SERVING:
                break
        assert len((await served.embedding.Embed(embed_request())).embedding) == 48
        requests = (catalog_service_pb2.ImportProductsRequest(product=product(f"p{at}", at)) for at in range(5))
        assert [each.result.status.code async for each in served.catalog.ImportProducts(requests)] == [0] * 5
        announced.cancel()


async def test_a_call_under_way_finishes(serve: Serve) -> None:
    """A call that was begun is answered, while its caller's next call goes elsewhere."""
    model = HeldModel()
    async with serve(load_session=model) as served:
        model.session.hold()
        inside = asyncio.ensure_future(served.embedding.Embed(embed_request()))
        await model.caught()
        draining = asyncio.create_task(served.app.server.drain(SECONDS))
        await _sent_away(served)
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await served.embedding.Embed(embed_request())
        assert caught.value.code() == grpc.StatusCode.UNAVAILABLE
        assert not draining.done()
        model.session.let_go()
        assert len((await inside).embedding) == 48
        assert await draining


async def test_what_exceeds_the_grace_is_cut(serve: Serve) -> None:
    """The drain says that not all have finished, and stopping ends the rest."""
    model = HeldModel()
    async with serve(load_session=model) as served:
        model.session.hold()
        inside = asyncio.ensure_future(served.embedding.Embed(embed_request()))
        await model.caught()
        assert not await served.app.server.drain(0.01)
        await served.app.server.stop()
        with pytest.raises(grpc.aio.AioRpcError):
            await inside
        model.session.let_go()


def embed_stream(served: Served, seeds: AsyncIterator[int]) -> Any:
    """Open a stream of images."""
    return served.embedding.EmbedStream(
        embedding_service_pb2.EmbedStreamRequest(id=str(seed), image=raw(noise(seed))) async for seed in seeds
    )


def search_stream(served: Served, seeds: AsyncIterator[int]) -> Any:
    """Open a stream of searches."""
    return served.search.SearchStream(
        search_service_pb2.SearchStreamRequest(
            id=str(seed), search=search_service_pb2.SearchRequest(image=raw(noise(seed)), all_categories=True)
        )
        async for seed in seeds
    )


def import_stream(served: Served, seeds: AsyncIterator[int]) -> Any:
    """Open a stream of products."""
    return served.catalog.ImportProducts(
        catalog_service_pb2.ImportProductsRequest(product=product(f"p{seed}", seed)) async for seed in seeds
    )


@pytest.mark.parametrize("open_stream", [embed_stream, search_stream, import_stream])
async def test_idle_streams_end_at_once(serve: Serve, open_stream: Callable[..., Any]) -> None:
    """A stream whose items all have their responses ends UNAVAILABLE with RetryInfo, and holds no drain."""
    async with serve() as served:
        call = open_stream(served, _then_silence(3))
        for _ in range(3):
            await call.read()
        assert await served.app.server.drain(SECONDS)
        await _ends_elsewhere(call)


async def test_items_under_way_are_acknowledged(serve: Serve) -> None:
    """Products that were read are stored and acknowledged before the import ends; the others are not stored."""
    model = HeldModel()
    async with serve(load_session=model) as served:
        model.session.hold()
        call = import_stream(served, _then_silence(40))
        await model.caught()
        draining = asyncio.create_task(served.app.server.drain(SECONDS))
        await _sent_away(served)
        model.session.let_go()
        results = [response.result for response in await _read_all(call)]
        assert await call.code() == grpc.StatusCode.UNAVAILABLE
        assert {result.status.code for result in results} == {0}
        acknowledged = [result.id for result in results]
        assert await draining
    async with serve() as served:
        listed = await served.catalog.ListProducts(catalog_service_pb2.ListProductsRequest(page_size=100))
        assert [each.id for each in listed.products] == sorted(acknowledged)


async def test_watchers_and_reflection_end(serve: Serve) -> None:
    """Health watchers see NOT_SERVING first; they, and reflection streams, hold no drain."""
    async with serve() as served:
        channel: Any = served.channel
        health: Any = health_pb2_grpc.HealthStub(channel)
        reflections: Any = reflection_pb2_grpc.ServerReflectionStub(channel)
        watch = health.Watch(health_pb2.HealthCheckRequest())
        reflection = reflections.ServerReflectionInfo()
        await reflection.write(reflection_pb2.ServerReflectionRequest(list_services=""))
        assert (await watch.read()).status == health_pb2.HealthCheckResponse.SERVING
        await reflection.read()
        assert await served.app.server.drain(SECONDS)
        assert (await watch.read()).status == health_pb2.HealthCheckResponse.NOT_SERVING
        for call in (watch, reflection):
            assert await _read_all(call) == []
            assert await call.code() == grpc.StatusCode.UNAVAILABLE


async def test_a_peer_that_hangs_holds_no_drain(serve: Serve) -> None:
    """A connection whose peer acknowledges nothing is closed without waiting for the whole grace."""
    async with serve() as served:
        reader, writer = await asyncio.open_connection("127.0.0.1", served.app.port)
        writer.write(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes((0, 0, 0, 4, 0, 0, 0, 0, 0)))
        await reader.readexactly(9)  # the server's settings: it is a connection
        async with asyncio.timeout(SECONDS / 2):
            assert await served.app.server.drain(SECONDS)
            await served.app.server.stop()
        writer.close()


async def test_an_export_goes_on_elsewhere(serve: Serve) -> None:
    """An export ends after a product, and a client that asks for those after it gets the rest."""
    count = 200
    # Many times what a client that does not read takes: its window grows by itself, to megabytes where it is slow.
    attributes = {f"a{at}": "x" * 4000 for at in range(32)}
    async with serve() as served:
        stored = [product(f"p{at:03}", 1, attributes=attributes) for at in range(count)]
        for at in range(0, count, 20):
            request = catalog_service_pb2.UpsertProductsRequest(products=stored[at : at + 20])
            results = (await served.catalog.UpsertProducts(request)).results
            assert {result.status.code for result in results} == {0}
        call = served.catalog.ExportProducts(catalog_service_pb2.ExportProductsRequest())
        ids = [(await call.read()).product.id]
        draining = asyncio.create_task(served.app.server.drain(SECONDS))
        await _sent_away(served)
        ids += [response.product.id for response in await _read_all(call)]
        assert await call.code() == grpc.StatusCode.UNAVAILABLE
        assert len(ids) < count
        assert await draining
    async with serve() as served:
        rest = served.catalog.ExportProducts(catalog_service_pb2.ExportProductsRequest(after_id=ids[-1]))
        ids += [each.product.id async for each in rest]
    assert ids == [each.id for each in stored]


class Observer:
    """Drains the first server once some products are imported."""

    def __init__(self, served: Served) -> None:
        self._served = served
        self.draining: asyncio.Task[bool] | None = None
        self.rejections: list[LookalikeError] = []

    def advanced(self, progress: ImportProgress) -> None:
        """Drain after a tenth."""
        if progress.imported >= 20 and self.draining is None:
            self.draining = asyncio.create_task(self._served.app.server.drain(SECONDS))

    def rejected(self, error: LookalikeError, wait: float) -> None:
        """Note that a batch is sent again."""
        del wait
        self.rejections.append(error)


async def test_the_importer_resumes(serve: Serve, tmp_path: Path) -> None:
    """The Python client's import over streams goes on at the other server, and stores every product."""
    inputs = [ProductInput(f"p{at:03}", "Shoes", images=[encoded(noise(at)).encoded]) for at in range(200)]
    batches = [
        Batch(ready=[PendingProduct(at, inputs[at]) for at in range(first, first + 10)]) for first in range(0, 200, 10)
    ]
    async with serve() as one, serve(data_dir=tmp_path / "other") as other:
        target = f"ipv4:127.0.0.1:{one.app.port},127.0.0.1:{other.app.port}"
        observer = Observer(one)
        progress = ImportProgress()
        async with AsyncClient(target) as client:
            await import_batches(StreamDestination(client), iter(batches), progress, observer, concurrency=2)
        assert observer.draining is not None
        assert await observer.draining
        assert (progress.imported, progress.failed) == (200, 0)


async def _then_silence(count: int) -> AsyncIterator[int]:
    """Yield so many seeds, and then nothing any more."""
    for seed in range(count):
        yield seed
    await asyncio.Event().wait()


async def _sent_away(served: Served) -> None:
    """Wait until the client has read the GOAWAY."""
    while (state := served.channel.get_state()) == grpc.ChannelConnectivity.READY:
        await served.channel.wait_for_state_change(state)


async def _read_all(call: Any) -> list[Any]:
    """Read a stream to its end, whatever its status."""
    responses = []
    with suppress(grpc.aio.AioRpcError):
        while (response := await call.read()) is not grpc.aio.EOF:
            responses.append(response)
    return responses


async def _ends_elsewhere(call: Any) -> None:
    """Check that a stream ends with the advice to go on at another server."""
    assert await _read_all(call) == []
    assert await call.code() == grpc.StatusCode.UNAVAILABLE
    assert "send the rest to another one" in await call.details()
    trailers = dict(await call.trailing_metadata())
    retry = error_details_pb2.RetryInfo()
    assert any(
        detail.Unpack(retry) for detail in status_pb2.Status.FromString(trailers["grpc-status-details-bin"]).details
    )
