"""The server with a planted bug: it acknowledges writes before they are committed. The crash suite must notice."""

from __future__ import annotations

from typing import Any

from lookalike_server.__main__ import main
from lookalike_server.store import writer


class _LateCommits:
    """A connection that commits a transaction only when the next one begins."""

    def __init__(self, connection: Any) -> None:
        self._connection = connection
        self._uncommitted = False

    def execute(self, sql: str, *arguments: Any) -> Any:
        if sql == "COMMIT":
            self._uncommitted = True
            return None
        if sql == "BEGIN IMMEDIATE" and self._uncommitted:
            self._uncommitted = False
            self._connection.execute("COMMIT")
        return self._connection.execute(sql, *arguments)


def _plant() -> None:
    start = writer.Writer.__init__

    def start_late(self: Any, connection: Any, wal: Any, on_commit: Any) -> None:
        start(self, _LateCommits(connection), wal, on_commit)

    writer.Writer.__init__ = start_late  # type: ignore[method-assign]


if __name__ == "__main__":
    _plant()
    main()
