"""Filters, groups and duplicates of a search; every test runs with `Client` and with `AsyncClient`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

import pytest

from lookalike.v1 import search_service_pb2 as pb
from lookalike_client import AnyOf, Between, Equals, Filter, NoneOf, SearchResult
from support.fake_server import FakeServer
from support.fake_state import image_file

Ask = Callable[..., Any]


@pytest.fixture
def stocked(fake: FakeServer) -> FakeServer:
    """A server whose products differ in color, size and price."""
    fake.put("a", attributes={"color": "red", "size": "M", "price": "5"})
    fake.put("b", attributes={"color": "blue", "size": "L", "price": "12.5"})
    fake.put("c", attributes={"color": "red", "size": "S", "price": "20"})
    fake.put("d")
    return fake


def ids(answer: SearchResult) -> set[str]:
    """The products of an answer."""
    return {each.product.id for each in answer.neighbors}


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
def test_all_filters_must_hold(ask: Ask, stocked: FakeServer, filters: list[Filter], found: set[str]) -> None:
    """`search` shows the products that meet every condition, and no others."""
    assert ids(ask("search", image=image_file("x"), category="Men", filters=filters)) == found


def test_filters_and_groups_are_sent_as_they_are_given(ask: Ask, stocked: FakeServer) -> None:
    """Every condition, the group and its limit arrive; a bound that is not given stays unset, and one of 0 is set."""
    ask(
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


def test_what_cannot_be_right_is_left_to_the_server(ask: Ask, stocked: FakeServer) -> None:
    """No values, no bounds and a limit without a group reach the server, whose rejection names the field."""
    ask("search", product_id="a", filters=[AnyOf("size", ()), Between("price")], group_limit=0)
    (sent,) = cast("list[pb.SearchRequest]", stocked.requests("Search"))
    assert [each.WhichOneof("condition") for each in sent.filters] == ["any_of", "range"]
    assert sent.HasField("group_limit")


@pytest.mark.parametrize("kind", [AnyOf, NoneOf])
def test_values_are_no_single_string(ask: Ask, stocked: FakeServer, kind: type[AnyOf] | type[NoneOf]) -> None:
    """One string would be read as its letters, so it is a TypeError, and nothing is sent."""
    with pytest.raises(TypeError, match="values of 'size' must be a sequence of values, not one string"):
        ask("search", product_id="a", filters=[kind("size", "ML")])
    assert not stocked.calls


def test_what_is_no_filter_is_a_type_error(ask: Ask, stocked: FakeServer) -> None:
    """A pair is no condition; the error names those that are."""
    with pytest.raises(TypeError, match="Equals, AnyOf, NoneOf or Between, not tuple"):
        ask("search", product_id="a", filters=[("color", "red")])


def test_groups_have_as_many_products_as_asked(ask: Ask, stocked: FakeServer) -> None:
    """One product a color unless more are asked for; the product without a color is in no group."""
    question = {"image": image_file("a"), "category": "Men", "group_by": "color"}
    one = ask("search", **question)
    assert ids(one) >= {"b", "d"}
    assert len(one.neighbors) == 3
    assert len(ask("search", **question, group_limit=2).neighbors) == 4


def test_duplicates_are_listed_with_their_neighbor(ask: Ask, fake: FakeServer) -> None:
    """Products with the same image are one neighbor, whole products under it; unasked, each is its own."""
    for name in ("a", "b", "c"):
        fake.put(name, title=f"Shoe {name}", looks_like="shoe")
    fake.put("other")
    collapsed = ask("search", image=image_file("shoe"), category="Men", collapse_duplicates=True)
    first, second = collapsed.neighbors
    assert first.product.id == "a"
    assert [(each.id, each.title) for each in first.duplicates] == [("b", "Shoe b"), ("c", "Shoe c")]
    assert second.duplicates == ()
    assert len(ask("search", image=image_file("shoe"), category="Men").neighbors) == 4
