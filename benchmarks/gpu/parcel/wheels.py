"""The wheels that a parcel has, at the versions of the server's lock file for GPUs."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

from benchmarks.environment import ROOT

RUNTIME = "onnxruntime-gpu"
"""Goes into the parcel thinned."""

_LOCK = ROOT / "server" / "requirements-gpu.lock"
_REQUIREMENT = re.compile(r"^([A-Za-z0-9._-]+)(?:\[[^\]]*\])?==([^\s;\\]+)(.*)$", re.MULTILINE)

_LEFT_OUT = re.compile(r"nvidia-|cuda-|numpy$|hnswlib$|joserfc$|cryptography$|cffi$|pycparser$|onnxruntime-gpu$")
"""What machines with CUDA and PyTorch have (numpy: 20 MB), and what the server imports where it is configured."""

_PLATFORMS = (*(f"manylinux_2_{minor}_x86_64" for minor in range(28, 16, -1)), "manylinux2014_x86_64")


def version_of(package: str) -> str:
    """Return the locked version of a package."""
    versions: dict[str, str] = {name: version for name, version, _ in _REQUIREMENT.findall(_lock())}
    return versions[package]


def carried() -> list[str]:
    """Return the requirements that a parcel has as they are, each with its version."""
    return [
        f"{name}=={version}"
        for name, version, marker in _REQUIREMENT.findall(_lock())
        if not _LEFT_OUT.match(name) and "sys_platform" not in marker and "python_full_version < '3.12'" not in marker
    ]


def download(requirements: Iterable[str], folder: Path, python: str) -> None:
    """Download wheels for x86-64 Linux and a version of Python such as 3.12."""
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps"]
    command += ["--only-binary", ":all:", "--implementation", "cp", "--python-version", python, "--dest", str(folder)]
    for platform in _PLATFORMS:
        command += ["--platform", platform]
    subprocess.run([*command, *requirements], check=True)


def _lock() -> str:
    return _LOCK.read_text(encoding="utf-8")
