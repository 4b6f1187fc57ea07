"""How each language's channel behaves: retries, deadlines, proxies, windows, and unreachable servers."""

from __future__ import annotations

import json
import re
import signal
import socket
from pathlib import Path

import pytest
from grpc import StatusCode

from e2e.languages.patient import PatientStream
from e2e.languages.tours import CLIENTS, arguments, run, start
from lookalike_client import Client, channel
from support.arrays import DIM
from support.catalogs import image_file, put
from support.scripted_server import Rejection, ScriptedServer

pytestmark = pytest.mark.slow

WINDOW = 32
STEPS = ("GetModel", "Search", "Search", "EmbedStream", "Embed")
"""The calls of a tour, in their order."""

TRACE = re.compile(r"Traceback|goroutine|^\s+at |Exception in thread", re.MULTILINE)


@pytest.fixture
def args(server: ScriptedServer, real: Client, tmp_path: Path, folder: Path) -> list[str]:
    """The arguments of a whole tour of the scripted server."""
    put(real, "p01", "Shoes")
    (folder / "one.jpg").write_bytes(image_file("one"))
    (tmp_path / "image.jpg").write_bytes(image_file("p01"))
    (tmp_path / "bad.jpg").write_text("not an image")
    return arguments(server.address, folder, tmp_path / "image.jpg", tmp_path / "bad.jpg")


@pytest.mark.parametrize("call", [0, 1, 3, 4])
def test_a_rejected_call_is_retried_when_the_server_says(
    language: str, server: ScriptedServer, args: list[str], call: int
) -> None:
    """A full server's pushback is obeyed: the retry comes after it, unary or stream, and the tour continues."""
    server.rejections = [*[None] * call, Rejection(StatusCode.RESOURCE_EXHAUSTED, "full", pushback_ms=700)]
    tour = run(language, args)
    assert tour.status == 0, tour.stderr
    assert [name.removesuffix("Stream") for name, _ in server.calls].count(STEPS[call].removesuffix("Stream")) >= 2
    assert [dict(each).get("grpc-previous-rpc-attempts") for each in server.metadata][call + 1] == "1"
    # gRPC's own backoff before a first retry would be at most 0.24 s
    assert server.arrivals[call + 1] - server.arrivals[call] >= 0.69


def test_a_large_image_is_retried_too(language: str, server: ScriptedServer, args: list[str], tmp_path: Path) -> None:
    """The retry buffer has room for an image of 3 MB."""
    (tmp_path / "image.jpg").write_bytes(image_file("p01") + bytes(3_000_000))
    server.rejections = [None, Rejection(StatusCode.UNAVAILABLE, "gone for a moment", pushback_ms=1)]
    tour = run(language, args)
    assert tour.status == 0, tour.stderr
    assert [name for name, _ in server.calls].count("Search") == 3


def test_a_negative_pushback_is_not_retried(language: str, server: ScriptedServer, args: list[str]) -> None:
    """A call that the server asks not to retry is not retried, and its error is in the output."""
    rejection = Rejection(StatusCode.RESOURCE_EXHAUSTED, "full", pushback_ms=-1, retry_after=1.5)
    server.rejections = [rejection]
    tour = run(language, args)
    assert tour.status == 1
    assert tour.output == {
        "health": "SERVING",
        "failed": {
            "step": "model",
            "error": {
                "code": "RESOURCE_EXHAUSTED",
                "message": "full",
                "violations": [],
                "retry_after_ms": 1500,
            },
        },
    }
    assert len(server.calls) == 1


def test_no_more_than_four_attempts(language: str, server: ScriptedServer, args: list[str]) -> None:
    """A server that stays full is called four times in all, and its last error is the output."""
    server.rejections = [Rejection(StatusCode.RESOURCE_EXHAUSTED, f"full {n}", pushback_ms=n + 1) for n in range(9)]
    tour = run(language, args)
    error = tour.output["failed"]["error"]
    # without RetryInfo, the trailer has the time to wait
    assert (error["message"], error["retry_after_ms"]) == ("full 3", 4)
    assert len(server.calls) == 4


def test_retries_are_within_the_deadline(language: str, server: ScriptedServer, args: list[str]) -> None:
    """A pushback beyond the deadline ends with the deadline."""
    server.rejections = [None, *[Rejection(StatusCode.RESOURCE_EXHAUSTED, "full", pushback_ms=60_000)] * 4]
    # long enough for a cold runtime
    tour = run(language, [*args, "--deadline", "8"])
    failed = tour.output["failed"]
    assert (tour.status, failed["step"], failed["error"]["code"]) == (1, "search_by_image", "DEADLINE_EXCEEDED")
    assert not TRACE.search(tour.stderr)


@pytest.mark.parametrize("details", [b"\xff\xff\xff", b"\x08\x03\x12"])
def test_invalid_details_are_ignored(language: str, server: ScriptedServer, args: list[str], details: bytes) -> None:
    """Details that a proxy has corrupted are ignored; the code and the message stay."""
    server.rejections = [*[None] * 4, Rejection(StatusCode.INVALID_ARGUMENT, "bad", details=details)]
    tour = run(language, args)
    assert tour.status == 0, tour.stderr
    assert tour.output["bad_image"] == {
        "code": "INVALID_ARGUMENT",
        "message": "bad",
        "violations": [],
        "retry_after_ms": None,
    }


def test_a_proxy_in_the_environment_is_for_other_machines(language: str, args: list[str]) -> None:
    """A server on this machine is called without the proxy that the environment names."""
    names = ("http_proxy", "https_proxy", "grpc_proxy", "all_proxy")
    dead = dict.fromkeys([*names, *map(str.upper, names)], "http://127.0.0.1:9")
    tour = run(language, args, **dead, no_proxy="", NO_PROXY="")
    assert tour.status == 0, tour.stderr


def test_the_window(language: str, server: ScriptedServer, args: list[str], folder: Path) -> None:
    """A full window is sent before any response, never one more, and results in any order are sorted by name."""
    for number in range(100):
        (folder / f"{number}.jpg").write_bytes(image_file(str(number)))
    server.handlers["EmbedStream"] = patient = PatientStream(WINDOW)
    tour = run(language, args)
    assert tour.status == 0, tour.stderr
    assert patient.most == WINDOW
    names = [*map(str, range(100)), "one"]
    assert [each["id"] for each in tour.output["embed_stream"]] == sorted(f"{name}.jpg" for name in names)


def test_an_empty_folder_and_files_that_cannot_be_read(language: str, args: list[str], folder: Path) -> None:
    """An empty folder has no items; a file that is missing when its turn comes is an item with an error."""
    (folder / "gone.jpg").symlink_to(folder / "nowhere")
    one, two = run(language, args).output["embed_stream"]
    assert (one["id"], one["error"]["code"], one["error"]["violations"]) == ("gone.jpg", "NOT_FOUND", [])
    assert (two["id"], two["dim"]) == ("one.jpg", DIM)
    for path in list(folder.iterdir()):
        path.unlink()
    assert run(language, args).output["embed_stream"] == []


def test_a_file_too_large_for_a_message(language: str, args: list[str], folder: Path) -> None:
    """A file too large for a message is an item with that error, and the others are embedded."""
    with (folder / "huge.jpg").open("wb") as huge:
        huge.truncate(65 * 1024 * 1024)
    tour = run(language, args)
    assert tour.status == 0, tour.stderr
    one, two = tour.output["embed_stream"]
    assert (one["id"], one["error"]["code"], two["id"]) == ("huge.jpg", "INVALID_ARGUMENT", "one.jpg")


def test_no_server(language: str, args: list[str]) -> None:
    """Where nothing listens the tour ends at its first step, with one line that has the address."""
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{unused.getsockname()[1]}"
        tour = run(language, [*args, "--server", address])
    assert tour.status == 1
    assert list(tour.output) == ["failed"]
    assert (tour.output["failed"]["step"], tour.output["failed"]["error"]["code"]) == ("health", "UNAVAILABLE")
    assert f"no server responds at {address} (" in tour.stderr
    assert len(tour.stderr.splitlines()) == 1


def test_a_server_that_does_not_serve(language: str, server: ScriptedServer, args: list[str]) -> None:
    """A server that starts or drains ends the tour before any other call."""
    server.set_serving(serving=False)
    tour = run(language, args)
    assert (tour.status, tour.output["failed"]["step"]) == (1, "health")
    assert tour.output["failed"]["error"]["code"] == "UNAVAILABLE"
    assert "NOT_SERVING" in tour.stderr
    assert server.calls == []


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
def test_invalid_arguments(language: str, server: ScriptedServer, args: list[str], wrong: tuple[str, str]) -> None:
    """A missing file, or an invalid option, is one line and exit status 2, before any call."""
    tour = run(language, [*args, *wrong])
    assert (tour.status, tour.output, server.calls) == (2, {}, [])
    assert tour.stderr.startswith("tour: ")
    assert len(tour.stderr.splitlines()) == 1


def test_a_missing_option_and_help(language: str, args: list[str]) -> None:
    """A tour without its image reports the missing option; --help needs none."""
    tour = run(language, args[:2])
    assert tour.status == 2
    assert "image" in tour.stderr
    process = start(language, ["--help"])
    printed, _ = process.communicate(timeout=60)
    assert process.returncode == 0
    assert "--stream-deadline" in printed


def test_an_option_with_an_equals_sign(language: str, real: Client, args: list[str]) -> None:
    """Options may be written --name=value too."""
    put(real, "p02", "Shoes")
    tour = run(language, [*args, "--k=1"])
    assert len(tour.output["search_by_image"]["neighbors"]) == 1


def test_ctrl_c(language: str, server: ScriptedServer, args: list[str], folder: Path) -> None:
    """Ctrl-C in the middle of a stream ends the tour at once, without a trace."""
    for number in range(100):
        (folder / f"{number}.jpg").write_bytes(image_file(str(number)))
    server.handlers["EmbedStream"] = patient = PatientStream(WINDOW, hold=True)
    process = start(language, args)
    assert patient.full.wait(60)
    process.send_signal(signal.SIGINT)
    _, stderr = process.communicate(timeout=30)
    # ended by the signal, or with the exit status that shells use for it
    assert process.returncode in {-signal.SIGINT, 128 + signal.SIGINT}
    assert not TRACE.search(stderr)


@pytest.mark.parametrize("folder_name", ["go", "typescript", "java"])
def test_one_service_config(folder_name: str) -> None:
    """Every language's channel has the same retry policy as Python's."""
    (found,) = (
        path
        for path in (CLIENTS / folder_name).rglob("service_config.json")
        if not {"node_modules", "target", "dist"} & set(path.parts)
    )
    (options,) = [value for name, value in channel.channel_options("shop") if name == "grpc.service_config"]
    assert json.loads(found.read_text(encoding="utf-8")) == json.loads(str(options))
