"""The writer thread over a real SQLite connection: groups, rollbacks, order, and closing."""

from __future__ import annotations

import sqlite3
import threading
from concurrent.futures import Future
from typing import Any

import pytest

from lookalike_server.domain.catalog import IndexChange
from lookalike_server.store.wal import Wal
from lookalike_server.store.write_jobs import WriteOp, WriteResult
from lookalike_server.store.writer import GROUP_LIMIT, Writer
from support.writer_fakes import FaultyConnection, RecordingIndex, hold, insert, insert_op


def test_a_lone_write_is_not_delayed(writer: Writer, connection: FaultyConnection) -> None:
    """A lone write is committed at once, in its own transaction."""
    for number in range(3):
        assert insert(writer, number).result(timeout=60) == f"n{number}"
        assert connection.commits == number + 1


def test_waiting_writes_share_a_commit(writer: Writer, connection: FaultyConnection) -> None:
    """Writes that wait together are committed together, up to the group limit, in their order."""
    first = hold(writer, connection)
    waiting = [insert(writer, number) for number in range(1, 2 * GROUP_LIMIT + 2)]
    assert not any(future.done() for future in (first, *waiting))
    connection.free.set()
    assert [future.result(timeout=60) for future in waiting] == [f"n{n}" for n in range(1, 2 * GROUP_LIMIT + 2)]
    assert connection.commits == 1 + 3
    assert connection.names() == [f"n{n}" for n in range(2 * GROUP_LIMIT + 2)]


def test_many_threads_share_commits(writer: Writer, connection: FaultyConnection) -> None:
    """Writes of many threads that arrive during one commit share the next one."""
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


def test_a_failing_job_is_undone_alone(
    writer: Writer, connection: FaultyConnection, recording_index: RecordingIndex
) -> None:
    """A write that raises fails its own caller and is undone; the others of its group are committed."""

    def half(connection: Any) -> WriteResult:
        connection.execute("INSERT INTO names VALUES ('half')")
        raise KeyError("the rest")

    hold(writer, connection)
    before, broken, twice, after = insert(writer, 1), writer.submit(half), insert(writer, 1), insert(writer, 2)
    connection.free.set()
    assert (before.result(timeout=60), after.result(timeout=60)) == ("n1", "n2")
    assert isinstance(broken.exception(timeout=60), KeyError)
    assert isinstance(twice.exception(timeout=60), sqlite3.IntegrityError)
    assert connection.names() == ["n0", "n1", "n2"]
    assert recording_index.labels == [0, 1, 2]


def test_operations_queued_together_have_separate_outcomes(
    writer: Writer, connection: FaultyConnection, recording_index: RecordingIndex
) -> None:
    """Their future has a value or an error for each; without errors no savepoint is used."""
    assert writer.submit_all([insert_op(1), insert_op(2)]).result(timeout=60) == ["n1", "n2"]
    assert "SAVEPOINT op" not in connection.statements
    first_write = hold(writer, connection)
    several, after = writer.submit_all([insert_op(3), insert_op(1), insert_op(4)]), insert(writer, 5)
    connection.free.set()
    (third, first, fourth) = several.result(timeout=60)
    assert (third, fourth, first_write.result(60), after.result(60)) == ("n3", "n4", "n0", "n5")
    assert isinstance(first, sqlite3.IntegrityError)
    assert connection.names() == ["n1", "n2", "n0", "n3", "n4", "n5"]
    assert recording_index.labels == [1, 2, 0, 3, 4, 5]


def test_the_group_limit_counts_operations(writer: Writer, connection: FaultyConnection) -> None:
    """Jobs of many operations share a transaction only up to the group limit."""
    hold(writer, connection)
    ops: list[WriteOp] = [lambda _: WriteResult(None, IndexChange([("c", 9)]))] * (GROUP_LIMIT - 1)
    waiting = [writer.submit_all(ops) for _ in range(4)]
    connection.free.set()
    assert all(len(each.result(timeout=60)) == len(ops) for each in waiting)
    assert connection.commits == 1 + 2


def test_the_index_is_updated_before_the_caller_resumes(connection: FaultyConnection) -> None:
    """The index receives changes after their commit, in commit order, and before the futures complete."""
    received: list[tuple[int, bool, list[str]]] = []
    futures: dict[int, Future[str]] = {}

    def on_commit(change: IndexChange) -> None:
        ((_, label),) = change.removed
        received.append((label, futures[label].done(), connection.names()))

    writer = Writer(connection, Wal(connection.real), on_commit)
    connection.free.clear()
    for number in range(5):
        futures[number] = insert(writer, number)
    connection.free.set()
    writer.close()
    assert [(label, done) for label, done, _ in received] == [(number, False) for number in range(5)]
    assert all(f"n{label}" in names for label, _, names in received)
    assert all(future.done() for future in futures.values())


def test_a_failing_index_fails_its_caller(
    writer: Writer, connection: FaultyConnection, recording_index: RecordingIndex
) -> None:
    """If the index raises on a change its caller gets the error; other writes of the group, and later ones, succeed."""
    recording_index.rejected.add(2)
    hold(writer, connection)
    futures = [insert(writer, number) for number in (1, 2, 3)]
    connection.free.set()
    assert [future.exception(timeout=60) is None for future in futures] == [True, False, True]
    assert str(futures[1].exception()) == "no 2 here"
    assert insert(writer, 4).result(timeout=60) == "n4"
    assert recording_index.labels == [0, 1, 3, 4]


def test_a_cancelled_write_does_not_run(
    writer: Writer, connection: FaultyConnection, recording_index: RecordingIndex
) -> None:
    """A write that is cancelled while it waits is left out; a running one can no longer be cancelled."""
    running = hold(writer, connection)
    waiting, other = insert(writer, 1), insert(writer, 2)
    assert not running.cancel()
    assert waiting.cancel()
    connection.free.set()
    assert other.result(timeout=60) == "n2"
    assert connection.names() == ["n0", "n2"]
    assert recording_index.labels == [0, 2]


def test_close_finishes_what_is_queued(writer: Writer, connection: FaultyConnection) -> None:
    """Closing waits for every queued write; later writes are rejected."""
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
