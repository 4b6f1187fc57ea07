"""The tours of all languages against one real server: the same answers, field by field."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from e2e.languages.tours import Tour, arguments, take
from lookalike_client import Client, ProductInput
from support.paths import MODELS
from support.processes import server_process
from support.serving import encoded, noise

TITLES = ("Schuh „Größe 42“", "靴 🥾", 'a "quoted" <b>title</b>', "")


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
    """Fail at the first field that differs; numbers may by what a batch of another size rounds otherwise."""
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
    """More images than a window holds, and everything a folder may hold beside them."""
    for number in range(100):
        (folder / f"{number:03}.png").write_bytes(encoded(noise(number)).encoded)
    # in UTF-16 the second of these comes first
    (folder / "\uff5e.png").write_bytes(encoded(noise(7)).encoded)
    (folder / "🥾.png").write_bytes(encoded(noise(8)).encoded)
    (folder / "empty.png").touch()
    (folder / "notes.txt").write_text("no image")
    (folder / "cut.png").write_bytes(encoded(noise(9)).encoded[:60])
    (folder / ".hidden.png").write_bytes(b"nobody asked for it")
    (folder / "more").mkdir()


def test_the_same_answers(server: str, other: str, folder: Path, image: Path, bad: Path) -> None:
    """Every field of every step is Python's, and Python's are what the server holds."""
    fill(folder)
    told = arguments(server, folder, image, bad, "--k", "7")
    python, tour = take("python", told), take(other, told)
    assert (tour.status, python.status) == (0, 0), tour.complaint
    same(tour.answer, python.answer)
    assert (tour.complaint, python.complaint) == ("", "")
    hits = python.answer["search_by_image"]["neighbors"]
    assert [hits[0]["id"], len(hits), len(python.answer["search_by_id"]["neighbors"])] == ["p01", 7, 7]
    items = python.answer["embed_stream"]
    assert len(items) == 105
    assert [each["id"] for each in items[-3:]] == ["notes.txt", "\uff5e.png", "🥾.png"]
    assert [each["id"] for each in items if "error" in each] == ["cut.png", "empty.png", "notes.txt"]
    assert python.answer["bad_image"]["violations"][0]["field"] == "image.encoded"


@pytest.mark.parametrize(
    ("more", "step", "code"),
    [
        (("--product-id", "nobody"), "search_by_id", "NOT_FOUND"),
        (("--category", "nowhere"), "search_by_image", "NOT_FOUND"),
        (("--k", "5000"), "search_by_image", "INVALID_ARGUMENT"),
    ],
)
def test_a_rejection_ends_every_tour_alike(
    server: str, other: str, folder: Path, image: Path, bad: Path, more: tuple[str, ...], step: str, code: str
) -> None:
    """What the server rejects ends the tour at that step, with the server's own words and exit status 1."""
    told = arguments(server, folder, image, bad, *more)
    python, tour = take("python", told), take(other, told)
    assert (tour.status, python.status) == (1, 1)
    same(tour.answer, python.answer)
    failed = tour.answer["failed"]
    assert (failed["step"], failed["error"]["code"]) == (step, code)
    assert tour.complaint.startswith(f"tour: {step}: ")
    assert len(tour.complaint.splitlines()) == 1


def test_a_token(tmp_path: Path, language: str, folder: Path, image: Path, bad: Path) -> None:
    """A token goes with every call, from the option or from the environment; without one the tour ends."""
    tokens = tmp_path / "tokens"
    tokens.write_text("writer secret-of-the-shop-1\n")

    def told(server: str, *more: str) -> list[str]:
        return arguments(server, folder, image, bad, *more)

    def step(tour: Tour) -> tuple[int, str]:
        return tour.status, tour.answer.get("failed", {}).get("error", {}).get("code", "")

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
        with Client(process.address, token="secret-of-the-shop-1") as client:
            client.upsert([ProductInput("p01", "Shoes", images=[image])])
        assert step(take(language, told(process.address))) == (1, "UNAUTHENTICATED")
        assert step(take(language, told(process.address, "--token", "secret-of-the-shop-1"))) == (0, "")
        by_environment = {"LOOKALIKE_CLIENT_TOKEN": "secret-of-the-shop-1"}
        assert step(take(language, told(process.address), **by_environment)) == (0, "")
