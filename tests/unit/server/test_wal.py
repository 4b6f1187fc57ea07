"""The write-ahead log stays bounded, also where there always is a reader."""

from __future__ import annotations

from pathlib import Path

import pytest

from lookalike_server.store.sqlite import Connection, connect
from lookalike_server.store.wal import Wal

ROW_BYTES = 200_000
ROWS = 40
RESTART_BYTES = 1 << 20


class OverlappingReaders:
    """There always is a reader, and whenever a checkpoint begins the next one begins too and the last one ends."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._reader = self._begin()

    def replace(self, statement: str) -> None:
        """Begin a reader and end the last one, where a statement is a checkpoint."""
        if "wal_checkpoint" in statement:
            last, self._reader = self._reader, self._begin()
            last.close()

    def close(self) -> None:
        """End the last one."""
        self._reader.close()

    def _begin(self) -> Connection:
        reader = connect(self._file, "ro")
        reader.execute("BEGIN")
        reader.execute("SELECT count(*) FROM rows").fetchall()
        return reader


@pytest.mark.parametrize(("restart_bytes", "is_bounded"), [(RESTART_BYTES, True), (1 << 40, False)])
def test_the_log_is_bounded_beside_overlapping_readers(tmp_path: Path, restart_bytes: int, is_bounded: bool) -> None:
    """A large log begins again although it is never without a reader; the control, which never waits, only grows."""
    file = tmp_path / "catalog.sqlite"
    connection = connect(file, "rwc")
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("CREATE TABLE rows (data BLOB)")
    wal = Wal(connection, restart_bytes)
    readers = OverlappingReaders(file)
    connection.set_trace_callback(readers.replace)
    for _ in range(ROWS):
        connection.execute("INSERT INTO rows VALUES (zeroblob(?))", (ROW_BYTES,))
        wal.checkpoint()
    size = (tmp_path / "catalog.sqlite-wal").stat().st_size
    readers.close()
    assert connection.execute("SELECT count(*) FROM rows").fetchone() == (ROWS,)
    assert connection.execute("PRAGMA busy_timeout").fetchone() == (10_000,)
    connection.close()
    wal.close()
    assert (size <= RESTART_BYTES + 2 * ROW_BYTES) == is_bounded
