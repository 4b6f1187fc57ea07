"""What the writer's tests use: a real SQLite connection that can be held or fail, and an index that records changes."""

from __future__ import annotations

import sqlite3
import threading
from concurrent.futures import Future
from pathlib import Path
from typing import Any

from lookalike_server.domain.catalog import IndexChange
from lookalike_server.store.write_jobs import WriteOp, WriteResult
from lookalike_server.store.writer import Writer


class FaultyConnection:
    """A real connection that counts commits, and holds or fails them when a test says so."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.real = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
        self.real.execute("CREATE TABLE names (name TEXT PRIMARY KEY)")
        self.commits = 0
        self.fail_commit = False
        self.failure = sqlite3.OperationalError("disk I/O error")
        self.statements: list[str] = []
        """Every statement, in order."""
        self.held = threading.Event()
        """Set once a commit is being held."""
        self.free = threading.Event()
        self.free.set()
        self.committed = threading.Condition()
        """Notified of every commit."""

    def execute(self, sql: str, arguments: tuple[object, ...] = (), /) -> Any:
        """Run one statement."""
        self.statements.append(sql)
        if sql == "COMMIT":
            self.held.set()
            assert self.free.wait(timeout=60)
            with self.committed:
                self.commits += 1
                self.committed.notify_all()
            if self.fail_commit:
                raise self.failure
        return self.real.execute(sql, arguments)

    def names(self) -> list[str]:
        """Read what is committed, in the order of writing."""
        return [name for (name,) in self.real.execute("SELECT name FROM names ORDER BY rowid")]


class RecordingIndex:
    """Records the labels of the changes that an index would receive; raises for those in `rejected`."""

    def __init__(self) -> None:
        self.labels: list[int] = []
        self.rejected: set[int] = set()

    def __call__(self, change: IndexChange) -> None:
        """Receive a change."""
        ((_, label),) = change.removed
        if label in self.rejected:
            raise ValueError(f"no {label} here")
        self.labels.append(label)


def insert_op(number: int) -> WriteOp:
    """Return an operation that inserts the name of a number, returns it, and passes the number to the index."""

    def op(connection: Any) -> WriteResult:
        connection.execute("INSERT INTO names VALUES (?)", (f"n{number}",))
        return WriteResult(f"n{number}", IndexChange([("c", number)], ()))

    return op


def insert(writer: Writer, number: int) -> Future[str]:
    """Queue such an operation."""
    return writer.submit(insert_op(number))


def hold(writer: Writer, connection: FaultyConnection) -> Future[str]:
    """Insert n0 and hold its commit, so that whatever is queued now waits together."""
    connection.held.clear()
    connection.free.clear()
    first = insert(writer, 0)
    assert connection.held.wait(timeout=60)
    return first
