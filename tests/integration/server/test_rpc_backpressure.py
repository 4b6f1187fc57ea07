"""Writes of a category whose graphs are behind, over real gRPC and a real index whose background thread is held."""

from __future__ import annotations

import threading
from collections.abc import AsyncIterator, Iterator, Sequence
from typing import Any

import grpc
import numpy as np
import pytest
from google.rpc import error_details_pb2

from lookalike import vector_codec
from lookalike.v1 import catalog_service_pb2 as pb
from lookalike.v1 import embedding_service_pb2, product_pb2, search_service_pb2
from lookalike_server.domain.events import Event, GraphBuilt
from support.fakes import RecordingObserver
from support.serving import Serve, Served, rejected, until

Array = np.ndarray[Any, np.dtype[Any]]

THRESHOLD = 40
FIRST = THRESHOLD + 20
"""Rows of the first graph; after them, as many as the threshold may wait for the next one before writes do."""


class HeldGraphs(RecordingObserver):
    """Holds the index's background thread once it has built a graph, until it is let go."""

    def __init__(self) -> None:
        super().__init__()
        self._go_on = threading.Event()

    def __call__(self, event: Event) -> None:
        """Keep the event, and return when graphs may be built."""
        super().__call__(event)
        if isinstance(event, GraphBuilt):
            assert self._go_on.wait(240)

    def let_go(self) -> None:
        """Hold nothing any longer."""
        self._go_on.set()


@pytest.fixture
def held() -> Iterator[HeldGraphs]:
    """Return what holds the background thread; a server closes only once it is let go."""
    graphs = HeldGraphs()
    yield graphs
    graphs.let_go()


class Catalog:
    """A served catalog, and the vectors that are in it."""

    def __init__(self, served: Served, dim: int) -> None:
        self.served = served
        self._chance = np.random.default_rng(7)
        self._dim = dim
        self.vectors: dict[str, Array] = {}

    def products(self, count: int, category: str = "Shoes") -> list[product_pb2.ProductInput]:
        """Make so many products."""
        rows = self._chance.normal(size=(count, self._dim)).astype(np.float32)
        ids = [f"{category}-{len(self.vectors) + number}" for number in range(count)]
        self.vectors |= dict(zip(ids, rows, strict=True))
        return [
            product_pb2.ProductInput(id=each, category=category, vectors=[vector_codec.to_vector(row)])
            for each, row in zip(ids, rows, strict=True)
        ]

    async def upsert(self, products: Sequence[product_pb2.ProductInput]) -> list[int]:
        """Store products in one call, and return their codes."""
        response = await self.served.catalog.UpsertProducts(pb.UpsertProductsRequest(products=products))
        return [result.status.code for result in response.results]

    async def check(self, ids: Sequence[str], *, stored: bool = True) -> None:
        """Search by the vectors of some products: each is the nearest to its own, if it is stored."""
        for each in ids:
            request = search_service_pb2.SearchRequest(
                vector=vector_codec.to_vector(self.vectors[each]), category=each.partition("-")[0], k=3
            )
            neighbors = (await self.served.search.Search(request)).neighbors
            assert len(neighbors) == 3
            assert (neighbors[0].product.id == each) is stored


async def behind(held: HeldGraphs, served: Served, rows: int) -> Catalog:
    """Return a catalog with a graph, and so many rows that wait for the next one."""
    response = await served.embedding.GetModel(embedding_service_pb2.GetModelRequest())
    catalog = Catalog(served, response.dim)
    assert await catalog.upsert(catalog.products(FIRST)) == [0] * FIRST
    await until(lambda: bool(held.of(GraphBuilt)))
    # While nobody searches the category nothing has to wait.
    for begin in range(0, rows, 1000):
        count = min(1000, rows - begin)
        assert await catalog.upsert(catalog.products(count)) == [0] * count
    await catalog.check(list(catalog.vectors)[:: 1 + rows // 10])
    return catalog


async def test_a_write_waits_for_the_index(serve: Serve, held: HeldGraphs) -> None:
    """A call whose category is a little behind is stored once it is not; searches and other categories go on."""
    async with serve(observer=held, full_scan_threshold=THRESHOLD) as served:
        catalog = await behind(held, served, 2 * THRESHOLD)
        late = catalog.products(1)
        waiting = served.catalog.UpsertProducts(pb.UpsertProductsRequest(products=late))
        for _ in range(5):  # each of which was sent after the one that waits
            hats = catalog.products(3, "Hats")
            assert await catalog.upsert(hats) == [0] * 3
            await catalog.check([each.id for each in hats])
        await catalog.check([late[0].id], stored=False)
        assert not waiting.done()
        held.let_go()
        assert [result.status.code for result in (await waiting).results] == [0]
        await catalog.check([*list(catalog.vectors)[::7], late[0].id])


async def test_a_write_is_rejected_where_the_index_is_far_behind(serve: Serve, held: HeldGraphs) -> None:
    """A call that would wait too long is RESOURCE_EXHAUSTED, says when to try again, and has stored nothing."""
    async with serve(observer=held, full_scan_threshold=THRESHOLD) as served:
        catalog = await behind(held, served, 8000)
        late = catalog.products(2)
        code, message, status = await rejected(
            served.catalog.UpsertProducts(pb.UpsertProductsRequest(products=late), timeout=60)
        )
        assert code is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert "'Shoes' has received products faster than its index takes them in" in message
        retry = error_details_pb2.RetryInfo()
        assert any(detail.Unpack(retry) for detail in status.details)
        assert retry.retry_delay.ToMilliseconds() >= 5000
        await catalog.check([each.id for each in late], stored=False)
        mixed = [*late, *catalog.products(3, "Hats")]
        assert await catalog.upsert(mixed) == [grpc.StatusCode.RESOURCE_EXHAUSTED.value[0]] * 2 + [0] * 3
        deleted = await served.catalog.DeleteProducts(pb.DeleteProductsRequest(ids=["Shoes-0"]))
        assert [result.status.code for result in deleted.results] == [0]
        await catalog.check(["Shoes-0"], stored=False)
        held.let_go()


async def test_a_stream_waits_for_the_index_and_stores_everything(serve: Serve, held: HeldGraphs) -> None:
    """However far behind the index is, an import waits, products of other categories pass, and none is lost."""
    async with serve(observer=held, full_scan_threshold=THRESHOLD) as served:
        catalog = await behind(held, served, 8000)
        late, hats = catalog.products(20), catalog.products(5, "Hats")

        async def requests() -> AsyncIterator[pb.ImportProductsRequest]:
            for each in (*late, *hats):
                yield pb.ImportProductsRequest(product=each)

        call = served.catalog.ImportProducts(requests(), timeout=120)
        responses = [await call.read() for _ in hats]
        assert {(each.result.id, each.result.status.code) for each in responses} == {(each.id, 0) for each in hats}
        await catalog.check([late[0].id], stored=False)
        held.let_go()
        responses = [await call.read() for _ in late]
        assert await call.read() is grpc.aio.EOF
        assert {(each.result.id, each.result.status.code) for each in responses} == {(each.id, 0) for each in late}
        await catalog.check([*[each.id for each in late], *list(catalog.vectors)[::800]])
