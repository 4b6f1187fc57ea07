"""`lookalike search` with --where, --group-by, --group-limit and --collapse."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import cast

import pytest
from click.testing import Result

from lookalike.v1 import search_service_pb2
from lookalike_client import Client
from lookalike_client.cli.filter_option import FORMS
from support.catalogs import image_file, put
from support.scripted_server import ScriptedServer

Lookalike = Callable[..., Result]


@pytest.mark.slow
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
def test_a_bad_expression_is_wrong_usage(lookalike: Lookalike, server: ScriptedServer, expression: str) -> None:
    """An invalid condition is rejected before any call, with the valid forms."""
    result = lookalike("search", "--id", "a", "--where", expression)
    assert result.exit_code == 2
    assert f"Invalid value for '--where': {expression!r} " in result.stderr
    assert FORMS in result.stderr
    assert not server.calls


def test_conditions_and_groups_are_sent(lookalike: Lookalike, server: ScriptedServer, real: Client) -> None:
    """Every --where arrives, in their order, with the group and its limit; without them nothing of it is sent."""
    put(real, "a")
    lookalike(
        "search", "--id", "a", "--where", "color=red|blue", "--where", "price<=20",
        "--group-by", "brand", "--group-limit", "2", "--collapse",
    )  # fmt: skip
    lookalike("search", "--id", "a")
    full, bare = cast("list[search_service_pb2.SearchRequest]", server.requests("Search"))
    assert [(each.attribute, each.WhichOneof("condition")) for each in full.filters] == [
        ("color", "any_of"),
        ("price", "range"),
    ]
    assert (full.group_by, full.group_limit, full.collapse_duplicates) == ("brand", 2, True)
    assert bare == search_service_pb2.SearchRequest(product_id="a", k=10)


def test_only_products_that_meet_the_conditions_are_shown(lookalike: Lookalike, real: Client) -> None:
    """Of three products, --where leaves the one that is red and cheap."""
    put(real, "a", attributes={"color": "red", "price": "5"})
    put(real, "b", attributes={"color": "red", "price": "50"})
    put(real, "c", attributes={"color": "blue", "price": "5"})
    put(real, "query")
    result = lookalike("--json", "search", "--id", "query", "--where", "color=red", "--where", "price<=20")
    assert [each["product"]["id"] for each in json.loads(result.stdout)["neighbors"]] == ["a"]


def test_duplicates_stand_under_their_neighbor(lookalike: Lookalike, real: Client, tmp_path: Path) -> None:
    """The table marks them with = and gives them no rank; JSON has them as products of the neighbor."""
    for name in ("a", "b"):
        put(real, name, looks_like="shoe")
    put(real, "other")
    (tmp_path / "shoe.jpg").write_bytes(image_file("shoe"))
    query = ("search", "--image", tmp_path / "shoe.jpg", "--category", "Men", "--collapse")
    _, first, duplicate, second, _ = lookalike(*query).stdout.splitlines()
    assert first.split()[:2] == ["1", "a"]
    assert duplicate.split() == ["=", "b", "title", "b", "Men"]
    assert second.split()[:2] == ["2", "other"]
    neighbors = json.loads(lookalike("--json", *query).stdout)["neighbors"]
    assert [[each["id"] for each in neighbor["duplicates"]] for neighbor in neighbors] == [["b"], []]


@pytest.mark.parametrize("limit", ["0", "1001", "many"])
def test_a_group_limit_is_a_number(lookalike: Lookalike, limit: str) -> None:
    """A limit outside 1 to 1000 is wrong usage."""
    result = lookalike("search", "--id", "a", "--group-by", "brand", "--group-limit", limit)
    assert result.exit_code == 2
    assert "--group-limit" in result.stderr
