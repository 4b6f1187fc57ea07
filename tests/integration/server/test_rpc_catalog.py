"""Storing, replacing, deleting and listing products, over real gRPC and a real SQLite file."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import math
import time
from pathlib import Path

import pytest
from google.rpc import code_pb2

from lookalike.v1 import catalog_service_pb2 as pb
from lookalike.v1 import embedding_service_pb2, image_pb2, product_pb2, search_service_pb2
from lookalike_server.domain.calls import Call
from lookalike_server.domain.catalog import Product, ProductUpsert
from lookalike_server.domain.errors import LookalikeError
from lookalike_server.domain.inference import RawImage
from support.paths import MODELS
from support.serving import Serve, Served, noise, product, raw


async def upsert(served: Served, *products: product_pb2.ProductInput) -> list[int]:
    """Store products and return their codes."""
    response = await served.catalog.UpsertProducts(pb.UpsertProductsRequest(products=products))
    assert [result.id for result in response.results] == [item.id for item in products]
    return [result.status.code for result in response.results]


async def nearest(served: Served, seed: int, category: str = "Shoes") -> list[str]:
    """Search for an image, and return the ids."""
    request = search_service_pb2.SearchRequest(image=raw(noise(seed)), category=category, k=100)
    return [neighbor.product.id for neighbor in (await served.search.Search(request)).neighbors]


async def test_what_was_stored_is_read(served: Served) -> None:
    """Every fact of a product comes back as it was sent, in any script."""
    sent = product("ä/1", 1, image_uri="images/ä.jpg", attributes={"color": "vermilion", "größe": "42", "empty": ""})
    sent.title = "Schuh 靴 👟"
    assert await upsert(served, sent) == [0]
    response = await served.catalog.GetProduct(pb.GetProductRequest(id="ä/1"))
    stored = response.product
    assert (stored.id, stored.category, stored.title, stored.image_uri) == (
        "ä/1",
        "Shoes",
        "Schuh 靴 👟",
        "images/ä.jpg",
    )
    assert dict(stored.attributes) == {"color": "vermilion", "größe": "42", "empty": ""}
    assert response.image_count == 1


async def test_one_bad_item_fails_alone(served: Served) -> None:
    """In a request with broken items the good ones are stored, and each broken one names its field."""
    no_category = product("b", 2, category="")
    bad_image = product("c", 3)
    bad_image.images[0].CopyFrom(image_pb2.Image(encoded=b"not an image"))
    no_image = product("d", 4)
    no_image.ClearField("images")
    response = await served.catalog.UpsertProducts(
        pb.UpsertProductsRequest(products=[product("a", 1), no_category, bad_image, no_image, product("e", 5)])
    )
    codes = [result.status.code for result in response.results]
    assert codes == [0, *[code_pb2.INVALID_ARGUMENT] * 3, 0]
    messages = [result.status.message for result in response.results]
    assert messages[1].startswith("products[1].category:")
    assert messages[2].startswith("products[2].images[0].encoded:")
    assert messages[3].startswith("products[3].images:")
    assert sorted(await nearest(served, 1)) == ["a", "e"]


async def test_products_by_vector(served: Served) -> None:
    """A product stored by its embedding is found like one stored by its image."""
    embedded = await served.embedding.Embed(embedding_service_pb2.EmbedRequest(image=raw(noise(1))))
    item = product_pb2.ProductInput(id="v", category="Shoes", vectors=[image_pb2.Vector(values=embedded.embedding)])
    assert await upsert(served, item, product("p", 2)) == [0, 0]
    assert await nearest(served, 1) == ["v", "p"]


async def test_upsert_replaces(served: Served) -> None:
    """The same id again replaces facts, images and category; the old image is found no more."""
    await upsert(served, product("a", 1), product("b", 2))
    await upsert(served, product("a", 3, category="Shirts"))
    assert await nearest(served, 1) == ["b"]
    assert await nearest(served, 3, "Shirts") == ["a"]
    listed = await served.catalog.ListCategories(pb.ListCategoriesRequest())
    assert [(category.name, category.count) for category in listed.categories] == [("Shirts", 1), ("Shoes", 1)]


async def test_delete(served: Served) -> None:
    """A deleted product is gone at once; an unknown id is NOT_FOUND by itself."""
    await upsert(served, product("a", 1), product("b", 2))
    response = await served.catalog.DeleteProducts(pb.DeleteProductsRequest(ids=["a", "ghost"]))
    assert [result.status.code for result in response.results] == [0, code_pb2.NOT_FOUND]
    assert await nearest(served, 1) == ["b"]


async def test_pages_hold_everything_once(served: Served) -> None:
    """Pages of any size hold each product once in the order of ids, also while products come and go."""
    names = [f"{i:03}" for i in range(25)]
    await upsert(served, *(product(name, int(name)) for name in names))
    for size in (1, 7, 25, 1000):
        seen, token = [], ""
        while True:
            page = await served.catalog.ListProducts(pb.ListProductsRequest(page_size=size, page_token=token))
            assert len(page.products) <= size
            seen += [item.id for item in page.products]
            token = page.next_page_token
            if not token:
                break
        assert seen == names
    first = await served.catalog.ListProducts(pb.ListProductsRequest(page_size=10))
    await served.catalog.DeleteProducts(pb.DeleteProductsRequest(ids=["003", "009"]))
    second = await served.catalog.ListProducts(pb.ListProductsRequest(page_size=10, page_token=first.next_page_token))
    assert [item.id for item in second.products] == names[10:20]


async def test_page_size_above_the_maximum_is_coerced(served: Served) -> None:
    """A page size above 1000 is that of 1000, with a token to the rest (AIP-158)."""
    vector = image_pb2.Vector(values=[1.0] * 48)
    items = [product_pb2.ProductInput(id=f"{i:04}", category="Shoes", vectors=[vector]) for i in range(1001)]
    for chunk in (items[:1000], items[1000:]):
        assert await upsert(served, *chunk) == [0] * len(chunk)
    first = await served.catalog.ListProducts(pb.ListProductsRequest(page_size=5000))
    assert [item.id for item in first.products] == [item.id for item in items[:1000]]
    rest = pb.ListProductsRequest(page_size=5000, page_token=first.next_page_token)
    assert [item.id for item in (await served.catalog.ListProducts(rest)).products] == ["1000"]


async def test_pages_of_one_category(served: Served) -> None:
    """With a category only its products are listed, and its tokens are good for it alone."""
    await upsert(served, *(product(f"{i}", i, category="Shoes" if i % 2 else "Shirts") for i in range(8)))
    page = await served.catalog.ListProducts(pb.ListProductsRequest(category="Shoes", page_size=3))
    assert [item.id for item in page.products] == ["1", "3", "5"]
    rest = await served.catalog.ListProducts(pb.ListProductsRequest(category="Shoes", page_token=page.next_page_token))
    assert [item.id for item in rest.products] == ["7"]
    assert rest.next_page_token == ""


async def test_categories_and_their_attributes(served: Served) -> None:
    """Categories come by name with their counts and on request the values of every attribute by frequency."""
    colors = ["red", "blue", "red", "green"]
    await upsert(served, *(product(f"{i}", i, attributes={"color": color}) for i, color in enumerate(colors)))
    plain = await served.catalog.ListCategories(pb.ListCategoriesRequest())
    assert [(c.name, c.count, c.index_kind) for c in plain.categories] == [("Shoes", 4, pb.INDEX_KIND_FLAT)]
    assert not plain.categories[0].attributes
    full = await served.catalog.ListCategories(pb.ListCategoriesRequest(include_attributes=True))
    (seen,) = full.categories[0].attributes
    assert (seen.name, seen.distinct_values) == ("color", 3)
    assert [(v.value, v.count) for v in seen.top_values] == [("red", 2), ("blue", 1), ("green", 1)]


async def test_restart_gives_the_same_results(serve: Serve) -> None:
    """After a restart the same query has the same result, bit for bit, and nothing is embedded again."""
    request = search_service_pb2.SearchRequest(product_id="05", k=20)
    async with serve() as served:
        await upsert(served, *(product(f"{i:02}", i) for i in range(20)))
        await served.catalog.DeleteProducts(pb.DeleteProductsRequest(ids=["03"]))
        before = await served.search.Search(request)
    async with serve() as served:
        after = await served.search.Search(request)
        assert after.neighbors == before.neighbors
        assert served.observer.batches == []


async def test_another_model_is_rejected(serve: Serve) -> None:
    """A catalog of one model does not open under another, and the error says what to do."""
    async with serve() as served:
        await upsert(served, product("a", 1))
    with pytest.raises(Exception, match="lookalike-server reembed"):
        async with serve(model=MODELS / "tiny-euclidean"):
            pass
    async with serve() as served:
        assert await nearest(served, 1) == ["a"]


async def test_a_broken_catalog_is_rejected(serve: Serve, tmp_path: Path) -> None:
    """A file whose pages were overwritten ends the start with an error, whichever page is read first."""
    async with serve() as served:
        await upsert(served, *(product(f"p{number}", number) for number in range(200)))
    path = tmp_path / "data" / "catalog.sqlite"
    good = path.read_bytes()
    for first in range(1, len(good) // 4096, 5):
        path.write_bytes(good[: first * 4096] + bytes([7]) * (len(good) - first * 4096))
        with contextlib.suppress(LookalikeError):  # pages that a start does not read are not checked
            async with serve():
                pass
    path.write_bytes(good[:8192] + bytes([7]) * (len(good) - 8192))
    with pytest.raises(LookalikeError, match=r"cannot (use|read)"):
        async with serve():
            pass


async def test_two_servers_cannot_share_a_catalog(serve: Serve) -> None:
    """A second server on the same data folder does not start, and the first goes on."""
    async with serve() as served:
        with pytest.raises(Exception, match="another server is using"):
            async with serve():
                pass
        assert await upsert(served, product("a", 1)) == [0]


async def test_an_upsert_that_is_cancelled_before_its_items_begin(served: Served) -> None:
    """It stores nothing and leaves nothing behind: pytest would fail for a coroutine that was never awaited."""
    images = (RawImage(noise(1), None, "image"),)
    upserts = [ProductUpsert(Product(f"p{i}", "Shoes", "", "", {}), images, ()) for i in range(3)]
    call = asyncio.create_task(served.app.engine.upsert(upserts, Call(time.monotonic(), math.inf)))
    await asyncio.sleep(0)  # one turn: the items are tasks now, and none has begun
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    gc.collect()
    assert (await served.catalog.ListCategories(pb.ListCategoriesRequest())).categories == []
