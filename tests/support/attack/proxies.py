"""The proxies of deploy/, started from the shipped files with other ports, in front of a server."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import pytest

from support.paths import ROOT

_SERVER, _PROXY = "127.0.0.1:50051", "127.0.0.1:50050"
PATH = os.pathsep.join((os.environ.get("PATH", ""), "/usr/sbin"))


@contextmanager
def proxy(
    name: str, server: str, folder: Path, changes: Mapping[str, str] | None = None
) -> Iterator[tuple[str, list[int]]]:
    """Run `nginx` or `haproxy` in front of the server's address; yield the proxy's address and its processes' ids.

    `changes` are replaced in the shipped file, and must be in it; they may have the shipped addresses.
    """
    binary = shutil.which(name, path=PATH)
    if binary is None:
        pytest.skip(f"{name} is not installed: apt-get install {'nginx-light' if name == 'nginx' else name}")
    with socket.socket() as reserved:
        reserved.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{reserved.getsockname()[1]}"
    shipped = ROOT / "deploy" / name / ("nginx.conf" if name == "nginx" else "haproxy.cfg")
    text = shipped.read_text().replace("/run/nginx.pid", str(folder / "nginx.pid"))
    for old, new in {**(changes or {}), _SERVER: server, _PROXY: address}.items():
        assert old in text
        text = text.replace(old, new)
    config = folder / shipped.name
    config.write_text(text)
    arguments = ("-p", str(folder), "-c", str(config), "-g", "daemon off;") if name == "nginx" else ("-f", str(config))
    log = folder / f"{name}.log"
    with log.open("wb") as errors:
        process = subprocess.Popen((binary, *arguments), stdout=errors, stderr=errors)
    try:
        _wait_until_listening(address, process, log)
        yield address, [process.pid, *_workers(process, wanted=name == "nginx")]
    finally:
        process.terminate()
        process.wait(30)


def _workers(process: subprocess.Popen[bytes], *, wanted: bool) -> list[int]:
    """Return the ids of a process's children, once there are any; nginx listens before it starts them."""
    children: list[int] = []
    while wanted and not children and process.poll() is None:
        children = [*map(int, Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split())]
    return children


def _wait_until_listening(address: str, process: subprocess.Popen[bytes], log: Path) -> None:
    host, _, port = address.rpartition(":")
    while True:
        assert process.poll() is None, log.read_text()
        try:
            socket.create_connection((host, int(port)), 10).close()
        except OSError:  # it does not listen yet
            continue
        return
