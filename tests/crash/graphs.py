"""A catalog whose graphs on disk are looked at too: what the manifest names, what lies there, what the log says."""

from __future__ import annotations

import copy
import json
import shutil
import sqlite3
from contextlib import AbstractContextManager, closing
from pathlib import Path
from typing import Any

from crash.catalog import Catalog
from support.processes import SERVE, ServerProcess
from support.serving import until

UNUSABLE = "graph_file_unusable"
UNKEPT = "graph_file_failed"

# The server stays the process that was started; its log goes to a file, and on to whoever reads it.
_LOGGED = ("bash", "-c", 'exec "$@" 2> >(exec tee -a "$0" >&2)')


class GraphCatalog(Catalog):
    """The folder, what its writers know of it, and the log of all its servers."""

    def __init__(
        self, folder: Path, seed: int, command: tuple[str, ...] = SERVE, writers: int = 8, log: Path | None = None
    ) -> None:
        super().__init__(folder, seed, command, writers)
        # Beside the folder, or where the test says: the disk of both may fail.
        self._log = log or folder.with_name(f"{folder.name}.log")
        self._log.touch()

    def copied(self, folder: Path) -> GraphCatalog:
        """The same in another folder; no server is running."""
        other = copy.copy(self)
        other.folder, other.writers = folder, copy.deepcopy(self.writers)
        other._log = folder.with_name(f"{folder.name}.log")
        other._log.touch()
        shutil.copytree(self.folder, folder)
        return other

    @property
    def index(self) -> Path:
        """Where the graphs are."""
        return self.folder / "index"

    def served(self, command: tuple[str, ...] | None = None, *more: str) -> AbstractContextManager[ServerProcess]:
        """As the catalog's, with a log that can be looked at."""
        return super().served((*_LOGGED, str(self._log), *(command or self._command)), *more)

    def log(self, since: int = 0) -> list[dict[str, Any]]:
        """What the servers have logged, from so many lines on."""
        whole_lines = self._log.read_text(errors="replace").split("\n")[:-1]
        return [json.loads(line) for line in whole_lines[since:] if line.startswith("{")]

    def lines(self) -> int:
        """How many lines there are in the log."""
        return self._log.read_text(errors="replace").count("\n")

    def warned_of(self, since: int = 0) -> set[str]:
        """The categories whose files failed or could not be used."""
        return {line["category"] for line in self.log(since) if line["event"] in (UNUSABLE, UNKEPT)}

    def manifest(self) -> dict[str, list[str]]:
        """The files that the store vouches for, by category."""
        named: dict[str, list[str]] = {}
        path = self.folder / "catalog.sqlite"
        with closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True, timeout=10)) as connection:
            for category, name in connection.execute("SELECT category, file FROM segments ORDER BY id"):
                named.setdefault(category, []).append(name)
        return named

    def strays(self) -> set[str]:
        """The files beside the graphs that are none of those."""
        named = {name for names in self.manifest().values() for name in names}
        return {path.name for path in self.index.iterdir()} - named

    async def faults(self) -> list[str]:
        """As the catalog's; and no file was vouched for that is not whole, and none is left that nobody names."""
        before = self.lines()
        wrong = await super().faults()
        return wrong + [f"{line}" for line in self.log(before) if line["event"] in (UNUSABLE, UNKEPT)]

    async def faults_of(self, server: ServerProcess, *, crashed: bool) -> list[str]:
        """As the catalog's; and after a crash nothing is left that nobody names."""
        wrong = await super().faults_of(server, crashed=crashed)
        if crashed:
            try:
                # What is just being written has no name yet; what was left behind never gets one.
                await until(lambda: not self.strays())
            except TimeoutError:
                wrong.append(f"nobody names {self.strays()}")
        return wrong
