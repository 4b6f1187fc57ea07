"""The calls of a soak's load: each is a kind with a weight, and draws its image, product and category."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import grpc

from lookalike.v1 import catalog_service_pb2 as catalog
from lookalike.v1 import embedding_service_pb2 as embedding
from lookalike.v1 import image_pb2, product_pb2
from lookalike.v1 import search_service_pb2 as search
from support.multiprocess_server import Caller
from support.serving import encoded, noise, product, raw

PRODUCTS = 500
"""Ids that are stored, replaced and deleted: the catalog has about two thirds of them at any time, in both categories
together. Most are of a category with a graph, the others of one without."""

_CATEGORIES = ("Shoes",) * 9 + ("Hats",)
_DIM = 48  # of the tiny model
_REPEATED = 100  # images that are sent again and again
_ITEMS = 8  # of a stream

Random = random.Random


class Calls:
    """Calls of every kind over one connection, and of some kinds over a connection of their own."""

    def __init__(self, address: str, caller: Caller) -> None:
        self._address, self._caller = address, caller
        self._embedding, self._search, self._catalog = caller.embedding, caller.search, caller.catalog

    async def embed_again(self, draw: Random) -> None:
        """Embed an image file that the embedding cache may have."""
        await self._embedding.Embed(embedding.EmbedRequest(image=encoded(noise(draw.randrange(_REPEATED)))))

    async def embed_new(self, draw: Random) -> None:
        """Embed pixels that nobody sent before."""
        await self._embedding.Embed(embedding.EmbedRequest(image=_new(draw)))

    async def search_image(self, draw: Random) -> None:
        """Search by a new image."""
        await self._search.Search(search.SearchRequest(image=_new(draw), all_categories=True, k=5))

    async def search_vector(self, draw: Random) -> None:
        """Search by a vector, with a filter."""
        only = search.Filter(attribute="color", equals=_color(draw))
        request = search.SearchRequest(vector=_vector(draw), category="Shoes", k=10, filters=[only])
        await self._search.Search(request)

    async def search_id(self, draw: Random) -> None:
        """Search by a product that may have been deleted."""
        await self._search.Search(search.SearchRequest(product_id=_id(draw), all_categories=True, k=5))

    async def upsert(self, draw: Random) -> None:
        """Store or replace a product with a stored image."""
        await self._catalog.UpsertProducts(catalog.UpsertProductsRequest(products=[_product(draw)]))

    async def update_attributes(self, draw: Random) -> None:
        """Change a product that may have been deleted."""
        request = catalog.UpdateAttributesRequest(id=_id(draw), attributes={"color": _color(draw)})
        await self._catalog.UpdateAttributes(request)

    async def delete(self, draw: Random) -> None:
        """Delete a product that may have been deleted."""
        await self._catalog.DeleteProducts(catalog.DeleteProductsRequest(ids=[_id(draw)]))

    async def read(self, draw: Random) -> None:
        """Read a product and a page, and an image that may be gone."""
        await self._catalog.ListCategories(catalog.ListCategoriesRequest(include_attributes=True))
        await self._catalog.ListProducts(catalog.ListProductsRequest(category="Shoes", page_size=20))
        await self._catalog.GetImage(catalog.GetImageRequest(id=_id(draw)))

    async def export(self, draw: Random) -> None:
        """Read a whole category."""
        async for _ in self._catalog.ExportProducts(catalog.ExportProductsRequest(category="Hats")):
            pass

    async def embed_stream(self, draw: Random) -> None:
        """Embed several images over a stream, one of which is damaged."""
        images = [*(_new(draw) for _ in range(_ITEMS)), image_pb2.Image(encoded=b"damaged")]
        items = [embedding.EmbedStreamRequest(id=str(at), image=each) for at, each in enumerate(images)]
        await _drained(self._embedding.EmbedStream(iter(items)))

    async def search_stream(self, draw: Random) -> None:
        """Search several times over a stream."""
        query = search.SearchRequest(vector=_vector(draw), category="Hats", k=3)
        items = [search.SearchStreamRequest(id=str(at), search=query) for at in range(_ITEMS)]
        await _drained(self._search.SearchStream(iter(items)))

    async def import_stream(self, draw: Random) -> None:
        """Store several products over a stream."""
        items = [catalog.ImportProductsRequest(product=_product(draw)) for _ in range(_ITEMS)]
        await _drained(self._catalog.ImportProducts(iter(items)))

    async def wrong_request(self, draw: Random) -> None:
        """Send what the server must reject: a damaged image, no query, a vector of another length, no method."""
        wrong: tuple[Callable[[], Any], ...] = (
            lambda: self._embedding.Embed(embedding.EmbedRequest(image=image_pb2.Image(encoded=draw.randbytes(2000)))),
            lambda: self._search.Search(search.SearchRequest(category="Shoes")),
            lambda: self._search.Search(search.SearchRequest(vector=image_pb2.Vector(values=[1.0]), category="Shoes")),
            lambda: self._catalog.GetProduct(catalog.GetProductRequest(id="none")),
            lambda: self._bytes_to("/no.such.Service/Method", draw.randbytes(100)),
        )
        await draw.choice(wrong)()
        raise AssertionError("the server accepted a wrong request")

    async def wrong_bytes(self, draw: Random) -> None:
        """Send bytes that are no message."""
        await self._bytes_to("/lookalike.v1.EmbeddingService/Embed", b"\xff" * 100)
        raise AssertionError("the server accepted bytes that are no message")

    async def cancel(self, draw: Random) -> None:
        """Cancel a call soon after it began."""
        call = self._search.Search(search.SearchRequest(image=_new(draw), all_categories=True, k=5))
        await asyncio.sleep(draw.random() * 0.005)
        call.cancel()
        await call

    async def cancel_stream(self, draw: Random) -> None:
        """Leave a stream after its first response."""
        items = [embedding.EmbedStreamRequest(id=str(at), image=_new(draw)) for at in range(_ITEMS)]
        call = self._embedding.EmbedStream(iter(items))
        async for _ in call:
            break
        call.cancel()

    async def expire(self, draw: Random) -> None:
        """Give a call less time than it needs."""
        await self._embedding.Embed(embedding.EmbedRequest(image=_new(draw)), timeout=0.001)

    async def connect(self, draw: Random) -> None:
        """Connect, call and disconnect."""
        caller = Caller(self._address)
        async with caller.channel:
            await caller.healthy("SERVING")
            await caller.embedding.GetModel(embedding.GetModelRequest())

    async def vanish(self, draw: Random) -> None:
        """Connect, send what is not HTTP/2 or nothing, and go."""
        host, port = self._address.split(":")
        _, writer = await asyncio.open_connection(host, int(port))
        writer.write(draw.choice((b"", b"GET / HTTP/1.1\r\n\r\n", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")))
        writer.close()

    def _bytes_to(self, method: str, request: bytes) -> Any:
        call: Any = self._caller.channel.unary_unary(method)
        return call(request)


KINDS: Mapping[Callable[[Calls, Random], Any], int] = {
    Calls.embed_again: 12,
    Calls.embed_new: 10,
    Calls.search_image: 8,
    Calls.search_vector: 12,
    Calls.search_id: 10,
    Calls.upsert: 10,
    Calls.update_attributes: 6,
    Calls.delete: 8,
    Calls.read: 4,
    Calls.export: 1,
    Calls.embed_stream: 2,
    Calls.search_stream: 2,
    Calls.import_stream: 1,
    Calls.wrong_request: 5,
    Calls.wrong_bytes: 1,
    Calls.cancel: 3,
    Calls.cancel_stream: 1,
    Calls.expire: 1,
    Calls.connect: 2,
    Calls.vanish: 1,
}
"""How often each kind of call is made, in percent."""

_GONE = frozenset({"NOT_FOUND"})
EXPECTED: Mapping[str, frozenset[str]] = {
    "search_id": _GONE,
    "update_attributes": _GONE,
    "read": _GONE,
    "wrong_request": frozenset({"INVALID_ARGUMENT", "NOT_FOUND", "UNIMPLEMENTED"}),
    "wrong_bytes": frozenset({"INVALID_ARGUMENT"}),
    "cancel": frozenset({"CANCELLED"}),
    "expire": frozenset({"DEADLINE_EXCEEDED"}),
}
"""The codes with which calls of a kind may end; all may end with OK."""


async def _drained(call: grpc.aio.StreamStreamCall[Any, Any]) -> None:
    async for _ in call:
        pass


def _new(draw: Random) -> image_pb2.Image:
    return raw(noise(draw.getrandbits(32)))


def _vector(draw: Random) -> image_pb2.Vector:
    return image_pb2.Vector(values=[draw.gauss(0, 1) for _ in range(_DIM)])


def _color(draw: Random) -> str:
    return draw.choice(("red", "green", "blue"))


def _id(draw: Random) -> str:
    return f"p{draw.randrange(PRODUCTS)}"


def _product(draw: Random) -> product_pb2.ProductInput:
    number = draw.randrange(PRODUCTS)
    category = _CATEGORIES[number % len(_CATEGORIES)]
    made = product(f"p{number}", draw.getrandbits(32), category, attributes={"color": _color(draw)})
    made.images[0].CopyFrom(encoded(noise(draw.getrandbits(32))))
    return made


def all_products(seed: int) -> Iterator[product_pb2.ProductInput]:
    """Yield a product for every id, for the start."""
    draw = random.Random(seed)  # noqa: S311
    for number in range(PRODUCTS):
        made = _product(draw)
        made.id, made.category = f"p{number}", _CATEGORIES[number % len(_CATEGORIES)]
        yield made
