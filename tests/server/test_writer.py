"""The writer's thread over a real SQLite connection: groups, undoing, order, and the end."""

from __future__ import annotations

import os
import sqlite3
import threading
from collections.abc import Iterator
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import pytest

from lookalike_server.domain import IndexChange
from lookalike_server.errors import Code, ServerError
from lookalike_server.store.acts import Act, Written
from lookalike_server.store.wal import LONG, Log
from lookalike_server.store.writer import GROUP_LIMIT, Writer


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
    """What the index would be told, in order; raises for the labels in `refused`."""

    def __init__(self) -> None:
        self.labels: list[int] = []
        self.refused: set[int] = set()

    def __call__(self, change: IndexChange) -> None:
        """Hear of a change."""
        ((_, label),) = change.removed
        if label in self.refused:
            raise ValueError(f"no {label} here")
        self.labels.append(label)


@pytest.fixture
def connection(tmp_path: Path) -> Iterator[Watched]:
    """A file of its own."""
    made = Watched(tmp_path / "names.sqlite")
    yield made
    made.real.close()


@pytest.fixture
def log() -> Told:
    """What is told on commit."""
    return Told()


@pytest.fixture
def writer(connection: Watched, log: Told) -> Iterator[Writer]:
    """A writer over it, closed in the end."""
    made = Writer(connection, Log(connection.real), log)
    yield made
    connection.free.set()
    made.close()


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


def test_a_lone_write_is_not_delayed(writer: Writer, connection: Watched) -> None:
    """A job that is alone is committed at once, by itself."""
    for number in range(3):
        assert insert(writer, number).result(timeout=60) == f"n{number}"
        assert connection.commits == number + 1


def test_waiting_writes_share_a_commit(writer: Writer, connection: Watched) -> None:
    """Jobs that wait together are committed together, at most a group's worth at once, in their order."""
    first = hold(writer, connection)
    waiting = [insert(writer, number) for number in range(1, 2 * GROUP_LIMIT + 2)]
    assert not any(future.done() for future in (first, *waiting))
    connection.free.set()
    assert [future.result(timeout=60) for future in waiting] == [f"n{n}" for n in range(1, 2 * GROUP_LIMIT + 2)]
    assert connection.commits == 1 + 3
    assert connection.names() == [f"n{n}" for n in range(2 * GROUP_LIMIT + 2)]


def test_many_threads_share_commits(writer: Writer, connection: Watched) -> None:
    """Writes of many threads that come during one commit need one more, not one each."""
    hold(writer, connection)
    threads = [threading.Thread(target=insert, args=(writer, number)) for number in range(1, 33)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    last = insert(writer, 33)
    connection.free.set()
    last.result(timeout=60)
    assert connection.commits == 2
    assert len(connection.names()) == 34


def test_a_failing_job_is_undone_alone(writer: Writer, connection: Watched, log: Told) -> None:
    """A job that raises tells its own caller and leaves no trace; the others of its group are committed."""

    def half(connection: Any) -> Written:
        connection.execute("INSERT INTO names VALUES ('half')")
        raise KeyError("the rest")

    hold(writer, connection)
    before, broken, twice, after = insert(writer, 1), writer.submit(half), insert(writer, 1), insert(writer, 2)
    connection.free.set()
    assert (before.result(timeout=60), after.result(timeout=60)) == ("n1", "n2")
    assert isinstance(broken.exception(timeout=60), KeyError)
    assert isinstance(twice.exception(timeout=60), sqlite3.IntegrityError)
    assert connection.names() == ["n0", "n1", "n2"]
    assert log.labels == [0, 1, 2]


def test_acts_queued_together_are_told_apart(writer: Writer, connection: Watched, log: Told) -> None:
    """They are one future's, with a result or an error for each, and no savepoint is spent where none raises."""
    assert writer.submit_all([naming(1), naming(2)]).result(timeout=60) == ["n1", "n2"]
    assert "SAVEPOINT act" not in connection.said
    neighbor = hold(writer, connection)
    several, after = writer.submit_all([naming(3), naming(1), naming(4)]), insert(writer, 5)
    connection.free.set()
    (third, first, fourth) = several.result(timeout=60)
    assert (third, fourth, neighbor.result(60), after.result(60)) == ("n3", "n4", "n0", "n5")
    assert isinstance(first, sqlite3.IntegrityError)
    assert connection.names() == ["n1", "n2", "n0", "n3", "n4", "n5"]
    assert log.labels == [1, 2, 0, 3, 4, 5]


def test_a_group_ends_after_enough_acts_not_jobs(writer: Writer, connection: Watched) -> None:
    """Jobs of many acts share a transaction only until it has as many as a group may have."""
    hold(writer, connection)
    nothing: list[Act] = [lambda _: Written(None, IndexChange([("c", 9)]))] * (GROUP_LIMIT - 1)
    waiting = [writer.submit_all(nothing) for _ in range(4)]
    connection.free.set()
    assert all(len(each.result(timeout=60)) == len(nothing) for each in waiting)
    assert connection.commits == 1 + 2


def test_a_full_disk_refuses_only_what_does_not_fit_of_acts_queued_together(
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
    assert broken.told.code is Code.RESOURCE_EXHAUSTED
    assert connection.names() == ["n1", "n2"]


def test_a_failing_commit_fails_its_whole_group(writer: Writer, connection: Watched, log: Told) -> None:
    """When the disk refuses a group none of it is there, every caller is told, and the writer goes on."""
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
    assert error.told.code is Code.RESOURCE_EXHAUSTED
    assert error.told.retry_after is None
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
    """After a flush that failed nothing is begun before the log was emptied; until it can be, writes are refused."""
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


class FailingLog(Log):
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

    def renew(self) -> bool:
        """Count it."""
        self.renewed += 1
        return super().renew()


@pytest.mark.parametrize(
    ("error", "renewals"), [(OSError("no room to grow"), 0), (sqlite3.OperationalError("disk I/O error"), 1)]
)
def test_a_checkpoint_that_fails(connection: Watched, error: Exception, renewals: int) -> None:
    """Without room for a checkpoint writes go on; where it failed midway the log is begun anew before the next one."""
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


def test_index_hears_before_the_caller(connection: Watched) -> None:
    """What a write means for the index is told after its commit, in commit order, and before its caller hears of it."""
    heard: list[tuple[int, bool, list[str]]] = []
    futures: dict[int, Future[str]] = {}

    def on_commit(change: IndexChange) -> None:
        ((_, label),) = change.removed
        heard.append((label, futures[label].done(), connection.names()))

    writer = Writer(connection, Log(connection.real), on_commit)
    connection.free.clear()
    for number in range(5):
        futures[number] = insert(writer, number)
    connection.free.set()
    writer.close()
    assert [(label, done) for label, done, _ in heard] == [(number, False) for number in range(5)]
    assert all(f"n{label}" in names for label, _, names in heard)
    assert all(future.done() for future in futures.values())


def test_a_failing_index_fails_its_caller(writer: Writer, connection: Watched, log: Told) -> None:
    """When the index raises on a change its caller is told; the others of the group, and later ones, are served."""
    log.refused.add(2)
    hold(writer, connection)
    futures = [insert(writer, number) for number in (1, 2, 3)]
    connection.free.set()
    assert [future.exception(timeout=60) is None for future in futures] == [True, False, True]
    assert str(futures[1].exception()) == "no 2 here"
    assert insert(writer, 4).result(timeout=60) == "n4"
    assert log.labels == [0, 1, 3, 4]


def test_a_cancelled_write_is_not_begun(writer: Writer, connection: Watched, log: Told) -> None:
    """A job whose caller gave up while it waited is left out; one already begun can no longer be cancelled."""
    begun = hold(writer, connection)
    waiting, other = insert(writer, 1), insert(writer, 2)
    assert not begun.cancel()
    assert waiting.cancel()
    connection.free.set()
    assert other.result(timeout=60) == "n2"
    assert connection.names() == ["n0", "n2"]
    assert log.labels == [0, 2]


def test_close_finishes_what_is_queued(writer: Writer, connection: Watched) -> None:
    """Closing waits for every write queued before it; a write after it is refused."""
    hold(writer, connection)
    waiting = [insert(writer, number) for number in range(1, 2 * GROUP_LIMIT)]
    closing = threading.Thread(target=writer.close)
    closing.start()
    connection.free.set()
    closing.join(timeout=60)
    assert not closing.is_alive()
    assert all(future.done() for future in waiting)
    assert len(connection.names()) == 2 * GROUP_LIMIT
    with pytest.raises(RuntimeError, match="the store is closed"):
        insert(writer, 500)


def test_close_twice(writer: Writer) -> None:
    """Closing again does nothing."""
    writer.close()
    writer.close()
