"""`lookalike embed`, `search`, and how the command fails."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import cast

import numpy as np
import pytest
from click.testing import CliRunner, Result
from grpc import StatusCode

from lookalike.v1 import search_service_pb2
from lookalike_client.cli import main
from support.fake_rejections import Rejection
from support.fake_server import FakeServer
from support.fake_state import DIM, image_file

Lookalike = Callable[..., Result]


@pytest.fixture
def shoe(tmp_path: Path) -> Path:
    """An image on disk."""
    path = tmp_path / "shoe.jpg"
    path.write_bytes(image_file("shoe"))
    return path


def test_embed_prints_and_saves(lookalike: Lookalike, shoe: Path, tmp_path: Path) -> None:
    """`embed` prints dim and norm; `--out` saves one row an image, float32 of shape [images, dim], under that name."""
    out = tmp_path / "embeddings"
    result = lookalike("embed", shoe, shoe, "--out", out)
    assert result.exit_code == 0, result.output
    assert f"{DIM}  1.0000" in result.stdout
    saved = np.load(out)
    assert (saved.shape, saved.dtype) == ((2, DIM), np.float32)


def test_embed_as_json_has_every_number(lookalike: Lookalike, shoe: Path) -> None:
    """`--json` prints the values in full, with the stats."""
    (embedded,) = json.loads(lookalike("--json", "embed", shoe).stdout)
    assert len(embedded["values"]) == DIM
    assert embedded["stats"]["total_us"] == 1500
    assert np.linalg.norm(embedded["values"]) == pytest.approx(1)


def test_embed_names_the_image_that_is_rejected(lookalike: Lookalike, shoe: Path, tmp_path: Path) -> None:
    """Of several images, the message has the one that is not an image."""
    bad = tmp_path / "bad.jpg"
    bad.write_bytes(b"text")
    result = lookalike("embed", shoe, bad)
    assert result.exit_code == 1
    assert result.stderr == f"lookalike: {bad}: INVALID_ARGUMENT: image.encoded: not an image\n"


def test_search_prints_a_table_and_the_receipt(lookalike: Lookalike, fake: FakeServer, shoe: Path) -> None:
    """One line an answer with rank, id, title, category, similarity and distance, then what it cost."""
    fake.put("shoe", title="Red [bold]shoe")
    fake.put("boot")
    result = lookalike("search", "--image", shoe, "--category", "Men")
    assert result.exit_code == 0, result.output
    head, first, _, stats = result.stdout.splitlines()
    assert head.split() == ["rank", "id", "title", "category", "similarity", "distance"]
    assert first.split() == ["1", "shoe", "Red", "[bold]shoe", "Men", "1.0000", "0.0000"]
    assert stats == "1.5 ms, batch of 1, exact"


def test_search_as_json_has_the_fields_of_the_answer(lookalike: Lookalike, fake: FakeServer) -> None:
    """`--json` prints SearchResult field by field, numbers not rounded."""
    fake.put("a")
    fake.put("b")
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


def test_search_sends_its_options(lookalike: Lookalike, fake: FakeServer, shoe: Path) -> None:
    """Every option arrives in the request."""
    lookalike(
        "search", "--image", shoe, "--category", "Men", "-k", "7",
        "--max-distance", "0.5", "--exact", "--region", "0,0.25,1,0.75",
    )  # fmt: skip
    (sent,) = cast("list[search_service_pb2.SearchRequest]", fake.requests("Search"))
    assert (sent.category, sent.k, sent.max_distance, sent.exact) == ("Men", 7, 0.5, True)
    assert (sent.image.region.top, sent.image.region.right) == (0.25, 1.0)


def test_an_embedding_can_be_asked_with(lookalike: Lookalike, fake: FakeServer, shoe: Path, tmp_path: Path) -> None:
    """What `embed --out` saves of one image, `search --vector` takes."""
    fake.put("shoe")
    lookalike("embed", shoe, "--out", tmp_path / "shoe.npy")
    result = lookalike("--json", "search", "--vector", tmp_path / "shoe.npy", "--all-categories")
    assert json.loads(result.stdout)["neighbors"][0]["product"]["id"] == "shoe"


def test_no_answer_is_said(lookalike: Lookalike, shoe: Path) -> None:
    """An empty answer is a line, not an empty table, and no failure."""
    result = lookalike("search", "--image", shoe, "--category", "Men")
    assert result.exit_code == 0
    assert result.stdout.startswith("no product\n")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["search"], "exactly one of --image, --id and --vector"),
        (["search", "--id", "a", "--category", "c", "--all-categories"], "not both"),
        (["search", "--id", "a", "--region", "0,0,1,1"], "--region needs --image"),
        (["search", "--id", "a", "-k", "0"], "1<=x<=1000"),
        (["search", "--image", "/nothing.jpg"], "does not exist"),
        (["search", "--image", __file__, "--region", "0,0,1"], "not four numbers"),
        (["search", "--vector", __file__, "--all-categories"], "not a NumPy array file"),
        (["embed"], "Missing argument"),
        (["--timeout", "0", "model"], "x>0"),
    ],
)
def test_wrong_usage_is_exit_code_2(lookalike: Lookalike, arguments: list[str], message: str) -> None:
    """What cannot be meant is rejected before the server is asked."""
    result = lookalike(*arguments)
    assert result.exit_code == 2
    assert message in result.stderr


@pytest.mark.parametrize("array", [np.zeros((2, DIM)), np.array(["a"]), np.array(1.0)], ids=["two", "text", "scalar"])
def test_an_array_that_is_no_vector_is_wrong_usage(lookalike: Lookalike, tmp_path: Path, array: np.ndarray) -> None:
    """A file with several rows, text or a single number is rejected with the reason."""
    np.save(tmp_path / "v.npy", array)
    result = lookalike("search", "--vector", tmp_path / "v.npy", "--all-categories")
    assert result.exit_code == 2
    assert "v.npy" in result.stderr


def test_a_rejection_is_one_line(lookalike: Lookalike) -> None:
    """The server's rejection is one line on standard error, exit code 1, and nothing on standard output."""
    result = lookalike("search", "--id", "nothing")
    assert result.exit_code == 1
    assert result.stderr == "lookalike: NOT_FOUND: no product 'nothing'\n"
    assert result.stdout == ""


def test_nobody_there_says_what_to_do() -> None:
    """Without a server the message has the address and how to start one."""
    with FakeServer() as server:
        address = server.address
    result = CliRunner().invoke(main, ["--server", address, "model"])
    assert result.exit_code == 1
    assert f"no server answers at {address}; start one with `make run`" in result.stderr
    assert result.stderr.count("\n") == 1


def test_a_server_that_starts_is_not_taken_for_absent(lookalike: Lookalike, fake: FakeServer) -> None:
    """UNAVAILABLE from a server that answered is its own message."""
    fake.rejections = [Rejection(StatusCode.UNAVAILABLE, "starting", pushback_ms=-1)]
    assert lookalike("model").stderr == "lookalike: UNAVAILABLE: starting\n"


def test_options_come_from_the_environment(fake: FakeServer) -> None:
    """LOOKALIKE_CLIENT_SERVER and LOOKALIKE_CLIENT_TOKEN stand in for --server and --token."""
    environment = {"LOOKALIKE_CLIENT_SERVER": fake.address, "LOOKALIKE_CLIENT_TOKEN": "secret"}
    result = CliRunner().invoke(main, ["--json", "model"], env=environment)
    assert json.loads(result.stdout)["name"] == "tiny"
    assert fake.metadata[0]["authorization"] == "Bearer secret"
