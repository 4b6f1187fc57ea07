"""A real server with a catalog, and a gallery that shows it, as processes."""

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
from support.paths import MODELS, ROOT, SHARED
from support.processes import server_process

BIN = ROOT / ".venv" / "bin"
GALLERY_BIN = ROOT / ".venv-gallery" / "bin"
WEB = ROOT / "clients" / "web"
REAL = SHARED / "catalog"
TINY = MODELS / "tiny"

SERVE = (str(BIN / "python"), "-m", "lookalike_server", "serve")


def free_port() -> int:
    """Return a free port: the gallery, and a server that restarts, need one that is known beforehand."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port: int = sock.getsockname()[1]
        return port


@dataclass
class Shop:
    """A server that can stop and start again, its catalog, and the gallery that shows it.

    Attributes:
        folder: The folder of the catalog's CSV and images.
        model: The server's model folder.
        data: The server's data folder.
        port: The server's port.
        url: The gallery's URL.
        client: Returns what the gallery should show.
        color: The name of the catalog's color attribute.
    """

    folder: Path
    model: Path
    data: Path
    port: int
    url: str
    client: Client
    color: str = "color"
    _running: ExitStack = field(default_factory=ExitStack)

    @property
    def address(self) -> str:
        """The server's HOST:PORT."""
        return f"127.0.0.1:{self.port}"

    def start(self) -> None:
        """Start the server, and return when it serves."""
        listen = ("--listen", self.address)
        self._running.enter_context(server_process(self.model, self.data, *listen, command=SERVE))

    def stop(self) -> None:
        """Kill the server."""
        self._running.close()

    def image(self, product_id: str) -> Path:
        """Return the file of a product's image."""
        return self.folder / "images" / f"{product_id}.jpg"


@contextmanager
def open_shop(folder: Path, model: Path, data: Path, color: str = "color") -> Iterator[Shop]:
    """Run a server with the products of `folder/catalog.csv`, and a gallery that shows it."""
    port, gallery_port = free_port(), free_port()
    with Client(f"127.0.0.1:{port}") as client:
        shop = Shop(folder, model, data, port, f"http://127.0.0.1:{gallery_port}", client, color)
        shop.start()
        try:
            if folder.exists():
                subprocess.run(
                    [BIN / "lookalike", "--server", shop.address, "import", folder / "catalog.csv"],
                    check=True,
                    timeout=900,
                    capture_output=True,
                )
            with gallery_process(shop.address, gallery_port):
                yield shop
        finally:
            shop.stop()


@contextmanager
def gallery_process(server: str, port: int) -> Iterator[None]:
    """Run the gallery as `make gallery` does, and wait until it responds."""
    process = subprocess.Popen(
        [GALLERY_BIN / "streamlit", "run", "run.py", "--server.port", str(port)],
        cwd=WEB,
        env=os.environ | {"LOOKALIKE_CLIENT_SERVER": server},
        stdout=subprocess.DEVNULL,
    )
    try:
        deadline = time.monotonic() + 120
        while not _responds(f"http://127.0.0.1:{port}/_stcore/health"):
            assert process.poll() is None, "the gallery exited before it responded"
            assert time.monotonic() < deadline, "the gallery did not respond within two minutes"
            time.sleep(0.1)
        yield
    finally:
        process.terminate()
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _responds(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=5) as response:  # noqa: S310 - our own address
            return bool(response.status == 200)
    except (urllib.error.URLError, OSError):
        return False
