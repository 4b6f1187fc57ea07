"""What the writer's tests write to: a real SQLite connection that can be held or fail, and an index that listens."""

from __future__ import annotations

import sqlite3
import threading
from concurrent.futures import Future
from pathlib import Path
from typing import Any

from lookalike_server.domain.catalog import IndexChange
from lookalike_server.store.write_jobs import Act, Written
from lookalike_server.store.writer import Writer


class Watched:
    """A real connection that counts commits, holds them back while told to, and fails them on cue."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.real = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
        self.real.execute("CREATE TABLE names (name TEXT PRIMARY KEY)")
        self.commits = 0
        self.fail_commit = False
        self.failure = sqlite3.OperationalError("disk I/O error")
        self.said: list[str] = []
        """Every statement, in order."""
        self.held = threading.Event()
        """Set once a commit is being held."""
        self.free = threading.Event()
        self.free.set()

    def execute(self, sql: str, arguments: tuple[object, ...] = (), /) -> Any:
        """Run one statement, as SQLite does."""
        self.said.append(sql)
        if sql == "COMMIT":
            self.held.set()
            assert self.free.wait(timeout=60)
            self.commits += 1
            if self.fail_commit:
                raise self.failure
        return self.real.execute(sql, arguments)

    def names(self) -> list[str]:
        """Read what is committed, in the order of writing."""
        return [name for (name,) in self.real.execute("SELECT name FROM names ORDER BY rowid")]


class Told:
    """What the index would be told, in order; raises for the labels in `rejected`."""

    def __init__(self) -> None:
        self.labels: list[int] = []
        self.rejected: set[int] = set()

    def __call__(self, change: IndexChange) -> None:
        """Hear of a change."""
        ((_, label),) = change.removed
        if label in self.rejected:
            raise ValueError(f"no {label} here")
        self.labels.append(label)


def naming(number: int) -> Act:
    """Writes this number's name; its result is the name, and the index is told the number."""

    def act(connection: Any) -> Written:
        connection.execute("INSERT INTO names VALUES (?)", (f"n{number}",))
        return Written(f"n{number}", IndexChange([("c", number)], ()))

    return act


def insert(writer: Writer, number: int) -> Future[str]:
    """Queue that."""
    return writer.submit(naming(number))


def hold(writer: Writer, connection: Watched) -> Future[str]:
    """Write n0 and hold its commit, so that whatever is queued now waits together."""
    connection.held.clear()
    connection.free.clear()
    first = insert(writer, 0)
    assert connection.held.wait(timeout=60)
    return first
