"""`lookalike embed`, `search`, and how the command fails."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import cast

import numpy as np
import pytest
from click.testing import CliRunner, Result
from grpc import StatusCode

from lookalike.v1 import embedding_service_pb2, response_stats_pb2, search_service_pb2
from lookalike_client import Client
from lookalike_client.cli import main
from support.arrays import DIM
from support.catalogs import image_file, put
from support.scripted_server import Rejection, ScriptedServer

Lookalike = Callable[..., Result]


@pytest.fixture
def shoe(tmp_path: Path) -> Path:
    """An image on disk."""
    path = tmp_path / "shoe.jpg"
    path.write_bytes(image_file("shoe"))
    return path


def test_embed_prints_and_saves(lookalike: Lookalike, shoe: Path, tmp_path: Path) -> None:
    """`embed` prints dim and norm; `--out` saves one row per image, float32 of shape [images, dim], under that name."""
    out = tmp_path / "embeddings"
    result = lookalike("embed", shoe, shoe, "--out", out)
    assert result.exit_code == 0, result.output
    assert f"{DIM}  1.0000" in result.stdout
    saved = np.load(out)
    assert (saved.shape, saved.dtype) == ((2, DIM), np.float32)


def test_embed_as_json_has_every_value(lookalike: Lookalike, server: ScriptedServer, shoe: Path) -> None:
    """`--json` prints the values in full, with the stats."""
    stats = response_stats_pb2.ResponseStats(total_us=1500)
    server.respond("Embed", embedding_service_pb2.EmbedResponse(embedding=[0.6, 0.8], stats=stats))
    (embedded,) = json.loads(lookalike("--json", "embed", shoe).stdout)
    assert len(embedded["values"]) == 2
    assert embedded["stats"]["total_us"] == 1500
    assert np.linalg.norm(embedded["values"]) == pytest.approx(1)


def test_embed_names_the_image_that_is_rejected(lookalike: Lookalike, shoe: Path, tmp_path: Path) -> None:
    """Of several images, the message has the one that is not an image."""
    bad = tmp_path / "bad.jpg"
    bad.write_bytes(b"text")
    result = lookalike("embed", shoe, bad)
    assert result.exit_code == 1
    assert result.stderr == f"lookalike: {bad}: INVALID_ARGUMENT: is not a JPEG, PNG, WebP, AVIF, GIF or BMP image\n"


def test_search_prints_a_table_and_the_stats(lookalike: Lookalike, real: Client, shoe: Path) -> None:
    """One line per neighbor with rank, id, title, category, similarity and distance, then the stats."""
    put(real, "shoe", title="Red [bold]shoe")
    put(real, "boot")
    result = lookalike("search", "--image", shoe, "--category", "Men")
    assert result.exit_code == 0, result.output
    head, first, _, stats = result.stdout.splitlines()
    assert head.split() == ["rank", "id", "title", "category", "similarity", "distance"]
    assert first.split() == ["1", "shoe", "Red", "[bold]shoe", "Men", "1.0000", "0.0000"]
    assert re.fullmatch(r"\d+\.\d ms, batch of 1, exact", stats)


def test_search_as_json_has_the_fields_of_the_result(lookalike: Lookalike, real: Client) -> None:
    """`--json` prints SearchResult field by field, numbers not rounded."""
    put(real, "a")
    put(real, "b")
    answer = json.loads(lookalike("--json", "search", "--id", "a").stdout)
    (neighbor,) = answer["neighbors"]
    assert neighbor["product"] == {
        "id": "b",
        "category": "Men",
        "title": "title b",
        "image_uri": "",
        "attributes": {},
    }
    assert neighbor["distance"] != round(neighbor["distance"], 4)
    assert answer["stats"]["exact"] is True


def test_search_sends_its_options(lookalike: Lookalike, server: ScriptedServer, shoe: Path) -> None:
    """Every option arrives in the request."""
    lookalike(
        "search", "--image", shoe, "--category", "Men", "-k", "7",
        "--max-distance", "0.5", "--exact", "--region", "0,0.25,1,0.75",
    )  # fmt: skip
    (sent,) = cast("list[search_service_pb2.SearchRequest]", server.requests("Search"))
    assert (sent.category, sent.k, sent.max_distance, sent.exact) == ("Men", 7, 0.5, True)
    assert (sent.image.region.top, sent.image.region.right) == (0.25, 1.0)


def test_an_embedding_can_be_the_query(lookalike: Lookalike, real: Client, shoe: Path, tmp_path: Path) -> None:
    """`search --vector` accepts what `embed --out` saves of one image."""
    put(real, "shoe")
    lookalike("embed", shoe, "--out", tmp_path / "shoe.npy")
    result = lookalike("--json", "search", "--vector", tmp_path / "shoe.npy", "--all-categories")
    assert json.loads(result.stdout)["neighbors"][0]["product"]["id"] == "shoe"


def test_an_empty_result_is_one_line(lookalike: Lookalike, real: Client, shoe: Path) -> None:
    """An empty result is one line, not an empty table, and not a failure."""
    put(real, "boot")
    result = lookalike("search", "--image", shoe, "--category", "Men", "--where", "color=red")
    assert result.exit_code == 0
    assert result.stdout.startswith("no products found\n")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["search"], "exactly one of --image, --id and --vector"),
        (["search", "--id", "a", "--category", "c", "--all-categories"], "not both"),
        (["search", "--id", "a", "--region", "0,0,1,1"], "--region needs --image"),
        (["search", "--image", __file__], "Give --category NAME or --all-categories"),
        (["search", "--id", "a", "--group-limit", "2"], "--group-limit needs --group-by"),
        (["search", "--id", "a", "--where", "price=9..5"], "is an empty range: 9 is greater than 5"),
        (["search", "--id", "a", "-k", "0"], "1<=x<=1000"),
        (["search", "--image", "/nothing.jpg"], "does not exist"),
        (["search", "--image", __file__, "--region", "0,0,1"], "must be four numbers"),
        (["search", "--vector", __file__, "--all-categories"], "not a NumPy array file"),
        (["embed"], "Missing argument"),
        (["--timeout", "0", "model"], "x>0"),
    ],
)
def test_wrong_usage_is_exit_code_2(lookalike: Lookalike, arguments: list[str], message: str) -> None:
    """Contradicting options are rejected before any call."""
    result = lookalike(*arguments)
    assert result.exit_code == 2
    assert message in result.stderr


@pytest.mark.parametrize("array", [np.zeros((2, DIM)), np.array(["a"]), np.array(1.0)], ids=["two", "text", "scalar"])
def test_an_array_that_is_not_a_vector_is_wrong_usage(lookalike: Lookalike, tmp_path: Path, array: np.ndarray) -> None:
    """A file with several rows, text or a single number is rejected with the reason."""
    np.save(tmp_path / "v.npy", array)
    result = lookalike("search", "--vector", tmp_path / "v.npy", "--all-categories")
    assert result.exit_code == 2
    assert "v.npy" in result.stderr


def test_a_rejection_is_one_line(lookalike: Lookalike) -> None:
    """The server's rejection is one line on standard error, exit status 1, and nothing on standard output."""
    result = lookalike("search", "--id", "nothing")
    assert result.exit_code == 1
    assert result.stderr == "lookalike: NOT_FOUND: no product 'nothing'\n"
    assert result.stdout == ""


def test_no_server_says_what_to_do() -> None:
    """Without a server the message has the address and how to start one."""
    with ScriptedServer("127.0.0.1:1") as server:
        address = server.address
    result = CliRunner().invoke(main, ["--server", address, "model"])
    assert result.exit_code == 1
    assert f"no server responds at {address}; start one with `make run`" in result.stderr
    assert result.stderr.count("\n") == 1


def test_unavailable_from_a_server_is_its_own_message(lookalike: Lookalike, server: ScriptedServer) -> None:
    """UNAVAILABLE from a server that responded has the server's message."""
    server.rejections = [Rejection(StatusCode.UNAVAILABLE, "starting", pushback_ms=-1)]
    assert lookalike("model").stderr == "lookalike: UNAVAILABLE: starting\n"


def test_options_come_from_the_environment(server: ScriptedServer) -> None:
    """LOOKALIKE_CLIENT_SERVER and LOOKALIKE_CLIENT_TOKEN stand in for --server and --token."""
    environment = {"LOOKALIKE_CLIENT_SERVER": server.address, "LOOKALIKE_CLIENT_TOKEN": "secret"}
    result = CliRunner().invoke(main, ["--json", "model"], env=environment)
    assert json.loads(result.stdout)["name"] == "tiny"
    assert server.metadata[0]["authorization"] == "Bearer secret"
