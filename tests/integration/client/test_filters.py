"""Filters, groups and duplicates of a search; every test runs with `Client` and with `AsyncClient`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

import pytest

from lookalike.v1 import search_service_pb2 as pb
from lookalike_client import AnyOf, Between, Client, Equals, Filter, LookalikeError, NoneOf, SearchResult
from support.catalogs import image_file, put
from support.scripted_server import ScriptedServer

Call = Callable[..., Any]


@pytest.fixture
def stocked(server: ScriptedServer, real: Client) -> ScriptedServer:
    """A server whose products differ in color, size and price."""
    put(real, "a", attributes={"color": "red", "size": "M", "price": "5"})
    put(real, "b", attributes={"color": "blue", "size": "L", "price": "12.5"})
    put(real, "c", attributes={"color": "red", "size": "S", "price": "20"})
    put(real, "d")
    return server


def ids(result: SearchResult) -> set[str]:
    """Return the ids of a result."""
    return {each.product.id for each in result.neighbors}


@pytest.mark.parametrize(
    ("filters", "found"),
    [
        ([Equals("color", "red")], {"a", "c"}),
        ([AnyOf("size", ["M", "L"])], {"a", "b"}),
        ([NoneOf("color", ("red",))], {"b", "d"}),
        ([Between("price", maximum=12.5)], {"a", "b"}),
        ([Between("price", 12.5)], {"b", "c"}),
        ([Between("price", 6, 19)], {"b"}),
        ([Equals("color", "red"), Between("price", minimum=6)], {"c"}),
    ],
)
def test_all_filters_must_hold(call: Call, stocked: ScriptedServer, filters: list[Filter], found: set[str]) -> None:
    """`search` shows the products that meet every condition, and no others."""
    assert ids(call("search", image=image_file("x"), category="Men", filters=filters)) == found


def test_filters_and_groups_are_sent_as_they_are_given(call: Call, stocked: ScriptedServer) -> None:
    """Every condition, the group and its limit arrive; a bound that is not given stays unset, and one of 0 is set."""
    call(
        "search",
        product_id="a",
        filters=(Equals("color", ""), AnyOf("size", ("M", "L")), NoneOf("brand", ["x"]), Between("price", 0.0)),
        group_by="brand",
        group_limit=2,
        collapse_duplicates=True,
    )
    (sent,) = stocked.requests("Search")
    assert sent == pb.SearchRequest(
        product_id="a",
        filters=[
            pb.Filter(attribute="color", equals=""),
            pb.Filter(attribute="size", any_of=pb.Values(values=["M", "L"])),
            pb.Filter(attribute="brand", none_of=pb.Values(values=["x"])),
            pb.Filter(attribute="price", range=pb.Range(minimum=0.0)),
        ],
        group_by="brand",
        group_limit=2,
        collapse_duplicates=True,
    )


def test_invalid_filters_are_left_to_the_server(call: Call, stocked: ScriptedServer) -> None:
    """No values, no bounds and a limit without a group reach the server, whose rejection names the field."""
    with pytest.raises(LookalikeError, match=r"filters\[0\]\.any_of\.values"):
        call("search", product_id="a", filters=[AnyOf("size", ()), Between("price")], group_limit=0)
    (sent,) = cast("list[pb.SearchRequest]", stocked.requests("Search"))
    assert [each.WhichOneof("condition") for each in sent.filters] == ["any_of", "range"]
    assert sent.HasField("group_limit")


@pytest.mark.parametrize("kind", [AnyOf, NoneOf])
def test_values_are_no_single_string(call: Call, stocked: ScriptedServer, kind: type[AnyOf] | type[NoneOf]) -> None:
    """One string would be read as its letters, so it is a TypeError, and nothing is sent."""
    with pytest.raises(TypeError, match="values of 'size' must be a sequence of values, not one string"):
        call("search", product_id="a", filters=[kind("size", "ML")])
    assert not stocked.calls


def test_what_is_not_a_filter_is_a_type_error(call: Call, stocked: ScriptedServer) -> None:
    """A pair is not a filter; the error names the types that are."""
    with pytest.raises(TypeError, match="Equals, AnyOf, NoneOf or Between, not tuple"):
        call("search", product_id="a", filters=[("color", "red")])


def test_groups_have_a_limit(call: Call, stocked: ScriptedServer) -> None:
    """One product per color by default; the product without a color is in no group."""
    query = {"image": image_file("a"), "category": "Men", "group_by": "color"}
    one = call("search", **query)
    assert ids(one) >= {"b", "d"}
    assert len(one.neighbors) == 3
    assert len(call("search", **query, group_limit=2).neighbors) == 4


def test_duplicates_are_listed_with_their_neighbor(call: Call, real: Client) -> None:
    """Products with the same image are one neighbor, with the others under it; by default, each is its own."""
    for name in ("a", "b", "c"):
        put(real, name, title=f"Shoe {name}", looks_like="shoe")
    put(real, "other")
    collapsed = call("search", image=image_file("shoe"), category="Men", collapse_duplicates=True)
    first, second = collapsed.neighbors
    assert first.product.id == "a"
    assert [(each.id, each.title) for each in first.duplicates] == [("b", "Shoe b"), ("c", "Shoe c")]
    assert second.duplicates == ()
    assert len(call("search", image=image_file("shoe"), category="Men").neighbors) == 4
