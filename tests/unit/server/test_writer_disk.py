"""The writer thread over a disk that is full or fails: the errors of the callers, and what is durable afterwards."""

from __future__ import annotations

import os
import sqlite3
from typing import Any

import pytest

from lookalike_server.domain.catalog import IndexChange
from lookalike_server.domain.errors import Code, ServerError
from lookalike_server.store.wal import CHECKPOINT_BYTES, Wal
from lookalike_server.store.write_jobs import WriteResult
from lookalike_server.store.writer import Writer
from support.writer_fakes import FaultyConnection, RecordingIndex, hold, insert, insert_op


def test_a_full_disk_rejects_only_the_operation_that_does_not_fit(writer: Writer, connection: FaultyConnection) -> None:
    """Of operations queued together the large one gets RESOURCE_EXHAUSTED, the small ones are stored."""

    def large(connection: Any) -> WriteResult:
        connection.execute("INSERT INTO names VALUES (?)", ("large" * 100_000,))
        raise AssertionError("there should be no room")

    connection.execute("PRAGMA max_page_count = 8")
    before, broken, after = writer.submit_all([insert_op(1), large, insert_op(2)]).result(timeout=60)
    assert (before, after) == ("n1", "n2")
    assert isinstance(broken, ServerError)
    assert broken.public.code is Code.RESOURCE_EXHAUSTED
    assert connection.names() == ["n1", "n2"]


def test_a_failing_commit_fails_its_whole_group(
    writer: Writer, connection: FaultyConnection, recording_index: RecordingIndex
) -> None:
    """If the disk rejects a group none of it is stored, every caller gets the error, and the writer continues."""
    connection.fail_commit = True
    first = hold(writer, connection)
    connection.free.set()
    assert isinstance(first.exception(timeout=60), sqlite3.OperationalError)
    hold(writer, connection)
    group = [insert(writer, number) for number in (1, 2, 3)]
    connection.free.set()
    assert all(isinstance(future.exception(timeout=60), sqlite3.OperationalError) for future in group)
    assert connection.names() == []
    assert recording_index.labels == []
    connection.fail_commit = False
    assert insert(writer, 1).result(timeout=60) == "n1"
    assert connection.names() == ["n1"]


def test_a_full_disk_is_explained(writer: Writer, connection: FaultyConnection) -> None:
    """If the disk is full the caller gets RESOURCE_EXHAUSTED, without a retry delay; what fits is stored."""

    def large(connection: Any) -> WriteResult:
        connection.execute("INSERT INTO names VALUES (?)", ("large" * 100_000,))
        raise AssertionError("there should be no room")

    connection.execute("PRAGMA max_page_count = 8")
    hold(writer, connection)
    before, broken, after = insert(writer, 1), writer.submit(large), insert(writer, 2)
    connection.free.set()
    error = broken.exception(timeout=60)
    assert isinstance(error, ServerError)
    assert error.public.code is Code.RESOURCE_EXHAUSTED
    assert error.public.retry_after is None
    assert isinstance(error.__cause__, sqlite3.OperationalError)
    assert (before.result(timeout=60), after.result(timeout=60)) == ("n1", "n2")
    assert connection.names() == ["n0", "n1", "n2"]


def test_a_transaction_that_sqlite_undoes_fails_its_whole_group(writer: Writer, connection: FaultyConnection) -> None:
    """If an error rolls back the whole transaction, all of the group get it, and the writer continues."""

    def rolls_back(connection: Any) -> WriteResult:
        connection.execute("ROLLBACK")  # as SQLite does by itself on a failing disk
        raise sqlite3.OperationalError("disk I/O error")

    hold(writer, connection)
    group = [insert(writer, 1), writer.submit(rolls_back), insert(writer, 2)]
    connection.free.set()
    assert [str(future.exception(timeout=60)) for future in group] == ["disk I/O error"] * 3
    assert insert(writer, 3).result(timeout=60) == "n3"
    assert connection.names() == ["n0", "n3"]


def test_the_wal_is_reset_after_a_failed_flush(writer: Writer, connection: FaultyConnection) -> None:
    """After a failed flush nothing begins before the WAL was reset; until that is possible, writes are rejected."""
    connection.real.execute("PRAGMA journal_mode = WAL")
    assert insert(writer, 1).result(timeout=60) == "n1"
    connection.failure.sqlite_errorname = "SQLITE_IOERR_FSYNC"
    connection.fail_commit = True
    assert insert(writer, 2).exception(timeout=60) is connection.failure
    connection.fail_commit = False
    reader = sqlite3.connect(connection.path)  # blocks the reset of the WAL
    reader.execute("BEGIN")
    reader.execute("SELECT * FROM names").fetchall()
    connection.real.execute("PRAGMA busy_timeout = 0")
    connection.statements.clear()
    assert insert(writer, 3).exception(timeout=60) is connection.failure
    assert "BEGIN IMMEDIATE" not in connection.statements
    reader.close()
    assert insert(writer, 4).result(timeout=60) == "n4"
    connection.statements.clear()
    assert insert(writer, 5).result(timeout=60) == "n5"
    assert connection.statements[0] == "BEGIN IMMEDIATE"
    assert connection.names() == ["n1", "n4", "n5"]


class FailingWal(Wal):
    """A WAL that is always due for a checkpoint, and fails it while `error` is set."""

    error: Exception | None = None
    resets = 0

    def record_write(self, size: int) -> bool:
        """Always ask for a checkpoint."""
        return True

    def checkpoint(self) -> None:
        """Fail while `error` is set."""
        if self.error is not None:
            raise self.error
        super().checkpoint()

    def reset(self) -> bool:
        """Count the resets."""
        self.resets += 1
        return super().reset()


@pytest.mark.parametrize(
    ("error", "resets"), [(OSError("no room to grow"), 0), (sqlite3.OperationalError("disk I/O error"), 1)]
)
def test_a_checkpoint_that_fails(connection: FaultyConnection, error: Exception, resets: int) -> None:
    """Without space for a checkpoint writes continue; if it failed midway the WAL is reset before the next write."""
    connection.real.execute("PRAGMA journal_mode = WAL")
    wal = FailingWal(connection.real)
    writer = Writer(connection, wal, lambda _: None)
    assert insert(writer, 1).result(timeout=60) == "n1"
    wal.error = error
    assert insert(writer, 2).result(timeout=60) == "n2"
    writer.submit(lambda _: WriteResult(None, IndexChange())).result(timeout=60)  # the checkpoint after it is over
    wal.error = None
    assert insert(writer, 3).result(timeout=60) == "n3"
    writer.close()
    assert wal.resets in (resets, resets + (resets > 0))
    assert connection.names() == ["n1", "n2", "n3"]


def test_sqlite_runs_no_automatic_checkpoint(connection: FaultyConnection, writer: Writer) -> None:
    """SQLite's automatic checkpoints would hide errors; with ours the WAL stays bounded."""
    connection.real.execute("PRAGMA journal_mode = WAL")
    assert connection.real.execute("PRAGMA wal_autocheckpoint").fetchone() == (0,)

    def insert_big(db: Any) -> WriteResult:
        db.execute("INSERT INTO names VALUES (?)", (os.urandom(1 << 20).hex(),))
        return WriteResult(None, IndexChange([("c", 0)]), 2 << 20)

    for _ in range(40):
        writer.submit(insert_big).result(timeout=60)
    wal = connection.path.with_name(f"{connection.path.name}-wal")
    assert wal.stat().st_size < 4 * CHECKPOINT_BYTES  # and 80 MiB were written
