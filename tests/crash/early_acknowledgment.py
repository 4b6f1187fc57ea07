"""The server with a bug planted: it acknowledges writes before they are committed. The crash suite must notice."""

from __future__ import annotations

import time
from typing import Any

from lookalike_server.__main__ import main
from lookalike_server.store import writer


class _Slow:
    """A connection whose commits are slow, as on a busy disk."""

    def __init__(self, connection: Any) -> None:
        self._connection = connection

    def execute(self, sql: str, *arguments: Any) -> Any:
        if sql == "COMMIT":
            time.sleep(0.02)  # the window in which a crash undoes what was acknowledged
        return self._connection.execute(sql, *arguments)


def _transact(self: Any, items: list[Any]) -> None:
    """As the real one, but callers hear before COMMIT."""
    self._connection.execute("BEGIN IMMEDIATE")
    done = [(item, item.act(self._connection)) for item in items]
    for item, written in done:
        self._on_commit(written.change)
        item.decide(written.result)
    self._connection.execute("COMMIT")


def _plant() -> None:
    start = writer.Writer.__init__

    def start_slow(self: Any, connection: Any, log: Any, on_commit: Any) -> None:
        start(self, _Slow(connection), log, on_commit)

    writer.Writer.__init__ = start_slow  # type: ignore[method-assign]
    writer.Writer._transact = _transact  # type: ignore[method-assign, assignment]


if __name__ == "__main__":
    _plant()
    main()
