"""A recipe's page as a script: its own commands, with other paths, other weights and a few more queries."""

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

_TIMEOUT = 400  # seconds

# So that the server does not spend its start on measuring batch sizes, for a few images.
_FIXED_BATCHES = {
    "LOOKALIKE_MAX_BATCH_SIZE": "8",
    "LOOKALIKE_MAX_CONCURRENT_BATCHES": "1",
    "LOOKALIKE_PREFERRED_BATCH_SIZE": "8",
}

# What the blocks of the page are recognized by.
_SEARCH, _STOP = "lookalike search ", "kill "


@dataclass(frozen=True)
class Query:
    """An image, and the category to search."""

    image: Path
    category: str


@dataclass(frozen=True)
class Outcome:
    """What the page's commands printed, and the results of the additional queries, as JSON."""

    output: str
    results: Sequence[dict[str, Any]]
    k: int
    """How many products the page's query asks for."""

    def table(self) -> list[tuple[str, float]]:
        """Return the ids and distances that the page's own query printed."""
        rows = [line.split() for line in self.output.splitlines() if re.match(r"\s+\d+\s", line)]
        return [(row[1], float(row[-1])) for row in rows]


class Recipe:
    """A page of docs/recipes. Its first block sets the paths; its last one stops the server."""

    def __init__(self, name: str) -> None:
        page = (ROOT / "docs" / "recipes" / f"{name}.md").read_text(encoding="utf-8")
        self._variables, *self._commands = re.findall(r"^```\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)

    def run(
        self,
        folder: Path,
        network: Mapping[str, str],
        variables: Mapping[str, Path | str],
        queries: Sequence[Query],
        category: str,
    ) -> Outcome:
        """Run every block, in the folder of the repository and in the page's order.

        Args:
            folder: Where the test's own files are written.
            network: Words of the export command, and their replacements.
            variables: The value of every variable of the first block except SERVER, which gets a free port.
            queries: Run after the page's own query, each as the same command but with `--json`.
            category: The words of the page's query that name the category.
        """
        values = {**variables, "SERVER": f"127.0.0.1:{_free_port()}"}
        names = re.findall(r"^([A-Z]+)=", self._variables, re.MULTILINE)
        assert sorted(names) == sorted(values), "the first block has these variables and no others"
        script = ["set -eu -o pipefail", "trap 'kill $(jobs -p) 2> /dev/null || true' EXIT"]
        script += [f"{name}={shlex.quote(str(values[name]))}" for name in names]
        (search,) = (block for block in self._commands if _SEARCH in block)
        for block in self._commands:
            text = block
            if "lookalike-exporter export" in block:
                for words, replacement in network.items():
                    assert words in text
                    text = text.replace(words, replacement)
            script.append(text)
            if block is search:
                script += _more_searches(search, queries, category, folder)
        assert _STOP in self._commands[-1]
        output = _bash("\n".join(script))
        results = [json.loads(_result(folder, number).read_text("utf-8")) for number in range(len(queries))]
        (k,) = re.findall(r"-k (\d+)", search)
        return Outcome(output, results, int(k))


def _more_searches(search: str, queries: Sequence[Query], category: str, folder: Path) -> list[str]:
    """Return the page's search with other images and categories, each with its result in a file of its own."""
    assert f" --category {category} " in search
    lines = []
    for number, query in enumerate(queries):
        command = search.strip().replace(_SEARCH, "lookalike --json search ")
        command = command.replace('"$IMAGE"', shlex.quote(str(query.image)))
        command = command.replace(f" --category {category} ", f" --category {shlex.quote(query.category)} ")
        lines.append(f"{command} > {shlex.quote(str(_result(folder, number)))}")
    return lines


def _result(folder: Path, number: int) -> Path:
    return folder / f"result-{number}.json"


def _bash(script: str) -> str:
    """Run a script to its end, with every process it starts, and return its standard output."""
    # The page's own PATH precedes this one, which is for a checkout without .venv.
    path = os.pathsep.join((str(Path(sys.executable).parent), os.environ["PATH"]))
    environment = os.environ | {"PATH": path} | _FIXED_BATCHES
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
        output, errors = process.communicate(timeout=_TIMEOUT)
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
    assert process.returncode == 0, errors
    return output


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])
