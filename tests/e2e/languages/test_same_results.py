"""The tours of all languages against one real server: the same results, field by field."""

from __future__ import annotations

import runpy
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from e2e.languages.tours import CLIENTS, Tour, arguments, run
from lookalike_client import Client, ProductInput
from support.credentials import add_key
from support.paths import MODELS
from support.processes import server_process
from support.serving import encoded, noise

TITLES = ("Schuh „Größe 42“", "靴 🥾\u2028", 'a "quoted" <b>title</b> & \\ \t\b\x7f', "")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A real server with a catalog whose titles are hard to print."""
    data = tmp_path_factory.mktemp("data")
    with server_process(MODELS / "tiny", data, "--intra-op-threads", "1", "--max-concurrent-batches", "1") as process:
        with Client(process.address) as client:
            products = [
                ProductInput(f"p{number:02}", "Shoes", TITLES[number % 4], images=[encoded(noise(number)).encoded])
                for number in range(30)
            ]
            assert all(status.ok for status in client.upsert(products))
        yield process.address


def same(one: Any, other: Any, at: str = "") -> None:
    """Fail at the first field that differs; numbers may differ by the rounding of another batch size."""
    if isinstance(one, dict) and isinstance(other, dict):
        # in the same order, as a reader sees them
        assert list(one) == list(other), at
        for name, value in one.items():
            same(value, other[name], f"{at}.{name}")
    elif isinstance(one, list) and isinstance(other, list):
        assert len(one) == len(other), at
        for index, (first, second) in enumerate(zip(one, other, strict=True)):
            same(first, second, f"{at}[{index}]")
    elif isinstance(one, float) or isinstance(other, float):
        assert one == pytest.approx(other, abs=1e-5), at
    else:
        assert type(one) is type(other), at
        assert one == other, at


def fill(folder: Path) -> None:
    """Write more images than a window, and what else a folder may have."""
    for number in range(100):
        (folder / f"{number:03}.png").write_bytes(encoded(noise(number)).encoded)
    # in UTF-16 the second of these comes first
    (folder / "\uff5e.png").write_bytes(encoded(noise(7)).encoded)
    (folder / "🥾.png").write_bytes(encoded(noise(8)).encoded)
    (folder / "empty.png").touch()
    (folder / "notes.txt").write_text("not an image")
    (folder / "cut.png").write_bytes(encoded(noise(9)).encoded[:60])
    (folder / ".hidden.png").write_bytes(b"hidden")
    (folder / "more").mkdir()


def test_the_same_results(server: str, other: str, folder: Path, image: Path, bad_image: Path) -> None:
    """Every byte of every step is as in Python, and Python's results are what the server has."""
    fill(folder)
    args = arguments(server, folder, image, bad_image, "--k", "7")
    python, tour = run("python", args), run(other, args)
    assert (tour.status, python.status) == (0, 0), tour.stderr
    same(tour.output, python.output)
    # the embeddings of the second run are those of the first, from the server's cache
    assert tour.text == python.text
    assert '"similarity": 1,' in python.text
    assert (tour.stderr, python.stderr) == ("", "")
    neighbors = python.output["search_by_image"]["neighbors"]
    assert [neighbors[0]["id"], len(neighbors), len(python.output["search_by_id"]["neighbors"])] == ["p01", 7, 7]
    items = python.output["embed_stream"]
    assert len(items) == 105
    assert [each["id"] for each in items[-3:]] == ["notes.txt", "\uff5e.png", "🥾.png"]
    assert [each["id"] for each in items if "error" in each] == ["cut.png", "empty.png", "notes.txt"]
    assert python.output["bad_image"]["violations"][0]["field"] == "image.encoded"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("more", "step", "code"),
    [
        (("--product-id", "unknown"), "search_by_id", "NOT_FOUND"),
        (("--category", "nowhere"), "search_by_image", "NOT_FOUND"),
        (("--k", "5000"), "search_by_image", "INVALID_ARGUMENT"),
    ],
)
def test_a_rejection_ends_every_tour(
    server: str, other: str, folder: Path, image: Path, bad_image: Path, more: tuple[str, ...], step: str, code: str
) -> None:
    """A rejected call ends the tour at that step, with the server's message and exit status 1."""
    args = arguments(server, folder, image, bad_image, *more)
    python, tour = run("python", args), run(other, args)
    assert (tour.status, python.status) == (1, 1)
    same(tour.output, python.output)
    failed = tour.output["failed"]
    assert (failed["step"], failed["error"]["code"]) == (step, code)
    assert tour.stderr.startswith(f"tour: {step}: ")
    assert len(tour.stderr.splitlines()) == 1


@pytest.mark.slow
def test_a_token(tmp_path: Path, language: str, folder: Path, image: Path, bad_image: Path) -> None:
    """A token is sent with every call, from the option or from the environment; without one the tour fails."""
    tokens = tmp_path / "tokens"
    secret = add_key(tokens, "writer")

    def args(server: str, *more: str) -> list[str]:
        return arguments(server, folder, image, bad_image, *more)

    def step(tour: Tour) -> tuple[int, str]:
        return tour.status, tour.output.get("failed", {}).get("error", {}).get("code", "")

    with server_process(
        MODELS / "tiny",
        tmp_path / "data",
        "--intra-op-threads",
        "1",
        "--max-concurrent-batches",
        "1",
        "--auth-keys-file",
        str(tokens),
    ) as process:
        with Client(process.address, token=secret) as client:
            client.upsert([ProductInput("p01", "Shoes", images=[image])])
        assert step(run(language, args(process.address))) == (1, "UNAUTHENTICATED")
        assert step(run(language, args(process.address, "--token", secret))) == (0, "")
        by_environment = {"LOOKALIKE_CLIENT_TOKEN": secret}
        assert step(run(language, args(process.address), **by_environment)) == (0, "")


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.0, "0"),
        (-0.0, "0"),
        (1.0, "1"),
        (-0.25, "-0.25"),
        (100.0, "100"),
        (1e-5, "0.00001"),
        (1.5e-7, "1.5e-7"),
        (1e21, "1e+21"),
        (True, "true"),
        ([], "[]"),
    ],
)
def test_numbers_of_python(value: Any, text: str) -> None:
    """Python's tour writes numbers as JSON.stringify does, and not as `repr`."""
    to_json = runpy.run_path(str(CLIENTS / "python/examples/tour.py"))["to_json"]
    assert to_json(value) == text
