"""`lookalike load` from the shell: what it asks, what it rejects before any load, and where it puts its reports."""

from __future__ import annotations

import json
import os
import subprocess
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import Result
from PIL import Image

from lookalike.v1 import search_service_pb2
from support.delaying import Plan, delaying
from support.fake_server import FakeServer
from support.fake_state import DIM, image_file
from support.loads import COMMAND, report

Lookalike = Callable[..., Result]

SHORT = ("--rate", "40", "--arrivals", "constant", "--warmup", "0", "--duration", "1")


@pytest.fixture
def shop(fake: FakeServer) -> FakeServer:
    """The server, with products of two categories."""
    for number in range(12):
        fake.put(f"p{number:02}", category="Men" if number < 8 else "Women")
    return fake


def searches(fake: FakeServer) -> list[search_service_pb2.SearchRequest]:
    """The searches that arrived."""
    return [request for request in fake.requests("Search") if isinstance(request, search_service_pb2.SearchRequest)]


def test_a_mix_is_asked_in_its_shares(shop: FakeServer, lookalike: Lookalike) -> None:
    """All four kinds reach the server as they should: vectors of its dimension, ids it has, images of its catalog."""
    done = lookalike(
        "--json", "load", *SHORT, "--workload", "embed=1,search-image=2,search-vector=1,search-id=6", "-k", "3"
    )
    assert done.exit_code == 0, done.output
    result = json.loads(done.stdout)
    counts = Counter(str(request.WhichOneof("query")) for request in searches(shop))
    counts["embed"] = len(shop.requests("Embed"))
    kinds = result["measurement"]["kinds"]
    names = {"embed": "embed", "image": "search-image", "vector": "search-vector", "product_id": "search-id"}
    assert {names[query]: count for query, count in counts.items()} == {
        name: kind["answered"] for name, kind in kinds.items()
    }
    assert sum(counts.values()) == result["measurement"]["answered"] == 40
    assert counts["product_id"] > counts["image"] > 0
    assert {request.k for request in searches(shop)} == {3}
    by_id = [request for request in searches(shop) if request.product_id]
    assert {request.category for request in by_id} == {""}
    assert {request.product_id for request in by_id} <= set(shop.products)
    others = [request for request in searches(shop) if not request.product_id]
    assert {request.category for request in others} == {"Men", "Women"}
    assert {len(request.vector.values) for request in others if request.HasField("vector")} == {DIM}


def test_images_are_never_the_same(shop: FakeServer, lookalike: Lookalike) -> None:
    """By default no two images have the same bytes, so no cache can answer; with --allow-cache they come again."""
    assert lookalike("load", *SHORT, "--workload", "embed").exit_code == 0
    sent = [request.image.encoded for request in shop.requests("Embed")]  # type: ignore[attr-defined]  # Embed's
    assert len(set(sent)) == len(sent) == 40
    shop.calls.clear()
    assert lookalike("load", *SHORT, "--workload", "embed", "--allow-cache").exit_code == 0
    sent = [request.image.encoded for request in shop.requests("Embed")]  # type: ignore[attr-defined]  # Embed's
    assert set(sent) <= {image_file(name) for name in shop.products}


def test_pixels_are_of_the_models_size(shop: FakeServer, lookalike: Lookalike, tmp_path: Path) -> None:
    """--raw decodes the folder's images, and sends pixels of the model's input size; files that are none are named."""
    for number in range(3):
        Image.new("RGB", (40, 50), (number * 80, 0, 0)).save(tmp_path / f"{number}.png")
    (tmp_path / "notes.txt").write_text("not an image")
    (tmp_path / ".hidden").write_text("not looked at")
    done = lookalike("load", *SHORT, "--images", tmp_path, "--raw", "--workload", "embed", "--allow-cache")
    assert done.exit_code == 0, done.output
    assert "notes.txt is left out" in done.stderr
    assert "hidden" not in done.stderr
    images = [request.image for request in shop.requests("Embed")]  # type: ignore[attr-defined]  # Embed's
    assert {(image.rgb.width, image.rgb.height, len(image.rgb.data)) for image in images} == {(16, 12, 16 * 12 * 3)}
    assert len({image.rgb.data for image in images}) == 3


def test_one_bad_file_is_named_and_left_out(shop: FakeServer, lookalike: Lookalike, tmp_path: Path) -> None:
    """The server judges the files once before the load; what it rejects is named with its reason, the rest is sent."""
    (tmp_path / "good.jpg").write_bytes(image_file("good"))
    (tmp_path / "bad.jpg").write_bytes(b"no image")
    done = lookalike("--json", "load", *SHORT, "--images", tmp_path, "--category", "Men")
    assert done.exit_code == 0, done.output
    assert "bad.jpg is left out: image.encoded: not an image" in done.stderr
    result = json.loads(done.stdout)
    assert result["measurement"]["failed"] == 0
    assert [each["name"] for each in result["asked"]["images"]["left_out"]] == [str(tmp_path / "bad.jpg")]
    assert {request.category for request in searches(shop)} == {"Men"}


def test_a_folder_of_bad_files_is_rejected(shop: FakeServer, lookalike: Lookalike, tmp_path: Path) -> None:
    """Where no file can be sent there is no load; nor where there is no file."""
    done = lookalike("load", "--images", tmp_path)
    assert done.exit_code == 1
    assert done.stderr == f"lookalike: {tmp_path} holds no file\n"
    (tmp_path / "bad.jpg").write_bytes(b"no image")
    done = lookalike("load", "--images", tmp_path)
    assert done.exit_code == 1
    assert done.stderr.startswith(f"lookalike: none of the files in {tmp_path} can be sent (")
    assert "not an image" in done.stderr
    assert searches(shop) == []


def test_vectors_of_another_dimension_are_rejected(shop: FakeServer, lookalike: Lookalike, tmp_path: Path) -> None:
    """The message has both numbers and the model's name, and nothing is sent; vectors that fit are sent as they are."""
    path = tmp_path / "v.npy"
    np.save(path, np.ones((3, 2048), dtype=np.float32))
    mix = ("--workload", "search-vector", "--vectors", path)
    done = lookalike("load", *SHORT, *mix)
    assert done.exit_code == 1
    assert "holds vectors of 2,048 numbers, and those of the server's model 'tiny' have 8" in done.stderr
    assert searches(shop) == []
    np.save(path, np.full((3, DIM), 0.25, dtype=np.float32))
    assert lookalike("load", *SHORT, *mix).exit_code == 0
    assert {tuple(request.vector.values) for request in searches(shop)} == {(0.25,) * DIM}


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (np.zeros((2, DIM)), "row 0 of"),
        (np.array([[1.0] * DIM, [np.nan] * DIM]), "row 1 of"),
        (np.ones(DIM), "is of shape [8]"),
        (np.array([["a"] * DIM]), "not numbers"),
    ],
)
def test_vectors_that_no_server_takes_are_rejected(
    shop: FakeServer, lookalike: Lookalike, tmp_path: Path, array: np.ndarray, message: str
) -> None:
    """Zeros, numbers that are none, and other shapes are found before the load."""
    path = tmp_path / "v.npy"
    np.save(path, array)
    done = lookalike("load", "--workload", "search-vector", "--vectors", path)
    assert (done.exit_code, message in done.stderr) == (1, True), done.stderr


def test_an_absent_server_is_one_line(lookalike: Lookalike, fake: FakeServer) -> None:
    """Nobody there is the usual message, before any process is started."""
    fake.stop()
    done = lookalike("--timeout", "2", "load", *SHORT)
    assert done.exit_code == 1
    assert done.stderr.count("\n") == 1
    assert f"no server answers at {fake.address}" in done.stderr


def test_an_empty_catalog_is_said(fake: FakeServer, lookalike: Lookalike, tmp_path: Path) -> None:
    """Searches need products; embedding does not, but needs images."""
    done = lookalike("load")
    assert (done.exit_code, "the server holds no product to find" in done.stderr) == (1, True)
    done = lookalike("load", "--workload", "embed")
    assert (done.exit_code, "give images to send with --images" in done.stderr) == (1, True)
    (tmp_path / "a.jpg").write_bytes(image_file("a"))
    assert lookalike("load", *SHORT, "--workload", "embed", "--images", tmp_path).exit_code == 0


def test_an_unknown_category_is_rejected(shop: FakeServer, lookalike: Lookalike) -> None:
    """The message names those that there are."""
    done = lookalike("load", "--category", "Kids")
    assert done.exit_code == 1
    assert "has no category 'Kids' (it has Men, Women)" in done.stderr


def test_a_catalog_without_images_is_asked_by_id(shop: FakeServer, lookalike: Lookalike) -> None:
    """Without images and without --workload the products' ids are asked with, and that is said."""
    shop.images = {name: [None] for name in shop.images}
    done = lookalike("load", *SHORT)
    assert done.exit_code == 0, done.output
    assert "only their ids are asked with" in done.stderr
    assert {request.WhichOneof("query") for request in searches(shop)} == {"product_id"}


def test_reports_are_written(shop: FakeServer, lookalike: Lookalike, tmp_path: Path) -> None:
    """A page and JSON; what is there already is only overwritten with --force, which is found out before the load."""
    page, figures = tmp_path / "r.html", tmp_path / "r.json"
    out = ("--workload", "search-id", "--out", page, "--out", figures)
    done = lookalike("load", *SHORT, *out)
    assert done.exit_code == 0, done.output
    assert done.stdout.startswith("At 40 calls a second (open loop, evenly spaced) half of the 40 answers")
    assert "</html>" in page.read_text(encoding="utf-8")
    assert json.loads(figures.read_text(encoding="utf-8"))["measurement"]["answered"] == 40
    shop.calls.clear()
    done = lookalike("load", *SHORT, *out)
    assert (done.exit_code, done.stderr) == (1, f"lookalike: {page} exists; --force overwrites it\n")
    assert shop.calls == []
    assert lookalike("load", *SHORT, *out, "--force").exit_code == 0
    done = lookalike("load", *SHORT, "--out", tmp_path / "none" / "r.html")
    assert (done.exit_code, "there is no folder" in done.stderr) == (1, True)


@pytest.mark.parametrize(
    "arguments",
    [
        ("--concurrency", "2", "--rate", "5"),
        ("--find-capacity",),
        ("--p99", "50ms"),
        ("--find-capacity", "--p99", "50"),
        ("--find-capacity", "--p99", "0ms"),
        ("--workload", "search"),
        ("--workload", "embed=0"),
        ("--workload", "embed=x"),
        ("--workload", "embed=nan"),
        ("--workload", "embed,embed"),
        ("--category", "Men", "--all-categories"),
        ("--out", "report.txt"),
        ("--rate", "0"),
        ("--vectors", __file__),
        ("--workload", "search-id", "--images", "."),
    ],
)
def test_misuse_is_explained(shop: FakeServer, lookalike: Lookalike, arguments: tuple[str, ...]) -> None:
    """Options that contradict each other or make no sense end with exit code 2, before the server is asked."""
    done = lookalike("load", *arguments)
    assert done.exit_code == 2
    assert "Error: " in done.stderr
    assert shop.calls == []


def test_a_ramp_finds_its_goal_out_of_reach() -> None:
    """A server that rejects everything holds no rate: the ramp says so, with its steps, and the exit code is 1."""
    with delaying(Plan(reject_every=1)) as server:
        ramp = (
            "--find-capacity",
            "--p99",
            "5s",
            "--rate",
            "40",
            "--duration",
            "1",
            "--warmup",
            "0",
            "--workload",
            "search-id",
        )
        result = report(server.address, *ramp, status=1)
    assert result["measurement"] is None
    assert result["ramp"]["held"] is None
    assert result["verdict"].startswith("No rate was found that holds")
    assert {step["held"] for step in result["ramp"]["steps"]} == {False}
    assert "RESOURCE_EXHAUSTED" in result["ramp"]["steps"][0]["why"]


def test_a_ramp_ends_with_its_budget(shop: FakeServer, lookalike: Lookalike) -> None:
    """Time is bounded: what held until then is reported as at least that, and a rate that needs more is not begun."""
    done = lookalike(
        "--json", "load", "--find-capacity", "--p99", "30s", "--max-failures", "100", "--rate", "500", "--duration", "1",
        "--warmup", "0", "--workload", "search-id", "--budget", "2.5",
    )  # fmt: skip
    assert done.exit_code == 0, done.output
    result = json.loads(done.stdout)
    assert result["ramp"]["held"] >= 500
    assert result["ramp"]["found"] is False
    assert "are used up" in result["verdict"]
    assert result["measurement"]["rate"] == result["ramp"]["held"]


def test_a_proxy_in_the_environment_is_for_other_machines(shop: FakeServer) -> None:
    """A server on this machine is loaded without the proxy that the environment names."""
    nowhere = "http://127.0.0.1:1"
    environment = os.environ | {"http_proxy": nowhere, "https_proxy": nowhere, "grpc_proxy": nowhere, "no_proxy": ""}
    command = [*COMMAND, "--server", shop.address, "load", *SHORT, "--workload", "search-id"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stderr
    assert len(searches(shop)) == 40


@pytest.mark.parametrize("missing", ["hdrh", "matplotlib", "PIL"])
def test_the_extra_is_named_where_it_is_missing(missing: str) -> None:
    """Without its libraries the command says what to install, and the other commands work."""
    hide = f"import sys; sys.modules[{missing!r}] = None; from lookalike_client.cli import main; main()"
    done = subprocess.run([COMMAND[0], "-c", hide, "load"], capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 1
    assert done.stderr == (
        f"lookalike: load tests need {missing}, which is not installed: pip install 'lookalike-client[load]'\n"
    )
    done = subprocess.run([COMMAND[0], "-c", hide, "load", "--help"], capture_output=True, text=True, check=True)
    assert "--find-capacity" in done.stdout


def test_the_token_goes_along(shop: FakeServer, lookalike: Lookalike) -> None:
    """Every call of the load carries the token, and the command's user agent says what it is."""
    assert lookalike("--token", "secret", "load", *SHORT, "--workload", "search-id").exit_code == 0
    sent: list[dict[str, Any]] = [
        about for (name, _), about in zip(shop.calls, shop.metadata, strict=True) if name == "Search"
    ]
    assert len(sent) == 40
    assert {about["authorization"] for about in sent} == {"Bearer secret"}
    assert all(about["user-agent"].startswith("lookalike-load ") for about in sent)
