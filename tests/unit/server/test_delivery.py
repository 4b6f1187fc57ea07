"""What was committed reaches the index and its callers in commit order, beside the transactions that follow."""

from __future__ import annotations

import threading

from lookalike_server.domain.catalog import IndexChange
from lookalike_server.store.wal import Wal
from lookalike_server.store.writer import GROUP_LIMIT, Writer
from support.writer_fakes import FaultyConnection, hold, insert


class HeldIndex:
    """Holds the first change that does not come alone, and records the labels and threads of all."""

    def __init__(self) -> None:
        self.labels: list[int] = []
        self.threads: list[str] = []
        self.held = threading.Event()
        self.free = threading.Event()

    def __call__(self, change: IndexChange) -> None:
        """Receive a change."""
        ((_, label),) = change.removed
        if label == 1:
            self.held.set()
            assert self.free.wait(timeout=60)
        self.labels.append(label)
        self.threads.append(threading.current_thread().name)


def test_a_transaction_is_committed_while_the_index_takes_the_one_before(connection: FaultyConnection) -> None:
    """While the index is busy with a transaction the next one is committed, and none of their callers resumes."""
    index = HeldIndex()
    writer = Writer(connection, Wal(connection.real), index)
    first = hold(writer, connection)
    waiting = [insert(writer, number) for number in range(1, 2 * GROUP_LIMIT + 1)]
    connection.free.set()
    assert index.held.wait(timeout=60)
    first.result(timeout=60)
    with connection.committed:
        assert connection.committed.wait_for(lambda: connection.commits == 3, timeout=60)
    assert not any(future.done() for future in waiting)
    index.free.set()
    assert [future.result(timeout=60) for future in waiting] == [f"n{n}" for n in range(1, 2 * GROUP_LIMIT + 1)]
    writer.close()
    assert index.labels == list(range(2 * GROUP_LIMIT + 1))


def test_a_lone_write_changes_no_threads(connection: FaultyConnection) -> None:
    """Where nothing else is to be written, the writer updates the index itself, so a lone write is not delayed."""
    index = HeldIndex()
    index.free.set()
    writer = Writer(connection, Wal(connection.real), index)
    for number in range(1, 4):
        insert(writer, number).result(timeout=60)
    writer.close()
    assert index.labels == [1, 2, 3]
    assert set(index.threads) == {"store-writer"}


def test_closing_delivers_everything(connection: FaultyConnection) -> None:
    """A writer that is closed while the index is busy has completed every caller when it returns."""
    index = HeldIndex()
    writer = Writer(connection, Wal(connection.real), index)
    hold(writer, connection)
    waiting = [insert(writer, number) for number in range(1, GROUP_LIMIT + 2)]
    connection.free.set()
    assert index.held.wait(timeout=60)
    closing = threading.Thread(target=writer.close)
    closing.start()
    index.free.set()
    closing.join(timeout=60)
    assert all(future.done() for future in waiting)
    assert index.labels == list(range(GROUP_LIMIT + 2))
