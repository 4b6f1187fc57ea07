"""The tours of all languages: how each is built and started, and what it printed."""

from __future__ import annotations

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
        command: What starts its tour, once built.
        needs: Programs that build and run it; without them it is skipped.
        get: How to get these.
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
    """Why a language cannot be tried here, and how to change that; empty where it can."""
    absent = [program for program in LANGUAGES[language].needs if shutil.which(program) is None]
    return f"no {' and no '.join(absent)} here: {LANGUAGES[language].get}" if absent else ""


@cache
def build(language: str) -> None:
    """Build a tour with its make target, as its user would; once."""
    if LANGUAGES[language].needs:
        # not what `make test` was started with: this make is one of its own
        own = {name: value for name, value in os.environ.items() if name not in {"MAKEFLAGS", "MFLAGS", "MAKELEVEL"}}
        done = subprocess.run(
            ["make", f"client-{language}"], cwd=ROOT, env=own, capture_output=True, text=True, timeout=900, check=False
        )
        assert done.returncode == 0, f"make client-{language}:\n{done.stdout}\n{done.stderr}"


@dataclass(frozen=True)
class Tour:
    """One tour that was taken: its exit status, what it printed, and what it complained of."""

    status: int
    answer: dict[str, Any]
    complaint: str


def arguments(server: str, folder: Path, image: Path, bad: Path, *more: str) -> list[str]:
    """What a whole tour needs to be told."""
    return [
        *("--server", server, "--image", str(image), "--category", "Shoes", "--product-id", "p01"),
        *("--folder", str(folder), "--bad-image", str(bad), *more),
    ]


def take(language: str, told: list[str], **environment: str) -> Tour:
    """Take a tour to its end."""
    build(language)
    done = subprocess.run(
        [*LANGUAGES[language].command, *told],
        env=os.environ | {"LC_ALL": "C.UTF-8"} | environment,
        capture_output=True,
        text=True,
        encoding="utf-8",
        timeout=120,
        check=False,
    )
    return Tour(done.returncode, json.loads(done.stdout) if done.stdout else {}, done.stderr)


def start(language: str, told: list[str]) -> subprocess.Popen[str]:
    """Set out on a tour."""
    build(language)
    return subprocess.Popen(
        [*LANGUAGES[language].command, *told], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
