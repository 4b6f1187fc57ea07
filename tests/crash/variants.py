"""The real server with one thing changed: `variants.py NAME serve ...`. Most are bugs that the suites must notice.

The bug of acknowledging before the commit has a file of its own, `early_acknowledgment.py`, and so have those in how
graphs are kept, `graph_variants.py`.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from lookalike_server import app
from lookalike_server.__main__ import main
from lookalike_server.store import wal, writer


def variant(name: str) -> tuple[str, ...]:
    """The command of the server that is changed so."""
    assert name in _VARIANTS
    return (sys.executable, str(Path(__file__)), name, "serve")


class _Swallowing:
    """A connection whose commits seem to succeed always."""

    def __init__(self, connection: Any) -> None:
        self._connection = connection

    def execute(self, sql: str, *arguments: Any) -> Any:
        try:
            return self._connection.execute(sql, *arguments)
        except Exception:
            if sql != "COMMIT":
                raise
            return None


def _unsynced() -> None:
    """A bug: nothing is flushed when a write is acknowledged."""
    _on_connection(lambda connection: _after(connection, "PRAGMA synchronous = OFF"))


def _swallowed() -> None:
    """A bug: a write is acknowledged although its commit failed."""
    _on_connection(_Swallowing)


def _trusting() -> None:
    """A bug: after a failed flush, or a crash, the log is relied on as it is."""
    wal.Wal.reset = lambda _: True  # type: ignore[method-assign, assignment]


def _ungrown() -> None:
    """A bug: the log is put into new blocks of the catalog's file that may be marked as never written."""
    wal.Wal._grow = lambda _: None  # type: ignore[method-assign, assignment]


def _raw() -> None:
    """A bug: what goes wrong while the catalog is opened is not put into words."""

    def broken(*_: Any) -> None:
        raise OSError("no words for it")

    vars(app)["Store"] = broken


def _unworded() -> None:
    """A bug: callers are not told that the disk is full."""
    vars(writer)["_told"] = lambda error: error


def _small_wal() -> None:
    """No bug: a checkpoint every few pages, so that a short run has many."""
    vars(wal)["LONG"] = 32 << 10


def _on_connection(change: Callable[[Any], Any]) -> None:
    """Give the writer this in place of its connection."""
    start = writer.Writer.__init__

    def start_changed(self: Any, connection: Any, log: Any, on_commit: Any) -> None:
        start(self, change(connection), log, on_commit)

    writer.Writer.__init__ = start_changed  # type: ignore[method-assign]


def _after(connection: Any, sql: str) -> Any:
    connection.execute(sql)
    return connection


_VARIANTS: dict[str, Callable[[], None]] = {
    "unsynced": _unsynced,
    "swallowed": _swallowed,
    "trusting": _trusting,
    "ungrown": _ungrown,
    "raw": _raw,
    "unworded": _unworded,
    "small-wal": _small_wal,
}

if __name__ == "__main__":
    _VARIANTS[sys.argv.pop(1)]()
    main()
