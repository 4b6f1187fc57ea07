"""`lookalike search` with --where, --group-by, --group-limit and --collapse."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import cast

import pytest
from click.testing import Result

from lookalike.v1 import search_service_pb2
from lookalike_client import AnyOf, Between, Equals, Filter, NoneOf
from lookalike_client.cli.filter_option import FORMS, parse
from support.fake_server import FakeServer
from support.fake_state import image_file

Lookalike = Callable[..., Result]


@pytest.mark.parametrize(
    ("expression", "condition"),
    [
        ("color=red", Equals("color", "red")),
        ("color=red|blue", AnyOf("color", ("red", "blue"))),
        ("color!=red", NoneOf("color", ("red",))),
        ("color!=red|blue", NoneOf("color", ("red", "blue"))),
        ("price<=20", Between("price", maximum=20.0)),
        ("price>=5", Between("price", minimum=5.0)),
        ("price=5..20", Between("price", 5.0, 20.0)),
        ("price=-1.5..+.5e1", Between("price", -1.5, 5.0)),
        ("net price = 5 .. 20", Between("net price", 5.0, 20.0)),
        (" color =  dark red | blue ", AnyOf("color", ("dark red", "blue"))),
        ("size=5", Equals("size", "5")),
        ("ratio=16:9", Equals("ratio", "16:9")),
        ("formula=a=b", Equals("formula", "a=b")),
        ("path=a..b", Equals("path", "a..b")),
        ("note=two\nlines", Equals("note", "two\nlines")),
    ],
)
def test_an_expression_is_a_condition(expression: str, condition: Filter) -> None:
    """Each form means one kind of filter, and spaces around names, values and numbers do not count."""
    assert parse(expression) == condition


@pytest.mark.parametrize(
    "expression",
    [
        "",
        "color",
        "=red",
        "color=",
        "color!=",
        "color=red|",
        "color!=|",
        "color==red",
        "price=>5",
        "price<20",
        "price>5",
        "price<=",
        "price<=cheap",
        "price>=5|6",
        "price<=nan",
        "price>=1_000",
        "price=5..",
        "price=..20",
        "!=red",
    ],
)
def test_a_bad_expression_is_wrong_usage(lookalike: Lookalike, fake: FakeServer, expression: str) -> None:
    """What is no condition is rejected before the server is asked, with the forms that there are."""
    result = lookalike("search", "--id", "a", "--where", expression)
    assert result.exit_code == 2
    assert f"Invalid value for '--where': {expression!r} " in result.stderr
    assert FORMS in result.stderr
    assert not fake.calls


def test_conditions_and_groups_are_sent(lookalike: Lookalike, fake: FakeServer) -> None:
    """Every --where arrives, in their order, with the group and its limit; without them nothing of it is sent."""
    fake.put("a")
    lookalike(
        "search", "--id", "a", "--where", "color=red|blue", "--where", "price<=20",
        "--group-by", "brand", "--group-limit", "2", "--collapse",
    )  # fmt: skip
    lookalike("search", "--id", "a")
    full, bare = cast("list[search_service_pb2.SearchRequest]", fake.requests("Search"))
    assert [(each.attribute, each.WhichOneof("condition")) for each in full.filters] == [
        ("color", "any_of"),
        ("price", "range"),
    ]
    assert (full.group_by, full.group_limit, full.collapse_duplicates) == ("brand", 2, True)
    assert bare == search_service_pb2.SearchRequest(product_id="a", k=10)


def test_only_products_that_meet_the_conditions_are_shown(lookalike: Lookalike, fake: FakeServer) -> None:
    """Of three products, --where leaves the one that is red and cheap."""
    fake.put("a", attributes={"color": "red", "price": "5"})
    fake.put("b", attributes={"color": "red", "price": "50"})
    fake.put("c", attributes={"color": "blue", "price": "5"})
    fake.put("question")
    result = lookalike("--json", "search", "--id", "question", "--where", "color=red", "--where", "price<=20")
    assert [each["product"]["id"] for each in json.loads(result.stdout)["neighbors"]] == ["a"]


def test_duplicates_stand_under_their_neighbor(lookalike: Lookalike, fake: FakeServer, tmp_path: Path) -> None:
    """The table marks them with = and gives them no rank; JSON has them as products of the neighbor."""
    for name in ("a", "b"):
        fake.put(name, looks_like="shoe")
    fake.put("other")
    (tmp_path / "shoe.jpg").write_bytes(image_file("shoe"))
    question = ("search", "--image", tmp_path / "shoe.jpg", "--category", "Men", "--collapse")
    _, first, duplicate, second, _ = lookalike(*question).stdout.splitlines()
    assert first.split()[:2] == ["1", "a"]
    assert duplicate.split() == ["=", "b", "title", "b", "Men"]
    assert second.split()[:2] == ["2", "other"]
    neighbors = json.loads(lookalike("--json", *question).stdout)["neighbors"]
    assert [[each["id"] for each in neighbor["duplicates"]] for neighbor in neighbors] == [["b"], []]


@pytest.mark.parametrize("limit", ["0", "1001", "many"])
def test_a_group_limit_is_a_number(lookalike: Lookalike, limit: str) -> None:
    """A limit that no answer could have is wrong usage."""
    result = lookalike("search", "--id", "a", "--group-by", "brand", "--group-limit", limit)
    assert result.exit_code == 2
    assert "--group-limit" in result.stderr
