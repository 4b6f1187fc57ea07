"""How each language's channel behaves: repeats, deadlines, proxies, windows, and servers that are not there."""

from __future__ import annotations

import json
import re
import signal
import socket
from pathlib import Path

import pytest
from grpc import StatusCode

from e2e.languages.patient_server import PatientServer
from e2e.languages.tours import CLIENTS, arguments, start, take
from lookalike_client import channel
from support.fake_rejections import Rejection
from support.fake_server import FakeServer
from support.fake_state import image_file as fake_image

WINDOW = 32
STEPS = ("GetModel", "Search", "Search", "EmbedStream", "Embed")
"""The calls of a tour, in their order."""

TRACE = re.compile(r"Traceback|goroutine|^\s+at |Exception in thread", re.MULTILINE)


@pytest.fixture
def told(fake: FakeServer, tmp_path: Path, folder: Path) -> list[str]:
    """A whole tour of the fake server."""
    fake.put("p01", "Shoes")
    (folder / "one.jpg").write_bytes(fake_image("one"))
    (tmp_path / "image.jpg").write_bytes(fake_image("p01"))
    (tmp_path / "bad.jpg").write_text("not an image")
    return arguments(fake.address, folder, tmp_path / "image.jpg", tmp_path / "bad.jpg")


@pytest.mark.parametrize("call", [0, 1, 3, 4])
def test_a_rejected_call_is_repeated_when_the_server_says(
    language: str, fake: FakeServer, told: list[str], call: int
) -> None:
    """A full server's pushback is obeyed: the repeat comes after it, unary or stream, and the tour goes on."""
    fake.rejections = [*[None] * call, Rejection(StatusCode.RESOURCE_EXHAUSTED, "full", pushback_ms=700)]
    tour = take(language, told)
    assert tour.status == 0, tour.complaint
    assert [name.removesuffix("Stream") for name, _ in fake.calls].count(STEPS[call].removesuffix("Stream")) >= 2
    assert [dict(each).get("grpc-previous-rpc-attempts") for each in fake.metadata][call + 1] == "1"
    # gRPC's own wait before a first repeat would be at most 0.24 s
    assert fake.arrivals[call + 1] - fake.arrivals[call] >= 0.69


def test_a_large_image_is_repeated_too(language: str, fake: FakeServer, told: list[str], tmp_path: Path) -> None:
    """The buffer for repeats holds an image of 3 MB."""
    (tmp_path / "image.jpg").write_bytes(fake_image("p01") + bytes(3_000_000))
    fake.rejections = [None, Rejection(StatusCode.UNAVAILABLE, "gone for a moment", pushback_ms=1)]
    tour = take(language, told)
    assert tour.status == 0, tour.complaint
    assert [name for name, _ in fake.calls].count("Search") == 3


def test_a_negative_pushback_is_not_repeated(language: str, fake: FakeServer, told: list[str]) -> None:
    """A server that asks not to come back is not asked again, and says so in the answer."""
    rejection = Rejection(StatusCode.RESOURCE_EXHAUSTED, "full for good", pushback_ms=-1, retry_after=1.5)
    fake.rejections = [rejection]
    tour = take(language, told)
    assert tour.status == 1
    assert tour.answer == {
        "health": "SERVING",
        "failed": {
            "step": "model",
            "error": {
                "code": "RESOURCE_EXHAUSTED",
                "message": "full for good",
                "violations": [],
                "retry_after_ms": 1500,
            },
        },
    }
    assert len(fake.calls) == 1


def test_no_more_than_four_tries(language: str, fake: FakeServer, told: list[str]) -> None:
    """A server that stays full is asked four times in all, and its last word is the answer."""
    fake.rejections = [Rejection(StatusCode.RESOURCE_EXHAUSTED, f"full {n}", pushback_ms=n + 1) for n in range(9)]
    tour = take(language, told)
    error = tour.answer["failed"]["error"]
    # without RetryInfo the trailer tells how long to wait
    assert (error["message"], error["retry_after_ms"]) == ("full 3", 4)
    assert len(fake.calls) == 4


def test_repeats_are_within_the_deadline(language: str, fake: FakeServer, told: list[str]) -> None:
    """A pushback beyond the deadline ends with the deadline."""
    fake.rejections = [None, *[Rejection(StatusCode.RESOURCE_EXHAUSTED, "full", pushback_ms=60_000)] * 4]
    # long enough for a runtime that is not warm yet
    tour = take(language, [*told, "--deadline", "8"])
    failed = tour.answer["failed"]
    assert (tour.status, failed["step"], failed["error"]["code"]) == (1, "search_by_image", "DEADLINE_EXCEEDED")
    assert not TRACE.search(tour.complaint)


@pytest.mark.parametrize("details", [b"\xff\xff\xff", b"\x08\x03\x12"])
def test_details_that_are_none(language: str, fake: FakeServer, told: list[str], details: bytes) -> None:
    """Details that a proxy has spoilt count as none; the code and the message stay."""
    fake.rejections = [*[None] * 4, Rejection(StatusCode.INVALID_ARGUMENT, "bad", details=details)]
    tour = take(language, told)
    assert tour.status == 0, tour.complaint
    assert tour.answer["bad_image"] == {
        "code": "INVALID_ARGUMENT",
        "message": "bad",
        "violations": [],
        "retry_after_ms": None,
    }


def test_a_proxy_in_the_environment_is_not_for_this_machine(language: str, told: list[str]) -> None:
    """A server on this machine is called without the proxy that the environment names."""
    names = ("http_proxy", "https_proxy", "grpc_proxy", "all_proxy")
    dead = dict.fromkeys([*names, *map(str.upper, names)], "http://127.0.0.1:9")
    tour = take(language, told, **dead, no_proxy="", NO_PROXY="")
    assert tour.status == 0, tour.complaint


def test_the_window(language: str, told: list[str], folder: Path) -> None:
    """A full window is sent before any answer, never one more, and answers in any order are sorted by name."""
    for number in range(100):
        (folder / f"{number}.jpg").write_bytes(fake_image(str(number)))
    with PatientServer(WINDOW) as patient:
        patient.put("p01", "Shoes")
        tour = take(language, [*told, "--server", patient.address])
    assert tour.status == 0, tour.complaint
    assert patient.most == WINDOW
    names = [*map(str, range(100)), "one"]
    assert [each["id"] for each in tour.answer["embed_stream"]] == sorted(f"{name}.jpg" for name in names)


def test_an_empty_folder_and_files_that_cannot_be_read(language: str, told: list[str], folder: Path) -> None:
    """An empty folder has no items; a file that is gone when its turn comes is an item, and the others go on."""
    (folder / "gone.jpg").symlink_to(folder / "nowhere")
    one, two = take(language, told).answer["embed_stream"]
    assert (one["id"], one["error"]["code"], one["error"]["violations"]) == ("gone.jpg", "NOT_FOUND", [])
    assert (two["id"], two["dim"]) == ("one.jpg", 8)
    for path in list(folder.iterdir()):
        path.unlink()
    assert take(language, told).answer["embed_stream"] == []


def test_a_file_too_large_for_a_message(language: str, told: list[str], folder: Path) -> None:
    """A file that no message holds is an item with that error, and the others go on."""
    with (folder / "huge.jpg").open("wb") as huge:
        huge.truncate(65 * 1024 * 1024)
    tour = take(language, told)
    assert tour.status == 0, tour.complaint
    one, two = tour.answer["embed_stream"]
    assert (one["id"], one["error"]["code"], two["id"]) == ("huge.jpg", "INVALID_ARGUMENT", "one.jpg")


def test_no_server(language: str, told: list[str]) -> None:
    """Where nobody listens the tour ends at its first step, in one line that says where it looked."""
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{nobody.getsockname()[1]}"
        tour = take(language, [*told, "--server", address])
    assert tour.status == 1
    assert list(tour.answer) == ["failed"]
    assert (tour.answer["failed"]["step"], tour.answer["failed"]["error"]["code"]) == ("health", "UNAVAILABLE")
    assert address in tour.complaint
    assert len(tour.complaint.splitlines()) == 1


def test_a_server_that_does_not_serve(language: str, fake: FakeServer, told: list[str]) -> None:
    """A server that starts or drains ends the tour before anything is asked of it."""
    fake.set_serving(serving=False)
    tour = take(language, told)
    assert (tour.status, tour.answer["failed"]["step"]) == (1, "health")
    assert tour.answer["failed"]["error"]["code"] == "UNAVAILABLE"
    assert "NOT_SERVING" in tour.complaint
    assert fake.calls == []


@pytest.mark.parametrize(
    "wrong",
    [
        ("--image", "/nowhere/image.jpg"),
        ("--folder", "/nowhere"),
        ("--k", "many"),
        ("--k", "-1"),
        ("--deadline", "0"),
        ("--deadline", "soon"),
        ("--stream-deadline", "-1"),
        ("--nonsense", "1"),
    ],
)
def test_what_it_cannot_be_told(language: str, fake: FakeServer, told: list[str], wrong: tuple[str, str]) -> None:
    """A file that is not there, or an option that is none, is one line and exit status 2, before any call."""
    tour = take(language, [*told, *wrong])
    assert (tour.status, tour.answer, fake.calls) == (2, {}, [])
    assert tour.complaint.startswith("tour: ")
    assert len(tour.complaint.splitlines()) == 1


def test_a_missing_option_and_help(language: str, told: list[str]) -> None:
    """A tour without its image says which option is missing; --help needs none."""
    tour = take(language, told[:2])
    assert tour.status == 2
    assert "image" in tour.complaint
    helped = start(language, ["--help"])
    printed, _ = helped.communicate(timeout=60)
    assert helped.returncode == 0
    assert "--stream-deadline" in printed


def test_an_option_with_an_equals_sign(language: str, fake: FakeServer, told: list[str]) -> None:
    """Options may be written --name=value too."""
    fake.put("p02", "Shoes")
    tour = take(language, [*told, "--k=1"])
    assert len(tour.answer["search_by_image"]["neighbors"]) == 1


def test_ctrl_c(language: str, told: list[str], folder: Path) -> None:
    """Ctrl-C in the middle of a stream ends the tour at once, without a trace."""
    for number in range(100):
        (folder / f"{number}.jpg").write_bytes(fake_image(str(number)))
    with PatientServer(WINDOW, hold=True) as patient:
        patient.put("p01", "Shoes")
        process = start(language, [*told, "--server", patient.address])
        assert patient.waiting.wait(60)
        process.send_signal(signal.SIGINT)
        _, complaint = process.communicate(timeout=30)
    # as a shell tells it: ended by the signal, or by itself with that status
    assert process.returncode in {-signal.SIGINT, 128 + signal.SIGINT}
    assert not TRACE.search(complaint)


@pytest.mark.parametrize("folder_name", ["go", "typescript", "java"])
def test_one_service_config(folder_name: str) -> None:
    """Every language's channel repeats what Python's does."""
    (found,) = (
        path
        for path in (CLIENTS / folder_name).rglob("service_config.json")
        if not {"node_modules", "target", "dist"} & set(path.parts)
    )
    (options,) = [value for name, value in channel.channel_options("shop") if name == "grpc.service_config"]
    assert json.loads(found.read_text(encoding="utf-8")) == json.loads(str(options))
