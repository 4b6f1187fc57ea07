"""The command `reembed` with a planted bug: its last transaction is split. The crash suite must notice."""

from __future__ import annotations

import time
from typing import Any

from lookalike_server.__main__ import main
from lookalike_server.store import reembedding


class _Splitting:
    """A connection that commits each time that it has replaced some embeddings."""

    def __init__(self, connection: Any) -> None:
        self._connection = connection

    def execute(self, sql: str, *arguments: Any) -> Any:
        done = self._connection.execute(sql, *arguments)
        if sql.startswith("INSERT OR REPLACE INTO embeddings"):
            self._connection.execute("COMMIT")
            time.sleep(0.02)  # the window in which a crash shows it
            self._connection.execute("BEGIN IMMEDIATE")
        return done

    def executemany(self, sql: str, *arguments: Any) -> Any:
        return self._connection.executemany(sql, *arguments)


def _plant() -> None:
    start = reembedding.Reembedding.__init__

    def start_splitting(self: Any, connection: Any, *arguments: Any) -> None:
        start(self, _Splitting(connection), *arguments)

    reembedding.Reembedding.__init__ = start_splitting  # type: ignore[assignment, method-assign]


if __name__ == "__main__":
    _plant()
    main()
