"""The tours of all languages: how to build and run each, and its output."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from support.paths import ROOT

CLIENTS = ROOT / "clients"


@dataclass(frozen=True)
class Language:
    """A language with a tour.

    Attributes:
        command: Runs its tour, once built.
        needs: Programs that build and run it; its tests are skipped without them.
        get: How to get them.
    """

    command: tuple[str | Path, ...]
    needs: tuple[str, ...] = ()
    get: str = ""


LANGUAGES = {
    "python": Language((sys.executable, CLIENTS / "python/examples/tour.py")),
    "go": Language((CLIENTS / "go/bin/tour",), ("go",), "install Go 1.26 or newer"),
    "typescript": Language(
        ("node", CLIENTS / "typescript/dist/tour.js"), ("node", "npm"), "install Node.js 20 or newer with npm 11"
    ),
    "java": Language(
        ("java", "-jar", CLIENTS / "java/target/tour.jar"), ("java", "mvn"), "install a JDK 17 or newer and Maven 3.8"
    ),
}


def missing(language: str) -> str:
    """Return why a language cannot be tested here, and what to install; empty where it can."""
    absent = [program for program in LANGUAGES[language].needs if shutil.which(program) is None]
    return f"no {' and no '.join(absent)} here: {LANGUAGES[language].get}" if absent else ""


@cache
def build(language: str) -> None:
    """Build a tour with its make target, as its user would; once."""
    if LANGUAGES[language].needs:
        # not what `make test` was started with: this make is one of its own
        own = {name: value for name, value in os.environ.items() if name not in {"MAKEFLAGS", "MFLAGS", "MAKELEVEL"}}
        with (ROOT / "Makefile").open() as file:
            fcntl.flock(file, fcntl.LOCK_EX)  # another worker of pytest-xdist may be building too
            done = subprocess.run(
                ["make", f"client-{language}"],
                cwd=ROOT,
                env=own,
                capture_output=True,
                text=True,
                timeout=900,
                check=False,
            )
        assert done.returncode == 0, f"make client-{language}:\n{done.stdout}\n{done.stderr}"


@dataclass(frozen=True)
class Tour:
    """A tour's exit status, its JSON output, its standard error, and the text of the output."""

    status: int
    output: dict[str, Any]
    stderr: str
    text: str


def arguments(server: str, folder: Path, image: Path, bad_image: Path, *more: str) -> list[str]:
    """Return the arguments of a whole tour."""
    return [
        *("--server", server, "--image", str(image), "--category", "Shoes", "--product-id", "p01"),
        *("--folder", str(folder), "--bad-image", str(bad_image), *more),
    ]


def run(language: str, args: list[str], **environment: str) -> Tour:
    """Run a tour to its end."""
    build(language)
    done = subprocess.run(
        [*LANGUAGES[language].command, *args],
        env=os.environ | {"LC_ALL": "C.UTF-8"} | environment,
        capture_output=True,
        text=True,
        encoding="utf-8",
        timeout=120,
        check=False,
    )
    return Tour(done.returncode, json.loads(done.stdout) if done.stdout else {}, done.stderr, done.stdout)


def start(language: str, args: list[str]) -> subprocess.Popen[str]:
    """Start a tour."""
    build(language)
    return subprocess.Popen(
        [*LANGUAGES[language].command, *args], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
