"""The writer's thread over a disk that is full or fails: who is told what, and what is safe after it."""

from __future__ import annotations

import os
import sqlite3
from typing import Any

import pytest

from lookalike_server.domain.catalog import IndexChange
from lookalike_server.domain.errors import Code, ServerError
from lookalike_server.store.wal import LONG, Wal
from lookalike_server.store.write_jobs import Written
from lookalike_server.store.writer import Writer
from support.writer_fakes import Told, Watched, hold, insert, naming


def test_a_full_disk_rejects_only_what_does_not_fit_of_acts_queued_together(
    writer: Writer, connection: Watched
) -> None:
    """The large one of a call hears RESOURCE_EXHAUSTED, the small ones are stored."""

    def large(connection: Any) -> Written:
        connection.execute("INSERT INTO names VALUES (?)", ("large" * 100_000,))
        raise AssertionError("there should be no room")

    connection.execute("PRAGMA max_page_count = 8")
    before, broken, after = writer.submit_all([naming(1), large, naming(2)]).result(timeout=60)
    assert (before, after) == ("n1", "n2")
    assert isinstance(broken, ServerError)
    assert broken.public.code is Code.RESOURCE_EXHAUSTED
    assert connection.names() == ["n1", "n2"]


def test_a_failing_commit_fails_its_whole_group(writer: Writer, connection: Watched, log: Told) -> None:
    """When the disk rejects a group none of it is there, every caller is told, and the writer goes on."""
    connection.fail_commit = True
    first = hold(writer, connection)
    connection.free.set()
    assert isinstance(first.exception(timeout=60), sqlite3.OperationalError)
    hold(writer, connection)
    group = [insert(writer, number) for number in (1, 2, 3)]
    connection.free.set()
    assert all(isinstance(future.exception(timeout=60), sqlite3.OperationalError) for future in group)
    assert connection.names() == []
    assert log.labels == []
    connection.fail_commit = False
    assert insert(writer, 1).result(timeout=60) == "n1"
    assert connection.names() == ["n1"]


def test_a_full_disk_is_put_into_words(writer: Writer, connection: Watched) -> None:
    """When SQLite finds no room its caller hears RESOURCE_EXHAUSTED, without a time; what fits is stored."""

    def large(connection: Any) -> Written:
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


def test_a_transaction_that_sqlite_undoes_fails_its_whole_group(writer: Writer, connection: Watched) -> None:
    """When a job's error takes the transaction with it, all of the group hear that error, and the writer goes on."""

    def undone(connection: Any) -> Written:
        connection.execute("ROLLBACK")  # as SQLite does by itself on a failing disk
        raise sqlite3.OperationalError("disk I/O error")

    hold(writer, connection)
    group = [insert(writer, 1), writer.submit(undone), insert(writer, 2)]
    connection.free.set()
    assert [str(future.exception(timeout=60)) for future in group] == ["disk I/O error"] * 3
    assert insert(writer, 3).result(timeout=60) == "n3"
    assert connection.names() == ["n0", "n3"]


def test_a_failed_disk_begins_the_log_anew(writer: Writer, connection: Watched) -> None:
    """After a flush that failed nothing is begun before the log was emptied; until it can be, writes are rejected."""
    connection.real.execute("PRAGMA journal_mode = WAL")
    assert insert(writer, 1).result(timeout=60) == "n1"
    connection.failure.sqlite_errorname = "SQLITE_IOERR_FSYNC"
    connection.fail_commit = True
    assert insert(writer, 2).exception(timeout=60) is connection.failure
    connection.fail_commit = False
    reader = sqlite3.connect(connection.path)  # in the way of emptying the log
    reader.execute("BEGIN")
    reader.execute("SELECT * FROM names").fetchall()
    connection.real.execute("PRAGMA busy_timeout = 0")
    connection.said.clear()
    assert insert(writer, 3).exception(timeout=60) is connection.failure
    assert "BEGIN IMMEDIATE" not in connection.said
    reader.close()
    assert insert(writer, 4).result(timeout=60) == "n4"
    connection.said.clear()
    assert insert(writer, 5).result(timeout=60) == "n5"
    assert connection.said[0] == "BEGIN IMMEDIATE"
    assert connection.names() == ["n1", "n4", "n5"]


class FailingLog(Wal):
    """A log that is always long, and cannot be put into the file while `error` is set."""

    error: Exception | None = None
    renewed = 0

    def wrote(self, size: int) -> bool:
        """It is always time."""
        return True

    def checkpoint(self) -> None:
        """Fail where told to."""
        if self.error is not None:
            raise self.error
        super().checkpoint()

    def reset(self) -> bool:
        """Count it."""
        self.renewed += 1
        return super().reset()


@pytest.mark.parametrize(
    ("error", "renewals"), [(OSError("no room to grow"), 0), (sqlite3.OperationalError("disk I/O error"), 1)]
)
def test_a_checkpoint_that_fails(connection: Watched, error: Exception, renewals: int) -> None:
    """Without room for a checkpoint writes go on; where it failed midway the log is begun again before the next one."""
    connection.real.execute("PRAGMA journal_mode = WAL")
    log = FailingLog(connection.real)
    writer = Writer(connection, log, lambda _: None)
    assert insert(writer, 1).result(timeout=60) == "n1"
    log.error = error
    assert insert(writer, 2).result(timeout=60) == "n2"
    writer.submit(lambda _: Written(None, IndexChange())).result(timeout=60)  # the checkpoint after it is over
    log.error = None
    assert insert(writer, 3).result(timeout=60) == "n3"
    writer.close()
    assert log.renewed in (renewals, renewals + (renewals > 0))
    assert connection.names() == ["n1", "n2", "n3"]


def test_sqlite_makes_no_checkpoint_by_itself(connection: Watched, writer: Writer) -> None:
    """SQLite's own, within a commit, tell nobody of an error; with ours the log does not grow without end."""
    connection.real.execute("PRAGMA journal_mode = WAL")
    assert connection.real.execute("PRAGMA wal_autocheckpoint").fetchone() == (0,)

    def insert_big(db: Any) -> Written:
        db.execute("INSERT INTO names VALUES (?)", (os.urandom(1 << 20).hex(),))
        return Written(None, IndexChange([("c", 0)]), 2 << 20)

    for _ in range(40):
        writer.submit(insert_big).result(timeout=60)
    log = connection.path.with_name(f"{connection.path.name}-wal")
    assert log.stat().st_size < 4 * LONG  # of ten times as much
