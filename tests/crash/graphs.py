"""A catalog whose graph files are checked too: the manifest, the folder, and the log."""

from __future__ import annotations

import copy
import json
import shutil
import sqlite3
from contextlib import AbstractContextManager, closing
from pathlib import Path
from typing import Any

import numpy as np

from crash.catalog import Catalog
from lookalike_server.index.segments import GONE_RATIO
from support.processes import SERVE, ServerProcess
from support.serving import until

UNUSABLE = "graph_file_unusable"
FAILED = "graph_file_failed"
FAULTS = (UNUSABLE, FAILED, "row_file_unusable", "row_file_failed")

# The server is still the process that was started; its log goes to a file and to stderr.
_LOGGED = ("bash", "-c", 'exec "$@" 2> >(exec tee -a "$0" >&2)')


class GraphCatalog(Catalog):
    """A data folder, the writers that know its contents, and the log of all its servers."""

    def __init__(
        self, folder: Path, seed: int, command: tuple[str, ...] = SERVE, writers: int = 8, log: Path | None = None
    ) -> None:
        super().__init__(folder, seed, command, writers)
        # Next to the folder, unless the test chooses another place because the disk may fail.
        self.log_file = log or folder.with_name(f"{folder.name}.log")
        self.log_file.touch()

    def copy_to(self, folder: Path) -> GraphCatalog:
        """Return a copy in another folder; no server may be running."""
        other = copy.copy(self)
        other.folder, other.writers = folder, copy.deepcopy(self.writers)
        other.log_file = folder.with_name(f"{folder.name}.log")
        other.log_file.touch()
        shutil.copytree(self.folder, folder)
        return other

    @property
    def index(self) -> Path:
        """The folder of the graph files."""
        return self.folder / "index"

    def served(self, command: tuple[str, ...] | None = None, *more: str) -> AbstractContextManager[ServerProcess]:
        """Run a server as the base class does, with its log in a file."""
        return super().served((*_LOGGED, str(self.log_file), *(command or self._command)), *more)

    def log(self, since: int = 0) -> list[dict[str, Any]]:
        """Return the log events of all servers, from line `since` on."""
        whole_lines = self.log_file.read_text(errors="replace").split("\n")[:-1]
        return [json.loads(line) for line in whole_lines[since:] if line.startswith("{")]

    def lines(self) -> int:
        """Return the number of lines in the log."""
        return self.log_file.read_text(errors="replace").count("\n")

    def warned_of(self, since: int = 0) -> set[str]:
        """Return the categories with warnings about failed or unusable files; "" where a file of rows failed."""
        return {line.get("category", "") for line in self.log(since) if line["event"] in FAULTS}

    def manifest(self) -> dict[str, list[str]]:
        """Return the trusted files, by category."""
        named: dict[str, list[str]] = {}
        path = self.folder / "catalog.sqlite"
        with closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True, timeout=10)) as connection:
            for category, name in connection.execute("SELECT category, file FROM segments ORDER BY id"):
                named.setdefault(category, []).append(name)
        return named

    def is_compacted(self) -> bool:
        """Whether no trusted file has so many nodes without rows that its graph is about to be replaced."""
        path = self.folder / "catalog.sqlite"
        with closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True, timeout=10)) as connection:
            rows = {label for (label,) in connection.execute("SELECT label FROM embeddings")}
        try:
            gone = [_gone(self.index / name, rows) for name in self._graphs()]
        except FileNotFoundError:
            return False  # one that was replaced meanwhile
        return all(each <= GONE_RATIO for each in gone)

    def _graphs(self) -> list[str]:
        return [name for names in self.manifest().values() for name in names if not name.endswith(".rows")]

    def strays(self) -> set[str]:
        """Return the files in the folder that are not in the manifest."""
        named = {name for names in self.manifest().values() for name in names}
        return {path.name for path in self.index.iterdir()} - named

    async def faults(self) -> list[str]:
        """As the base class; and every trusted file is usable, and no other file is left."""
        before = self.lines()
        wrong = await super().faults()
        return wrong + [f"{line}" for line in self.log(before) if line["event"] in FAULTS]

    async def faults_of(self, server: ServerProcess, *, crashed: bool) -> list[str]:
        """As the base class; and after a crash no file is left that the manifest does not name."""
        wrong = await super().faults_of(server, crashed=crashed)
        if crashed:
            try:
                # A file that is being written gets into the manifest; one that was left behind never does.
                await until(lambda: not self.strays())
            except TimeoutError:
                wrong.append(f"the manifest does not name {self.strays()}")
        return wrong


def _gone(file: Path, rows: set[int]) -> float:
    """Return the share of a graph's nodes that stand for none of these rows, by label."""
    with file.open("rb") as opened:
        opened.readline()  # what graph it is
        labels, nodes, prints = (np.lib.format.read_array(opened) for _ in range(3))
    return 1.0 - len(set(nodes[np.isin(labels, list(rows))].tolist())) / len(prints)
