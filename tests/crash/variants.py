"""The real server with one change: `variants.py NAME serve ...`. Most are bugs that the suites must notice.

The bug of acknowledging before the commit is in `early_acknowledgment.py`, and bugs in saving graphs are in
`graph_variants.py`.
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
    """Return the command of the changed server."""
    assert name in _VARIANTS
    return (sys.executable, str(Path(__file__)), name, "serve")


class _Swallowing:
    """A connection whose commits always seem to succeed."""

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
    """A bug: after a failed flush, or a crash, the WAL is not reset."""
    wal.Wal.reset = lambda _: True  # type: ignore[method-assign, assignment]


def _not_preallocated() -> None:
    """A bug: checkpoints write to new blocks of the catalog file that may be marked as never written."""
    wal.Wal.preallocate = lambda _: None  # type: ignore[method-assign, assignment]


def _raw() -> None:
    """A bug: errors while the catalog is opened are not explained."""

    def broken(*_: Any) -> None:
        raise OSError("no explanation")

    vars(app)["Store"] = broken


def _unexplained() -> None:
    """A bug: the error on a full disk does not say so."""
    vars(writer)["public_error"] = lambda error: error


def _small_wal() -> None:
    """No bug: a checkpoint every few pages, so that a short run has many."""
    vars(wal)["CHECKPOINT_BYTES"] = 32 << 10


def _on_connection(change: Callable[[Any], Any]) -> None:
    """Replace the writer's connection."""
    start = writer.Writer.__init__

    def start_changed(self: Any, connection: Any, wal: Any, on_commit: Any) -> None:
        start(self, change(connection), wal, on_commit)

    writer.Writer.__init__ = start_changed  # type: ignore[method-assign]


def _after(connection: Any, sql: str) -> Any:
    connection.execute(sql)
    return connection


_VARIANTS: dict[str, Callable[[], None]] = {
    "unsynced": _unsynced,
    "swallowed": _swallowed,
    "trusting": _trusting,
    "not-preallocated": _not_preallocated,
    "raw": _raw,
    "unexplained": _unexplained,
    "small-wal": _small_wal,
}

if __name__ == "__main__":
    _VARIANTS[sys.argv.pop(1)]()
    main()
