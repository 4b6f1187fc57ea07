"""The peers' environments: made on demand beside the others, from lock files with hashes."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

from benchmarks.environment import ROOT
from benchmarks.processes import StartError

_OLDEST = (3, 11)  # what the lock files are made for
_BUILD_SECONDS = 1200
_CHECK = "import sys, ensurepip; print(sys.base_prefix, *sys.version_info[:2])"


def python_of(peer: str, *, distribution: bool = False) -> Path:
    """Return the interpreter of a peer's environment, made first where it is missing or older than its lock file.

    Args:
        peer: A folder beside this file, with a requirements.lock.
        distribution: Whether it must be the operating system's own Python: Triton's Python backend brings a library of
            its own and needs a standard library that fits it, which one built elsewhere may not have.

    Raises:
        StartError: There is no such Python, or the packages cannot be installed.
    """
    lock = Path(__file__).parent / peer / "requirements.lock"
    return made_from(lock, peer, distribution=distribution)


def made_from(lock: Path, name: str, *, build: Path | None = None, distribution: bool = False) -> Path:
    """Return the interpreter of `.venv-bench-NAME`, made first where it is missing or older than its lock files.

    Args:
        lock: The lock file of its packages.
        name: Its name.
        build: A lock file of what source distributions are built with; they are not built otherwise.
        distribution: As for `python_of`.

    Raises:
        StartError: There is no such Python, or the packages cannot be installed.
    """
    environment = ROOT / f".venv-bench-{name}"
    ready = environment / "ready"
    locks = [lock] if build is None else [build, lock]
    digest = hashlib.sha256(b"".join(each.read_bytes() for each in locks)).hexdigest()
    python = environment / "bin" / "python"
    if not (ready.is_file() and ready.read_text(encoding="utf-8") == digest):
        shutil.rmtree(environment, ignore_errors=True)
        base = _distribution_python() if distribution else sys.executable
        _do([base, "-m", "venv", str(environment)])
        install = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--require-hashes"]
        for each in locks:
            _do([*install, *(["--no-build-isolation"] if build else []), "-r", str(each)])
        ready.write_text(digest, encoding="utf-8")
    return python


def _distribution_python() -> str:
    for folder in os.get_exec_path():
        for path in sorted(Path(folder).glob("python3*")):
            if not re.fullmatch(r"python3(\.\d+)?", path.name):
                continue
            done = subprocess.run([str(path), "-c", _CHECK], capture_output=True, text=True, check=False)
            prefix, _, version = done.stdout.strip().partition(" ")
            if done.returncode == 0 and prefix == "/usr" and tuple(map(int, version.split())) >= _OLDEST:
                return str(path)
    raise StartError(f"needs the operating system's Python {'.'.join(map(str, _OLDEST))} or newer, with venv")


def _do(command: list[str]) -> None:
    try:
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=_BUILD_SECONDS, check=False)
    except subprocess.TimeoutExpired:
        raise StartError(f"its environment was not made within {_BUILD_SECONDS} s") from None
    if done.returncode:
        raise StartError(f"its environment cannot be made: {done.stderr.strip()[-500:]}")
