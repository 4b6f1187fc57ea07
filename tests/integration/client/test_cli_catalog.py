"""`lookalike get`, `delete`, `categories`, `model` and `wait`."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest
from click.testing import Result

from lookalike.v1 import embedding_service_pb2
from lookalike_client import Client, ProductInput
from support.catalogs import image_file, put, stored
from support.scripted_server import ScriptedServer

Lookalike = Callable[..., Result]


@pytest.fixture
def stocked(server: ScriptedServer) -> ScriptedServer:
    """A server with three products."""
    with Client(server.address) as client:
        client.upsert(
            [
                ProductInput(name, "Men", f"Product {name}", f"{name}.jpg", {"color": color}, [image_file(name)])
                for name, color in (("a", "red"), ("b", "red"), ("c", "blue"))
            ]
        )
    return server


def test_get_prints_a_product(lookalike: Lookalike, stocked: ScriptedServer) -> None:
    """Every field and attribute is shown; as JSON it is StoredProduct."""
    shown = lookalike("get", "a").stdout
    for text in ("Men", "Product a", "a.jpg", "color", "red"):
        assert text in shown
    assert json.loads(lookalike("--json", "get", "a").stdout) == {
        "product": {
            "id": "a",
            "category": "Men",
            "title": "Product a",
            "image_uri": "a.jpg",
            "attributes": {"color": "red"},
        },
        "image_count": 1,
    }


def test_titles_cannot_drive_the_terminal(lookalike: Lookalike, real: Client) -> None:
    """Control characters in a title are shown as replacement characters."""
    put(real, "a", title="evil \x1b[2J title")
    shown = lookalike("get", "a").stdout
    assert "\x1b" not in shown
    assert "evil \N{REPLACEMENT CHARACTER}[2J title" in shown


def test_delete_prints_each_outcome(lookalike: Lookalike, stocked: ScriptedServer, real: Client) -> None:
    """One unknown id makes the exit status 1, and the others are deleted all the same."""
    result = lookalike("delete", "a", "x", "b")
    assert result.exit_code == 1
    assert result.stdout == "a: deleted\nx: not deleted: NOT_FOUND: no product 'x'\nb: deleted\n"
    assert sorted(stored(real)) == ["c"]
    assert lookalike("delete", "c").exit_code == 0


def test_delete_as_json(lookalike: Lookalike, stocked: ScriptedServer) -> None:
    """`--json` prints the statuses with the codes' names."""
    result = lookalike("--json", "delete", "a", "x")
    assert [(each["id"], each["code"]) for each in json.loads(result.stdout)] == [("a", "OK"), ("x", "NOT_FOUND")]


def test_categories_with_and_without_attributes(lookalike: Lookalike, stocked: ScriptedServer) -> None:
    """Counts and index kind of each category; with --attributes the values too."""
    plain = lookalike("categories").stdout
    assert plain.splitlines()[1].split() == ["Men", "3", "flat"]
    assert "color" not in plain
    assert "red (2), blue (1)" in lookalike("categories", "--attributes").stdout
    (category,) = json.loads(lookalike("--json", "categories", "--attributes").stdout)
    assert category["attributes"][0]["top_values"][0] == {"value": "red", "count": 2}


def test_no_categories_is_one_line(lookalike: Lookalike) -> None:
    """An empty server is a line, not an empty table."""
    assert lookalike("categories").stdout == "the catalog is empty\n"


def test_model_prints_its_batch_profiles(lookalike: Lookalike, server: ScriptedServer) -> None:
    """The measured batches are listed, with how many of them run at a time."""
    profile = embedding_service_pb2.BatchProfile
    profiles = [
        profile(batch_size=1, concurrency=1, latency_ms=1.5),
        profile(batch_size=2, concurrency=2, latency_ms=2.25),
    ]
    server.respond("GetModel", embedding_service_pb2.GetModelResponse(batch_profiles=profiles))
    assert "1 in 1.5 ms, 2 in 2.2 ms (2 at a time)" in lookalike("model").stdout


def test_model_warns_of_random_weights(lookalike: Lookalike, server: ScriptedServer) -> None:
    """A model with random weights is reported on standard error; a trained one is not."""
    assert lookalike("model").stderr == ""
    server.respond("GetModel", embedding_service_pb2.GetModelResponse(weights="random(seed=7)"))
    result = lookalike("model")
    assert "random(seed=7)" in result.stdout
    assert "its results are meaningless" in result.stderr


def test_wait_returns_when_ready_and_fails_when_not(lookalike: Lookalike, server: ScriptedServer) -> None:
    """`wait` is exit status 0 when SERVING; else 1 after its timeout."""
    assert lookalike("wait").stdout == f"{server.address} is ready\n"
    server.set_serving(serving=False)
    result = lookalike("wait", "--timeout", "0.3")
    assert result.exit_code == 1
    assert "not ready within 0.3 s" in result.stderr
