"""Invalid requests over real gRPC: the code, the field, and valid items that are still stored."""

from __future__ import annotations

import math
from typing import Any

import grpc
import pytest
from google.rpc import error_details_pb2

from lookalike.v1 import catalog_service_pb2, image_pb2, product_pb2
from lookalike.v1 import search_service_pb2 as search_pb
from support.serving import Served, noise, product, raw, rejected, violation

INVALID = grpc.StatusCode.INVALID_ARGUMENT


BAD_VECTORS = {
    "too short": [1.0] * 47,
    "too long": [1.0] * 49,
    "empty": [],
    "NaN": [math.nan] + [1.0] * 47,
    "infinite": [math.inf] + [1.0] * 47,
    "zero": [0.0] * 48,
}


@pytest.mark.parametrize("name", BAD_VECTORS)
async def test_bad_vector(served: Served, name: str) -> None:
    """A vector of the wrong length, with NaN or infinity, or all zeros, is INVALID_ARGUMENT."""
    vector = image_pb2.Vector(values=BAD_VECTORS[name])
    code, _, status = await rejected(served.search.Search(search_pb.SearchRequest(vector=vector, category="Shoes")))
    assert (code, violation(status)) == (INVALID, "vector.values")
    item = product_pb2.ProductInput(id="bad", category="Shoes", vectors=[vector])
    response = await served.catalog.UpsertProducts(
        catalog_service_pb2.UpsertProductsRequest(products=[item, product("good", 1)])
    )
    assert [result.status.code for result in response.results] == [INVALID.value[0], 0]
    assert response.results[0].status.message.startswith("products[0].vectors[0].values: ")


def search_request(**fields: object) -> search_pb.SearchRequest:
    """Make a query that is valid except for these fields."""
    good: dict[str, object] = {"vector": image_pb2.Vector(values=[1.0] * 48), "category": "Shoes"}
    return search_pb.SearchRequest(**(good | fields))  # type: ignore[arg-type]


BAD_QUERIES = {
    "k is 0": (search_request(k=0), "k"),
    "k is 1001": (search_request(k=1001), "k"),
    "negative distance": (search_request(max_distance=-0.1), "max_distance"),
    "distance is NaN": (search_request(max_distance=math.nan), "max_distance"),
    "no query": (search_pb.SearchRequest(category="Shoes"), "query"),
    "no category": (search_request(category=""), "category"),
    "category and all": (search_request(all_categories=True), "all_categories"),
    "empty product id": (search_pb.SearchRequest(product_id=""), "product_id"),
    "control character": (search_request(category="Shoes\n"), "category"),
    "long category": (search_request(category="x" * 257), "category"),
}


@pytest.mark.parametrize("name", BAD_QUERIES)
async def test_bad_query(served: Served, name: str) -> None:
    """A query with an invalid field is INVALID_ARGUMENT naming it."""
    request, field = BAD_QUERIES[name]
    code, _, status = await rejected(served.search.Search(request))
    assert (code, violation(status)) == (INVALID, field)


async def test_unknown_category_and_product(served: Served) -> None:
    """What does not exist is NOT_FOUND with its kind and name, and an image is not embedded for it."""
    await served.catalog.UpsertProducts(catalog_service_pb2.UpsertProductsRequest(products=[product("a", 1)]))
    runs = len(served.observer.batches)
    unknown = (
        (served.search.Search(search_pb.SearchRequest(product_id="ghost")), "product", "ghost"),
        (served.search.Search(search_request(category="Hats")), "category", "Hats"),
        (
            served.search.Search(search_pb.SearchRequest(image=raw(noise(1)), category="Hats")),
            "category",
            "Hats",
        ),
        (served.search.Search(search_pb.SearchRequest(product_id="a", category="Hats")), "category", "Hats"),
        (
            served.catalog.GetProduct(catalog_service_pb2.GetProductRequest(id="ghost")),
            "product",
            "ghost",
        ),
        (
            served.catalog.ListProducts(catalog_service_pb2.ListProductsRequest(category="Hats")),
            "category",
            "Hats",
        ),
    )
    for call, kind, name in unknown:
        code, _, status = await rejected(call)
        assert code == grpc.StatusCode.NOT_FOUND
        resource = error_details_pb2.ResourceInfo()
        assert any(detail.Unpack(resource) for detail in status.details)
        assert (resource.resource_type, resource.resource_name) == (kind, name)
    assert len(served.observer.batches) == runs


def many(count: int) -> list[product_pb2.ProductInput]:
    """Make products that need no model."""
    return [
        product_pb2.ProductInput(id=f"{i}", category="c", vectors=[image_pb2.Vector(values=[1.0] * 48)])
        for i in range(count)
    ]


BAD_CATALOG_REQUESTS = {
    "no products": ("UpsertProducts", catalog_service_pb2.UpsertProductsRequest(), "products"),
    "too many": ("UpsertProducts", catalog_service_pb2.UpsertProductsRequest(products=many(1001)), "products"),
    "twice": (
        "UpsertProducts",
        catalog_service_pb2.UpsertProductsRequest(products=many(2) + many(1)),
        "products[2].id",
    ),
    "no ids": ("DeleteProducts", catalog_service_pb2.DeleteProductsRequest(), "ids"),
    "id twice": ("DeleteProducts", catalog_service_pb2.DeleteProductsRequest(ids=["a", "a"]), "ids[1]"),
    "empty id": ("GetProduct", catalog_service_pb2.GetProductRequest(), "id"),
    "odd token": ("ListProducts", catalog_service_pb2.ListProductsRequest(page_token="?!"), "page_token"),
    "token of another": (
        "ListProducts",
        catalog_service_pb2.ListProductsRequest(page_token="U2hvZXMKYQ=="),
        "page_token",
    ),
}


@pytest.mark.parametrize("name", BAD_CATALOG_REQUESTS)
async def test_bad_catalog_request(served: Served, name: str) -> None:
    """An invalid catalog request is INVALID_ARGUMENT naming the field."""
    method, request, field = BAD_CATALOG_REQUESTS[name]
    code, _, status = await rejected(getattr(served.catalog, method)(request))
    assert (code, violation(status)) == (INVALID, field)


BAD_ITEMS = {
    "no id": (product("", 1), "id"),
    "long id": (product("x" * 257, 1), "id"),
    "newline in id": (product("a\nb", 1), "id"),
    "no category": (product("a", 1, category=""), "category"),
    "long title": (product_pb2.ProductInput(id="a", category="c", title="t" * 4097, images=[raw(noise(1))]), "title"),
    "many attributes": (product("a", 1, attributes={str(i): "x" for i in range(65)}), "attributes"),
    "empty attribute name": (product("a", 1, attributes={"": "x"}), "attributes"),
    "nine images": (product_pb2.ProductInput(id="a", category="c", images=[raw(noise(1))] * 9), "images"),
    "images and vectors": (
        product_pb2.ProductInput(
            id="a", category="c", images=[raw(noise(1))], vectors=[image_pb2.Vector(values=[1.0] * 48)]
        ),
        "images",
    ),
}


@pytest.mark.parametrize("name", BAD_ITEMS)
async def test_bad_item(served: Served, name: str) -> None:
    """A product that cannot be stored has a status naming its field, and its neighbors are stored."""
    item, field = BAD_ITEMS[name]
    response = await served.catalog.UpsertProducts(
        catalog_service_pb2.UpsertProductsRequest(products=[item, product("good", 2)])
    )
    bad, good = response.results
    assert (bad.status.code, good.status.code) == (INVALID.value[0], 0)
    assert bad.status.message.startswith(f"products[0].{field}: ")
    assert bad.id == item.id


async def test_bytes_that_are_no_message(served: Served) -> None:
    """A request that does not parse is INVALID_ARGUMENT, not a fault of the server."""
    for method in ("EmbeddingService/Embed", "SearchService/Search", "CatalogService/UpsertProducts"):
        call: Any = served.channel.unary_unary(f"/lookalike.v1.{method}")
        code, _, status = await rejected(call(b"\xff\xff\xff"))
        assert (code, violation(status)) == (INVALID, "request")
