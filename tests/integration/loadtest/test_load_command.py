"""`lookalike load` from the shell: what it sends, what it rejects before any load, and where it writes its reports."""

from __future__ import annotations

import json
import os
import subprocess
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import Result
from PIL import Image

from lookalike.v1 import search_service_pb2
from lookalike_client import Client, ProductInput
from support.delaying import Plan, delaying
from support.loads import COMMAND, report
from support.scripted_server import ScriptedServer
from support.serving import SIDE
from support.threaded_server import png

Lookalike = Callable[..., Result]

SHORT = ("--rate", "40", "--arrivals", "constant", "--warmup", "0", "--duration", "1")


DIM = 48  # of the tiny model
PRODUCTS = [f"p{number:02}" for number in range(12)]


def image_of(product: str) -> bytes:
    """Return the image of a product."""
    return png(PRODUCTS.index(product))


@pytest.fixture
def shop(server: ScriptedServer, real: Client) -> ScriptedServer:
    """Return the server, with products of two categories."""
    upsert(real, [ProductInput(each, category_of(each), images=[image_of(each)]) for each in PRODUCTS])
    return server


def category_of(product: str) -> str:
    """Return the category of a product."""
    return "Men" if product < "p08" else "Women"


def upsert(client: Client, products: Sequence[ProductInput]) -> None:
    """Store products, all of which must be accepted."""
    assert all(status.ok for status in client.upsert(products))


def searches(server: ScriptedServer) -> list[search_service_pb2.SearchRequest]:
    """Return the searches that arrived."""
    return server.requests("Search")


def test_a_workload_is_sent_in_its_shares(shop: ScriptedServer, lookalike: Lookalike) -> None:
    """All four kinds reach the server: vectors of its dimension, ids of its products, images of its catalog."""
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
    assert {request.product_id for request in by_id} <= set(PRODUCTS)
    others = [request for request in searches(shop) if not request.product_id]
    assert {request.category for request in others} == {"Men", "Women"}
    assert {len(request.vector.values) for request in others if request.HasField("vector")} == {DIM}


@pytest.mark.slow
def test_images_are_never_the_same(shop: ScriptedServer, lookalike: Lookalike) -> None:
    """By default no two images have the same bytes, so no cache can answer; with --allow-cache they repeat."""
    assert lookalike("load", *SHORT, "--workload", "embed").exit_code == 0
    sent = [request.image.encoded for request in shop.requests("Embed")]
    assert len(set(sent)) == len(sent) == 40
    shop.calls.clear()
    assert lookalike("load", *SHORT, "--workload", "embed", "--allow-cache").exit_code == 0
    sent = [request.image.encoded for request in shop.requests("Embed")]
    assert set(sent) <= set(map(image_of, PRODUCTS))


def test_pixels_are_of_the_models_size(shop: ScriptedServer, lookalike: Lookalike, tmp_path: Path) -> None:
    """--raw decodes the folder's images and sends pixels of the model's input size; other files are skipped by name."""
    for number in range(3):
        Image.new("RGB", (40, 50), (number * 80, 0, 0)).save(tmp_path / f"{number}.png")
    (tmp_path / "notes.txt").write_text("not an image")
    (tmp_path / ".hidden").write_text("not looked at")
    done = lookalike("load", *SHORT, "--images", tmp_path, "--raw", "--workload", "embed", "--allow-cache")
    assert done.exit_code == 0, done.output
    assert "notes.txt is skipped" in done.stderr
    assert "hidden" not in done.stderr
    images = [request.image for request in shop.requests("Embed")]
    assert {(image.rgb.width, image.rgb.height, len(image.rgb.data)) for image in images} == {
        (SIDE, SIDE, SIDE * SIDE * 3)
    }
    assert len({image.rgb.data for image in images}) == 3


def test_one_bad_file_is_skipped_by_name(shop: ScriptedServer, lookalike: Lookalike, tmp_path: Path) -> None:
    """The server embeds the files once before the load; what it rejects is skipped with a reason, the rest is sent."""
    (tmp_path / "good.jpg").write_bytes(png(1))
    (tmp_path / "bad.jpg").write_bytes(b"no image")
    done = lookalike("--json", "load", *SHORT, "--images", tmp_path, "--category", "Men")
    assert done.exit_code == 0, done.output
    assert "bad.jpg is skipped: " in done.stderr
    result = json.loads(done.stdout)
    assert result["measurement"]["failed"] == 0
    assert [each["name"] for each in result["settings"]["images"]["skipped"]] == [str(tmp_path / "bad.jpg")]
    assert {request.category for request in searches(shop)} == {"Men"}


def test_a_folder_of_bad_files_is_rejected(shop: ScriptedServer, lookalike: Lookalike, tmp_path: Path) -> None:
    """Without a file that can be sent there is no load."""
    done = lookalike("load", "--images", tmp_path)
    assert done.exit_code == 1
    assert done.stderr == f"lookalike: {tmp_path} holds no files\n"
    (tmp_path / "bad.jpg").write_bytes(b"no image")
    done = lookalike("load", "--images", tmp_path)
    assert done.exit_code == 1
    assert done.stderr.startswith(f"lookalike: none of the files in {tmp_path} can be sent (")
    assert searches(shop) == []


def test_vectors_of_another_dimension_are_rejected(shop: ScriptedServer, lookalike: Lookalike, tmp_path: Path) -> None:
    """The message has both dimensions and the model's name, and nothing is sent; vectors that fit are sent as given."""
    path = tmp_path / "v.npy"
    np.save(path, np.ones((3, 2048), dtype=np.float32))
    workload = ("--workload", "search-vector", "--vectors", path)
    done = lookalike("load", *SHORT, *workload)
    assert done.exit_code == 1
    assert "holds vectors of 2,048 dimensions, and the server's model 'tiny' has 48" in done.stderr
    assert searches(shop) == []
    np.save(path, np.full((3, DIM), 0.25, dtype=np.float32))
    assert lookalike("load", *SHORT, *workload).exit_code == 0
    assert {tuple(request.vector.values) for request in searches(shop)} == {(0.25,) * DIM}


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (np.zeros((2, DIM)), "row 0 of"),
        (np.array([[1.0] * DIM, [np.nan] * DIM]), "row 1 of"),
        (np.ones(DIM), f"has shape [{DIM}]"),
        (np.array([["a"] * DIM]), "not numeric values"),
    ],
)
def test_bad_vectors_are_rejected(
    shop: ScriptedServer, lookalike: Lookalike, tmp_path: Path, array: np.ndarray, message: str
) -> None:
    """Zeros, NaN, other types and other shapes are found before the load."""
    path = tmp_path / "v.npy"
    np.save(path, array)
    done = lookalike("load", "--workload", "search-vector", "--vectors", path)
    assert (done.exit_code, message in done.stderr) == (1, True), done.stderr


def test_an_absent_server_is_one_line(lookalike: Lookalike, server: ScriptedServer) -> None:
    """A missing server is the usual message, before any process is started."""
    server.stop()
    done = lookalike("--timeout", "2", "load", *SHORT)
    assert done.exit_code == 1
    assert done.stderr.count("\n") == 1
    assert f"no server responds at {server.address}" in done.stderr


def test_an_empty_catalog_is_rejected(server: ScriptedServer, lookalike: Lookalike, tmp_path: Path) -> None:
    """Searches need products; embedding does not, but needs images."""
    done = lookalike("load")
    assert (done.exit_code, "the server holds no products to find" in done.stderr) == (1, True)
    done = lookalike("load", "--workload", "embed")
    assert (done.exit_code, "give images to send with --images" in done.stderr) == (1, True)
    (tmp_path / "a.jpg").write_bytes(png(1))
    assert lookalike("load", *SHORT, "--workload", "embed", "--images", tmp_path).exit_code == 0


def test_an_unknown_category_is_rejected(shop: ScriptedServer, lookalike: Lookalike) -> None:
    """The message names the categories that exist."""
    done = lookalike("load", "--category", "Kids")
    assert done.exit_code == 1
    assert "has no category 'Kids' (it has Men, Women)" in done.stderr


def test_a_catalog_without_images_is_searched_by_id(server: ScriptedServer, real: Client, lookalike: Lookalike) -> None:
    """Without images and without --workload the searches are by id, and that is said."""
    upsert(real, [ProductInput(each, "Men", vectors=[np.full(DIM, 0.5, np.float32)]) for each in PRODUCTS])
    done = lookalike("load", *SHORT)
    assert done.exit_code == 0, done.output
    assert "so the searches are by id" in done.stderr
    assert {request.WhichOneof("query") for request in searches(server)} == {"product_id"}


def test_reports_are_written(shop: ScriptedServer, lookalike: Lookalike, tmp_path: Path) -> None:
    """HTML and JSON; existing files are only overwritten with --force, which is checked before the load."""
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
    assert (done.exit_code, "does not exist" in done.stderr) == (1, True)


@pytest.mark.slow
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
def test_misuse_is_explained(shop: ScriptedServer, lookalike: Lookalike, arguments: tuple[str, ...]) -> None:
    """Options that contradict each other or make no sense end with exit code 2, before any call."""
    done = lookalike("load", *arguments)
    assert done.exit_code == 2
    assert "Error: " in done.stderr
    assert shop.calls == []


@pytest.mark.slow
def test_a_goal_out_of_reach_is_reported() -> None:
    """At a server that rejects everything no rate meets the goal: the report says so, and the exit code is 1."""
    with delaying(Plan(reject_every=1)) as server:
        options = (
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
        result = report(server.address, *options, status=1)
    assert result["measurement"] is None
    assert result["capacity"]["highest_met"] is None
    assert result["summary"].startswith("No rate was found that meets")
    assert {step["met"] for step in result["capacity"]["steps"]} == {False}
    assert "RESOURCE_EXHAUSTED" in result["capacity"]["steps"][0]["reason"]


@pytest.mark.slow
def test_a_capacity_search_ends_with_its_budget(shop: ScriptedServer, lookalike: Lookalike) -> None:
    """Time is bounded: what met the goal until then is reported, and no rate is begun that needs more."""
    done = lookalike(
        "--json", "load", "--find-capacity", "--p99", "30s", "--max-failures", "100", "--rate", "500",
        "--duration", "1", "--warmup", "0", "--workload", "search-id", "--budget", "2.5",
    )  # fmt: skip
    assert done.exit_code == 0, done.output
    result = json.loads(done.stdout)
    assert result["capacity"]["highest_met"] >= 500
    assert result["capacity"]["found"] is False
    assert "are used up" in result["summary"]
    assert result["measurement"]["rate"] == result["capacity"]["highest_met"]


@pytest.mark.slow
def test_a_proxy_in_the_environment_is_for_other_machines(shop: ScriptedServer) -> None:
    """A server on this machine is loaded directly, past the proxy that the environment names."""
    nowhere = "http://127.0.0.1:1"
    environment = os.environ | {"http_proxy": nowhere, "https_proxy": nowhere, "grpc_proxy": nowhere, "no_proxy": ""}
    command = [*COMMAND, "--server", shop.address, "load", *SHORT, "--workload", "search-id"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stderr
    assert len(searches(shop)) == 40


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (("--callers", "2"), "--concurrency"),
        (("--ramp",), "--find-capacity"),
        (("--photos", "3"), "--max-images"),  # codespell:ignore
        (("--unique",), "--bust-cache"),
        (("--repeat",), "--allow-cache"),
        (("--mix", "embed"), "--workload"),
    ],
)
def test_old_options_name_the_new_ones(
    shop: ScriptedServer, lookalike: Lookalike, old: tuple[str, ...], new: str
) -> None:
    """An option of before the first release is an error that names the new one, and nothing is sent."""
    done = lookalike("load", *old)
    assert done.exit_code == 2
    assert f"The option {old[0]} has been renamed to {new}." in done.stderr
    assert shop.calls == []


def test_help_needs_no_heavy_library() -> None:
    """`lookalike --help` and `lookalike load --help` import neither matplotlib nor the histograms."""
    check = (
        "import sys\n"
        "from lookalike_client.cli import main\n"
        "main(['load', '--help'], standalone_mode=False)\n"
        "assert not {'matplotlib', 'hdrh', 'PIL'} & set(sys.modules)\n"
    )
    done = subprocess.run([COMMAND[0], "-c", check], capture_output=True, text=True, check=True, timeout=120)
    assert "--find-capacity" in done.stdout


def test_the_token_is_sent(shop: ScriptedServer, lookalike: Lookalike) -> None:
    """Every call of the load carries the token, and its user agent names the load test."""
    assert lookalike("--token", "secret", "load", *SHORT, "--workload", "search-id").exit_code == 0
    sent: list[dict[str, Any]] = [
        about for (name, _), about in zip(shop.calls, shop.metadata, strict=True) if name == "Search"
    ]
    assert len(sent) == 40
    assert {about["authorization"] for about in sent} == {"Bearer secret"}
    assert all(about["user-agent"].startswith("lookalike-load ") for about in sent)
