"""Podman in a store of its own, the image built in it, and servers run from that."""

from __future__ import annotations

import json
import os
import re
import resource
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from support.paths import ROOT

IMAGE = "localhost/lookalike-server:image-test"
DEFAULT_BASE = re.findall(r"^ARG BASE=(\S+)$", (ROOT / "Dockerfile").read_text(encoding="utf-8"), re.MULTILINE)[0]

# What Debian's slim images leave out too; and nobody needs the base after a power cut.
_SLIM = (
    "--dpkgopt=force-unsafe-io",
    *(f"--dpkgopt=path-exclude=/usr/share/{name}/*" for name in ("doc", "man", "locale")),
)
_PULL_SECONDS = 60


@dataclass(frozen=True)
class Base:
    """A base image.

    Attributes:
        name: For `--build-arg BASE=`.
        source: Where it comes from, in words.
        build_packages: What the build installs.
    """

    name: str
    source: str
    build_packages: str = "g++ make"


class Podman:
    """Podman with a store in a folder, so that nothing of the machine's own is touched."""

    def __init__(self, folder: Path) -> None:
        """Use a folder; `close` empties it."""
        self.command = ["podman", "--root", str(folder / "store"), "--runroot", str(folder / "run")]

    def __call__(self, *arguments: str, check: bool = True, seconds: float = 1200) -> subprocess.CompletedProcess[str]:
        """Run a command of podman; what it prints is in the result."""
        done = subprocess.run([*self.command, *arguments], capture_output=True, text=True, check=False, timeout=seconds)
        if check and done.returncode:
            raise AssertionError(f"podman {' '.join(arguments)}: exit status {done.returncode}\n{done.stderr[-4000:]}")
        return done

    def popen(self, *arguments: str) -> subprocess.Popen[bytes]:
        """Start a command of podman whose output, errors included, is read while it runs."""
        return subprocess.Popen([*self.command, *arguments], stdout=subprocess.PIPE, stderr=subprocess.STDOUT)

    def choose_runtime(self, image: str) -> None:
        """Use a runtime that runs a container here: Debian 12's crun fails on some machines where runc does not."""
        failures = []
        for runtime in ("", "runc", "crun"):
            command = [*self.command, *(("--runtime", runtime) if runtime else ())]
            done = subprocess.run(
                [*command, "run", "--rm", "--network", "host", *limits(), image, "true"],
                capture_output=True,
                text=True,
                check=False,
                timeout=300,
            )
            if done.returncode == 0:
                self.command = command
                return
            failures.append(f"{runtime or 'the default runtime'}: {done.stderr.strip()}")
        raise AssertionError("no runtime runs a container here:\n" + "\n".join(failures))

    def inspect(self, name: str) -> dict[str, Any]:
        """Return what podman knows of a container or an image."""
        (found,) = json.loads(self("inspect", name).stdout)
        return dict(found)

    def close(self) -> None:
        """Remove every container, volume and image of the store."""
        self("rm", "--all", "--force", "--time", "0", check=False)
        self("volume", "prune", "--force", check=False)
        self("rmi", "--all", "--force", check=False)


def limits() -> tuple[str, ...]:
    """Return options for limits that this process may grant; podman's own may be more than that."""
    files, processes = resource.getrlimit(resource.RLIMIT_NOFILE)[1], resource.getrlimit(resource.RLIMIT_NPROC)[1]
    return (
        *("--ulimit", "nofile={0}:{0}".format(20_000 if files < 0 else min(files, 20_000))),
        *("--ulimit", "nproc={0}:{0}".format(1_000 if processes < 0 else min(processes, 1_000))),
    )


def find_base(podman: Podman, folder: Path) -> Base:
    """Return IMAGE_BASE, the Dockerfile's own base, or one of Debian's packages where no registry can be reached."""
    if chosen := os.environ.get("IMAGE_BASE"):
        podman("pull", "--quiet", chosen)
        return Base(chosen, f"{chosen}, as IMAGE_BASE says", os.environ.get("IMAGE_BUILD_PACKAGES", "g++ make"))
    try:
        podman("pull", "--quiet", f"docker.io/library/{DEFAULT_BASE}", seconds=_PULL_SECONDS)
    except (AssertionError, subprocess.TimeoutExpired):
        return _debian(podman, folder)
    return Base(f"docker.io/library/{DEFAULT_BASE}", f"{DEFAULT_BASE}, from its registry")


def _debian(podman: Podman, folder: Path) -> Base:
    if shutil.which("mmdebstrap") is None:
        raise AssertionError(f"{DEFAULT_BASE} cannot be pulled, nor made of packages: apt-get install mmdebstrap")
    tree = folder / "base.tar"
    include = "--include=python3,ca-certificates"
    made = subprocess.run(
        ["mmdebstrap", "--quiet", "--variant=minbase", include, *_SLIM, "bookworm", str(tree)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert made.returncode == 0, made.stderr
    name = "localhost/debian-python"
    podman("import", "--quiet", str(tree), name)
    tree.unlink()
    return Base(name, "Debian 12 from packages, as no registry was reached", "g++ make python3-dev python3-venv")


def build(podman: Podman, base: Base, folder: Path, secret: str) -> None:
    """Build the image, with this machine's configuration of pip in reach of the build, and a secret in that."""
    settings = _pip_settings()
    configuration = folder / "pip.conf"
    lines = [f"# {secret}", "[global]", *(f"{key} = {value}" for key, value in settings.items())]
    configuration.write_text("\n".join(lines), encoding="utf-8")
    volumes = {f"{configuration}:/etc/pip.conf:ro"}
    if certificates := settings.get("cert"):
        volumes.add(f"{certificates}:{certificates}:ro")
    podman(
        "build",
        *(("--isolation", "chroot") if os.geteuid() == 0 else ()),
        *("--network", "host", "--format", "docker", *limits()[:2], "--tag", IMAGE),
        *(option for volume in volumes for option in ("--volume", volume)),
        *("--build-arg", f"BASE={base.name}", "--build-arg", f"BUILD_PACKAGES={base.build_packages}"),
        str(ROOT),
        seconds=3000,
    )


def _pip_settings() -> dict[str, str]:
    """Return where this machine's pip finds packages and whom it trusts."""
    listed = subprocess.run(
        [ROOT / ".venv-uv/bin/python", "-m", "pip", "config", "list"], capture_output=True, text=True, check=True
    ).stdout
    found = re.findall(r"^[^=]*\.(cert|index-url|extra-index-url|trusted-host)='(.*)'$", listed, re.MULTILINE)
    # Variables come first in the list, and count more than files.
    return dict(reversed(found))
