"""Filters, groups and collapsed duplicates over real gRPC; k products still come back."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

import grpc
import pytest

from lookalike.v1 import catalog_service_pb2, product_pb2
from lookalike.v1 import search_service_pb2 as pb
from support.serving import Served, noise, product, raw, rejected, violation


async def fill(served: Served) -> None:
    """Thirty shoes: five brands, three colors, prices 0 to 29, the last ten with the images of the first ten."""
    products = [
        product(
            f"p{i:02}",
            i % 20,
            attributes={"brand": f"brand {i % 5}", "color": ("red", "blue", "green")[i % 3], "price": str(i)},
        )
        for i in range(30)
    ]
    response = await served.catalog.UpsertProducts(catalog_service_pb2.UpsertProductsRequest(products=products))
    assert [result.status.code for result in response.results] == [0] * 30


async def search(served: Served, **fields: object) -> list[pb.Neighbor]:
    """Search for the first image."""
    request = pb.SearchRequest(image=raw(noise(0)), category="Shoes", **fields)  # type: ignore[arg-type]
    return list((await served.search.Search(request)).neighbors)


def where(attribute: str, **condition: object) -> pb.Filter:
    """Make a filter."""
    return pb.Filter(attribute=attribute, **condition)  # type: ignore[arg-type]


Meets = Callable[[Mapping[str, str]], bool]

FILTERS: dict[str, tuple[list[pb.Filter], Meets]] = {
    "equals": ([where("color", equals="red")], lambda p: p["color"] == "red"),
    "any_of": ([where("color", any_of=pb.Values(values=["red", "blue"]))], lambda p: p["color"] != "green"),
    "none_of": ([where("color", none_of=pb.Values(values=["red", "blue"]))], lambda p: p["color"] == "green"),
    "range": ([where("price", range=pb.Range(minimum=10, maximum=20))], lambda p: 10 <= int(p["price"]) <= 20),
    "open range": ([where("price", range=pb.Range(maximum=4))], lambda p: int(p["price"]) <= 4),
    "all of them": (
        [where("color", equals="red"), where("price", range=pb.Range(minimum=10))],
        lambda p: p["color"] == "red" and int(p["price"]) >= 10,
    ),
}


@pytest.mark.parametrize("name", FILTERS)
async def test_filters(served: Served, name: str) -> None:
    """The result is the unfiltered one without the products that fail a condition."""
    await fill(served)
    filters, meets = FILTERS[name]
    everything = [each.product for each in await search(served, k=100)]
    found = await search(served, k=100, filters=filters)
    assert [each.product.id for each in found] == [each.id for each in everything if meets(each.attributes)]
    assert 0 < len(found) < 30
    few = await search(served, k=3, filters=filters)
    assert [each.product.id for each in few] == [each.product.id for each in found[:3]]


async def test_groups_fill_k(served: Served) -> None:
    """With at most two of a brand there are ten of thirty, and they are the nearest of each brand."""
    await fill(served)
    everything = [each.product for each in await search(served, k=100)]
    for limit in (None, 2):
        neighbors = await search(served, k=12, group_by="brand", **({} if limit is None else {"group_limit": limit}))
        expected: list[product_pb2.Product] = []
        for each in everything:
            if sum(other.attributes["brand"] == each.attributes["brand"] for other in expected) < (limit or 1):
                expected.append(each)
        assert [each.product.id for each in neighbors] == [each.id for each in expected]
        assert len(neighbors) == 5 * (limit or 1)


async def test_duplicates_fill_k(served: Served) -> None:
    """Thirty products with twenty images are twenty neighbors, and the ten others are listed as their duplicates."""
    await fill(served)
    neighbors = await search(served, k=20, collapse_duplicates=True)
    assert len(neighbors) == 20
    duplicates = {each.product.id: [other.id for other in each.duplicates] for each in neighbors}
    assert duplicates == {f"p{i:02}": [f"p{i + 20:02}"] if i < 10 else [] for i in range(20)}
    (first,) = await search(served, k=1, collapse_duplicates=True)
    assert (first.product.id, [other.id for other in first.duplicates]) == ("p00", ["p20"])


async def test_a_product_is_not_its_own_duplicate(served: Served) -> None:
    """A query by product id finds another product with the same image first, and not the product itself."""
    await fill(served)
    request = pb.SearchRequest(product_id="p00", k=3, collapse_duplicates=True)
    first, *_ = (await served.search.Search(request)).neighbors
    assert first.product.id == "p20"
    assert first.distance == pytest.approx(0.0, abs=1e-6)
    assert not first.duplicates


async def test_everything_together_in_all_categories(served: Served) -> None:
    """Filter, groups, duplicates and a limit of distance hold at once, across categories."""
    await fill(served)
    item = product("hat", 3, "Hats", attributes={"brand": "brand 3", "color": "red"})
    await served.catalog.UpsertProducts(catalog_service_pb2.UpsertProductsRequest(products=[item]))
    request = pb.SearchRequest(
        image=raw(noise(3)),
        all_categories=True,
        k=5,
        filters=[where("color", any_of=pb.Values(values=["red", "green"]))],
        group_by="brand",
        collapse_duplicates=True,
        max_distance=0.9,
    )
    neighbors = (await served.search.Search(request)).neighbors
    assert (neighbors[0].product.id, [other.id for other in neighbors[0].duplicates]) == ("hat", ["p03", "p23"])
    assert len({each.product.attributes["brand"] for each in neighbors}) == len(neighbors)
    assert all(each.product.attributes["color"] != "blue" for each in neighbors)


async def test_streams_take_filters(served: Served) -> None:
    """SearchStream takes the same queries."""
    await fill(served)
    query = pb.SearchRequest(product_id="p00", k=30, filters=[where("color", equals="red")])
    stream = served.search.SearchStream(iter([pb.SearchStreamRequest(id="q", search=query)]))
    (response,) = [each async for each in stream]
    assert {each.product.attributes["color"] for each in response.response.neighbors} == {"red"}
    assert len(response.response.neighbors) == 9


BAD = {
    "filter without attribute": ({"filters": [pb.Filter(equals="x")]}, "filters[0].attribute"),
    "filter without condition": ({"filters": [where("a", equals="b"), pb.Filter(attribute="x")]}, "filters[1]"),
    "no values": ({"filters": [where("x", any_of=pb.Values())]}, "filters[0].any_of.values"),
    "range without bounds": ({"filters": [where("x", range=pb.Range())]}, "filters[0].range"),
    "range upside down": ({"filters": [where("x", range=pb.Range(minimum=2, maximum=1))]}, "filters[0].range"),
    "range of NaN": ({"filters": [where("x", range=pb.Range(minimum=math.nan))]}, "filters[0].range"),
    "65 filters": ({"filters": [where("x", equals="y")] * 65}, "filters"),
    "group_limit alone": ({"group_limit": 2}, "group_limit"),
    "group_limit of 0": ({"group_by": "brand", "group_limit": 0}, "group_limit"),
    "group_by with a control character": ({"group_by": "a\nb"}, "group_by"),
}


@pytest.mark.parametrize("name", BAD)
async def test_bad_options(served: Served, name: str) -> None:
    """An invalid filter or group is INVALID_ARGUMENT naming the field."""
    fields, field = BAD[name]
    request = pb.SearchRequest(product_id="a", **fields)  # type: ignore[arg-type]
    code, _, status = await rejected(served.search.Search(request))
    assert (code, violation(status)) == (grpc.StatusCode.INVALID_ARGUMENT, field)


async def test_changed_attributes_are_seen_by_the_next_search(served: Served) -> None:
    """Stock and prices change without the image, and the next search sees the new values."""
    await fill(served)
    runs = len(served.observer.batches)
    response = await served.catalog.UpdateAttributes(
        catalog_service_pb2.UpdateAttributesRequest(id="p05", attributes={"color": "gold", "stock": "3"})
    )
    assert isinstance(response.product, product_pb2.Product)
    assert dict(response.product.attributes) == {"brand": "brand 0", "color": "gold", "price": "5", "stock": "3"}
    found = (
        await served.search.Search(pb.SearchRequest(product_id="p00", k=30, filters=[where("color", equals="gold")]))
    ).neighbors
    assert [each.product.id for each in found] == ["p05"]
    assert found[0].product.attributes["stock"] == "3"
    assert len(served.observer.batches) == runs
