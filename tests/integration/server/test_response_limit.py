"""Responses over the message limit: pages end before it, and the rest is an error that says what to ask for."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import grpc
import numpy as np
import pytest

from lookalike.v1 import catalog_service_pb2 as pb
from lookalike.v1 import catalog_service_pb2_grpc, image_pb2, product_pb2, search_service_pb2
from lookalike_server.rpc.response_limit import MAX_PRODUCT_BYTES
from support.oip_requests import raw_files
from support.oip_requests import stub as oip_stub
from support.serving import Serve, Served, encoded, rejected, violation

LIMIT = 64 * 1024
DIM = 48  # of the tiny model
COUNT = 60


def vector(seed: int) -> image_pb2.Vector:
    """Make an embedding, another one for every seed."""
    return image_pb2.Vector(values=np.random.default_rng(seed).normal(size=DIM).astype(np.float32))


def wide(number: int, attributes: int, text: str, vectors: int = 1) -> product_pb2.ProductInput:
    """Make a product with so many attributes of this text."""
    return product_pb2.ProductInput(
        id=f"p{number:03}",
        category="Shoes",
        vectors=[vector(number)] * vectors,
        attributes={f"a{each}": text for each in range(attributes)},
    )


@pytest.fixture
async def limited(serve: Serve) -> AsyncIterator[Served]:
    """A server with a limit of 64 KiB over 60 products of 0 to 6 KB, in text of one to four bytes a character."""
    texts = ("x" * 1000, "ü" * 500, "画" * 333, "\U0001f45f" * 250, '"\n' * 500)
    async with serve() as served:
        products = [wide(number, number % 7, texts[number % len(texts)]) for number in range(COUNT)]
        response = await served.catalog.UpsertProducts(pb.UpsertProductsRequest(products=products))
        assert not any(result.status.code for result in response.results)
    async with serve(max_message_bytes=LIMIT) as served:
        yield served


async def pages(catalog: Any, size: int, category: str = "") -> list[pb.ListProductsResponse]:
    """Read all pages."""
    found: list[pb.ListProductsResponse] = []
    token = ""
    while token or not found:
        request = pb.ListProductsRequest(page_size=size, page_token=token, category=category)
        found.append(await catalog.ListProducts(request))
        token = found[-1].next_page_token
    return found


@pytest.mark.parametrize("category", ["", "Shoes"])
async def test_pages_end_before_the_limit(limited: Served, category: str) -> None:
    """Pages hold fewer products than asked for where they would be too large; none is lost, doubled or out of order."""
    found = await pages(limited.catalog, COUNT, category)
    assert [product.id for page in found for product in page.products] == [f"p{number:03}" for number in range(COUNT)]
    assert 2 <= len(found) <= 5
    assert all(page.products and page.ByteSize() <= LIMIT for page in found)


async def test_small_pages_are_as_asked(limited: Served) -> None:
    """A page that fits has as many products as were asked for."""
    assert [len(page.products) for page in await pages(limited.catalog, 4)] == [4] * (COUNT // 4)


async def test_pages_fit_into_the_default_of_clients(serve: Serve) -> None:
    """Whatever the server's limit, a page is at most 4 MiB, which is what gRPC's clients take; one product fits."""
    text = "x" * 4096
    async with serve() as served:
        for begin in range(0, 40, 20):
            products = [wide(number, 64, text) for number in range(begin, begin + 20)]
            await served.catalog.UpsertProducts(pb.UpsertProductsRequest(products=products))
        options = (("grpc.enable_http_proxy", 0),)
        async with grpc.aio.insecure_channel(f"127.0.0.1:{served.app.port}", options=options) as channel:
            found = await pages(catalog_service_pb2_grpc.CatalogServiceStub(channel), 1000)
    assert [len(page.products) for page in found] == [15, 15, 10]
    assert all(product.ByteSize() <= MAX_PRODUCT_BYTES for page in found for product in page.products)


async def test_a_search_says_what_fits(limited: Served) -> None:
    """A search whose neighbors do not fit is INVALID_ARGUMENT for k, with the largest k that fits."""
    request = search_service_pb2.SearchRequest(vector=vector(0), category="Shoes", k=COUNT)
    code, message, status = await rejected(limited.search.Search(request))
    assert code == grpc.StatusCode.INVALID_ARGUMENT
    assert violation(status) == "k"
    assert f"more than {LIMIT} bytes" in message
    assert "ask for a smaller k" in message
    request.k = int(message.split("the first ")[1].split()[0])
    response = await limited.search.Search(request)
    assert len(response.neighbors) == request.k
    assert response.ByteSize() <= LIMIT
    request.k += 1
    assert (await rejected(limited.search.Search(request)))[0] == grpc.StatusCode.INVALID_ARGUMENT


async def test_an_item_over_the_limit_fails_alone(limited: Served) -> None:
    """In SearchStream only the item whose response is too large fails; its id counts too."""
    query = search_service_pb2.SearchRequest(vector=vector(0), category="Shoes", k=3)
    large = search_service_pb2.SearchRequest(vector=vector(0), category="Shoes", k=COUNT)
    long_id = "x" * (LIMIT - 2000)
    items = [("first", query), ("large", large), (long_id, query), ("last", query)]
    requests = [search_service_pb2.SearchStreamRequest(id=item_id, search=search) for item_id, search in items]
    codes = {each.id: each.status.code async for each in limited.search.SearchStream(iter(requests))}
    assert codes == {"first": 0, "large": 3, long_id: 3, "last": 0}


async def test_attributes_of_categories(limited: Served) -> None:
    """Categories whose attributes do not fit are INVALID_ARGUMENT for include_attributes; without, they are listed."""
    for number in range(COUNT):
        attributes = {"note": f"{number} " + "x" * 2000}
        await limited.catalog.UpdateAttributes(pb.UpdateAttributesRequest(id=f"p{number:03}", attributes=attributes))
    code, message, status = await rejected(
        limited.catalog.ListCategories(pb.ListCategoriesRequest(include_attributes=True))
    )
    assert (code, violation(status)) == (grpc.StatusCode.INVALID_ARGUMENT, "include_attributes")
    assert "ask without attributes" in message
    listed = await limited.catalog.ListCategories(pb.ListCategoriesRequest())
    assert [category.name for category in listed.categories] == ["Shoes"]


async def test_what_cannot_be_cut_names_the_setting(serve: Serve) -> None:
    """One product, image or export's item over the limit is FAILED_PRECONDITION with its size and the setting."""
    rng = np.random.default_rng(0)
    image = encoded(rng.integers(0, 256, size=(200, 200, 3), dtype=np.uint8))
    async with serve() as served:
        with_image = product_pb2.ProductInput(id="p001", category="Shoes", images=[image])
        products = [wide(0, 1, "x"), with_image, wide(2, 20, "x" * 4000), wide(3, 1, "x")]
        await served.catalog.UpsertProducts(pb.UpsertProductsRequest(products=products))
    async with serve(max_message_bytes=LIMIT) as served:
        catalog = served.catalog
        for call, what in (
            (catalog.GetImage(pb.GetImageRequest(id="p001")), "the image"),
            (catalog.GetProduct(pb.GetProductRequest(id="p002")), "'p002'"),
            (catalog.ListProducts(pb.ListProductsRequest(page_size=1, page_token=await _token(catalog))), "'p002'"),
        ):
            code, message, _ = await rejected(call)
            assert code == grpc.StatusCode.FAILED_PRECONDITION
            assert what in message
            assert f"limit of {LIMIT}" in message
            assert "max_message_bytes" in message

        export = catalog.ExportProducts(pb.ExportProductsRequest())
        assert [(await export.read()).product.id for _ in range(2)] == ["p000", "p001"]
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await export.read()
        assert caught.value.code() == grpc.StatusCode.FAILED_PRECONDITION
        assert "'p002'" in (caught.value.details() or "")
        rest = [item.product.id async for item in catalog.ExportProducts(pb.ExportProductsRequest(after_id="p002"))]
        assert rest == ["p003"]


async def _token(catalog: Any) -> str:
    """Return the token of the page after p001."""
    return str((await catalog.ListProducts(pb.ListProductsRequest(page_size=2))).next_page_token)


async def test_a_long_id_of_an_inference(serve: Serve) -> None:
    """ModelInfer's response repeats the request's id, so that one of nearly the limit does not fit: no gRPC error."""
    async with serve(max_message_bytes=LIMIT) as served:
        # Embeddings that are larger than their images.
        request = raw_files([encoded(np.zeros((1, 1, 3), np.uint8)).encoded] * 20)
        request.id = "x" * (LIMIT - request.ByteSize() - 10)
        assert request.ByteSize() <= LIMIT
        code, message, _ = await rejected(oip_stub(served).ModelInfer(request))
        request.id = "x" * 1000
        assert (await oip_stub(served).ModelInfer(request)).id == request.id
    assert code == grpc.StatusCode.FAILED_PRECONDITION
    assert f"limit of {LIMIT}" in message


@pytest.mark.parametrize("text", ["x" * 3000, "画" * 1000, "x" * 500_000, "\U0001f45f" * 100_000])
async def test_errors_that_quote_fit_too(served: Served, text: str) -> None:
    """An error that quotes a long value is cut, so that it arrives with its code and details."""
    code, message, status = await rejected(served.catalog.DeleteProducts(pb.DeleteProductsRequest(ids=[text, text])))
    assert code == grpc.StatusCode.INVALID_ARGUMENT
    assert violation(status) == "ids[1]"
    assert message.startswith(f"ids[1]: '{text[:200]}")
    assert message.endswith("...")
    assert len(message.encode()) <= 1003
