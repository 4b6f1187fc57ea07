"""A real server with a catalog, and the gallery beside it, as processes."""

from __future__ import annotations

import os
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from lookalike_client import Client
from support.processes import server_process

ROOT = Path(__file__).parents[2]
BIN = ROOT / ".venv" / "bin"
GALLERY_BIN = ROOT / ".venv-gallery" / "bin"
WEB = ROOT / "clients" / "web"
REAL = ROOT.parent / "shared" / "catalog"
TINY = ROOT / "tests" / "models" / "tiny"

SERVE = (str(BIN / "python"), "-m", "lookalike_server", "serve")


def free_port() -> int:
    """A port that was free a moment ago: the gallery and a server that comes back need one known beforehand."""
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        port: int = one.getsockname()[1]
        return port


@dataclass
class Shop:
    """A real server that can go away and come back, with its catalog, and the gallery beside it.

    Attributes:
        folder: Where the catalog's CSV and images are.
        address: The server's, HOST:PORT.
        url: The gallery's.
        client: Asks the server what the gallery should show.
    """

    folder: Path
    model: Path
    data: Path
    port: int
    url: str
    client: Client
    _running: ExitStack = field(default_factory=ExitStack)

    @property
    def address(self) -> str:
        """The server's, HOST:PORT."""
        return f"127.0.0.1:{self.port}"

    def start(self) -> None:
        """Start the server and return when it serves."""
        listen = ("--listen", self.address)
        self._running.enter_context(server_process(self.model, self.data, *listen, command=SERVE))

    def stop(self) -> None:
        """End the server at once."""
        self._running.close()

    def image(self, product_id: str) -> Path:
        """The file of a product's image."""
        return self.folder / "images" / f"{product_id}.jpg"


@contextmanager
def open_shop(folder: Path, model: Path, data: Path) -> Iterator[Shop]:
    """A server with what `folder/catalog.csv` lists, and the gallery beside it."""
    port, page = free_port(), free_port()
    with Client(f"127.0.0.1:{port}") as client:
        shop = Shop(folder, model, data, port, f"http://127.0.0.1:{page}", client)
        shop.start()
        try:
            if folder.exists():
                subprocess.run(
                    [BIN / "lookalike", "--server", shop.address, "import", folder / "catalog.csv"],
                    check=True,
                    timeout=900,
                    capture_output=True,
                )
            with gallery_process(shop.address, page):
                yield shop
        finally:
            shop.stop()


@contextmanager
def gallery_process(server: str, port: int) -> Iterator[None]:
    """The gallery as `make gallery` starts it, from when it answers until the block ends."""
    process = subprocess.Popen(
        [GALLERY_BIN / "streamlit", "run", "run.py", "--server.port", str(port)],
        cwd=WEB,
        env=os.environ | {"LOOKALIKE_CLIENT_SERVER": server},
        stdout=subprocess.DEVNULL,
    )
    try:
        until = time.monotonic() + 120
        while not _answers(f"http://127.0.0.1:{port}/_stcore/health"):
            assert process.poll() is None, "the gallery ended before it answered"
            assert time.monotonic() < until, "the gallery did not answer within two minutes"
            time.sleep(0.1)
        yield
    finally:
        process.terminate()
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=5) as answer:  # noqa: S310 - our own address
            return bool(answer.status == 200)
    except (urllib.error.URLError, OSError):
        return False
