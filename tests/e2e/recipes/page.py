"""A recipe's page as a script: its own commands, with other places, other weights and a few more queries."""

from __future__ import annotations

import json
import os
import re
import shlex
import signal
import socket
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from support.paths import ROOT

_LIMIT = 400  # seconds, so that what hangs fails

# The server need not measure what pays on this machine for a few images.
_UNMEASURED = {
    "LOOKALIKE_MAX_BATCH_SIZE": "8",
    "LOOKALIKE_MAX_CONCURRENT_BATCHES": "1",
    "LOOKALIKE_PREFERRED_BATCH_SIZE": "8",
}

# What a block of the page is recognized by.
_ASKS, _STOPS = "lookalike search ", "kill "


@dataclass(frozen=True)
class Question:
    """An image, and the category it is asked in."""

    image: Path
    category: str


@dataclass(frozen=True)
class Outcome:
    """What the page's commands printed, and the answers to the queries that were put besides, as JSON."""

    printed: str
    answers: Sequence[dict[str, Any]]
    neighbors: int
    """How many the page asks for."""

    def table(self) -> list[tuple[str, float]]:
        """The ids and distances that the page's own query printed."""
        rows = [line.split() for line in self.printed.splitlines() if re.match(r"\s+\d+\s", line)]
        return [(row[1], float(row[-1])) for row in rows]


class Recipe:
    """A page of docs/recipes. Its first block says where everything is; its last one stops the server."""

    def __init__(self, name: str) -> None:
        page = (ROOT / "docs" / "recipes" / f"{name}.md").read_text(encoding="utf-8")
        self._places, *self._commands = re.findall(r"^```\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)

    def run(
        self,
        folder: Path,
        network: Mapping[str, str],
        places: Mapping[str, Path | str],
        questions: Sequence[Question],
        category: str,
    ) -> Outcome:
        """Run every block, in the folder of the project and in the page's order.

        Args:
            folder: For what the test itself writes.
            network: Words of the export command, and what stands for them here.
            places: The value of every variable of the first block, but SERVER, which is a free port.
            queries: Asked where the page asks, each in the page's own words but with `--json`.
            category: What the page names as the category to ask in.
        """
        values = {**places, "SERVER": f"127.0.0.1:{_free_port()}"}
        names = re.findall(r"^([A-Z]+)=", self._places, re.MULTILINE)
        assert sorted(names) == sorted(values), "the first block has these variables and no others"
        script = ["set -eu -o pipefail", "trap 'kill $(jobs -p) 2> /dev/null || true' EXIT"]
        script += [f"{name}={shlex.quote(str(values[name]))}" for name in names]
        (asking,) = (block for block in self._commands if _ASKS in block)
        for block in self._commands:
            text = block
            if "lookalike-exporter export" in block:
                for written, here in network.items():
                    assert written in text
                    text = text.replace(written, here)
            script.append(text)
            if block is asking:
                script += _more(asking, questions, category, folder)
        assert _STOPS in self._commands[-1]
        printed = _bash("\n".join(script))
        answers = [json.loads(_answer(folder, number).read_text("utf-8")) for number in range(len(questions))]
        (neighbors,) = re.findall(r"-k (\d+)", asking)
        return Outcome(printed, answers, int(neighbors))


def _more(asking: str, questions: Sequence[Question], category: str, folder: Path) -> list[str]:
    """The page's query with other images and categories, each answer in a file of its own."""
    assert f" --category {category} " in asking
    lines = []
    for number, question in enumerate(questions):
        command = asking.strip().replace(_ASKS, "lookalike --json search ")
        command = command.replace('"$IMAGE"', shlex.quote(str(question.image)))
        command = command.replace(f" --category {category} ", f" --category {shlex.quote(question.category)} ")
        lines.append(f"{command} > {shlex.quote(str(_answer(folder, number)))}")
    return lines


def _answer(folder: Path, number: int) -> Path:
    return folder / f"answer-{number}.json"


def _bash(script: str) -> str:
    """Run it to its end with everything it started; what it printed to standard output."""
    # The page's own PATH comes before this one, which is for where there is no .venv.
    here = os.pathsep.join((str(Path(sys.executable).parent), os.environ["PATH"]))
    environment = os.environ | {"PATH": here} | _UNMEASURED
    process = subprocess.Popen(
        ["bash", "-c", script],
        cwd=ROOT,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        printed, told = process.communicate(timeout=_LIMIT)
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
    assert process.returncode == 0, told
    return printed


def _free_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return int(taken.getsockname()[1])
