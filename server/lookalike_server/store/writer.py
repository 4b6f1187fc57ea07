"""The writer thread: runs queued operations in transactions and completes their futures once the disk has them.

Operations that wait at the same time share a transaction, hence one flush (group commit); a lone one is not delayed.
If an operation raises, the group runs again with each operation in a SAVEPOINT, so that only the failing one is undone:
that is rare, and savepoints cost two statements each. The index receives the changes in commit order, before the
callers' futures complete, so that callers find what they wrote (see `delivery.py`).

If the disk rejects a write or a flush, nothing of the group is stored. On a full disk each operation is then tried
alone, so that one that does not fit fails no other. On a failing disk every caller of the group gets the error, and the
WAL is reset before anything else is acknowledged, because a later flush that succeeds proves nothing about its contents
(see `wal.py`). Until the reset succeeds, every write is rejected.

After a failed flush it is open whether a crash would keep the group: its frames may have reached the disk after all. It
is kept as a whole or not at all, and its callers got INTERNAL.
"""

from __future__ import annotations

import contextlib
import errno
import queue
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from typing import Any, Protocol

from lookalike_server.domain.catalog import IndexChange
from lookalike_server.domain.errors import disk_full
from lookalike_server.domain.events import TransactionCommitted
from lookalike_server.store.damage import Damage
from lookalike_server.store.delivery import Delivery
from lookalike_server.store.wal import Wal
from lookalike_server.store.write_jobs import SingleWriteJob, Step, WriteItem, WriteJob, WriteOp, WriteResult, steps

_OVERHEAD = 12 << 10  # bytes an operation writes besides its data: the pages of its rows and their indexes

GROUP_LIMIT = 64
"""No more jobs join a transaction of this many operations, so that its first caller does not wait indefinitely."""


class Connection(Protocol):
    """The part of an SQLite connection that the writer uses."""

    def execute(self, sql: str, /) -> Any:
        """Run one statement."""


class Writer:
    """Owns the thread and, until `close`, the only connection that writes.

    Attributes:
        damage: Gets the errors that say that the file is damaged; the store has one for its reads too.
        on_transaction: Receives every transaction that is committed, in the writer's thread; None for nobody.
    """

    def __init__(self, connection: Connection, wal: Wal, on_commit: Callable[[IndexChange], None]) -> None:
        self._connection = connection
        self.on_transaction: Callable[[TransactionCommitted], None] | None = None
        self.damage = Damage()
        self._wal = wal
        self._delivery = Delivery(on_commit)
        self._jobs: queue.SimpleQueue[WriteJob | None] = queue.SimpleQueue()
        self._failure: Exception | None = None
        """The disk error since which the WAL cannot be trusted, if any."""
        self._closed = False
        self._lock = threading.Lock()
        self._thread = threading.Thread(target=self._loop, name="store-writer", daemon=True)
        self._thread.start()

    def submit(self, op: WriteOp) -> Future[Any]:
        """Queue an operation; the future has its value once it is durable, or its exception (`ServerError`: disk full).

        Raises:
            RuntimeError: The store is closed.
        """
        return self._queue(SingleWriteJob(op))

    def submit_all(self, ops: Sequence[WriteOp]) -> Future[list[Any]]:
        """Queue one or more operations; the future has the value or exception of each once all are durable.

        Raises:
            RuntimeError: The store is closed.
        """
        return self._queue(WriteJob(ops))

    def _queue(self, job: WriteJob) -> Future[Any]:
        with self._lock:
            if self._closed:
                raise RuntimeError("the store is closed")
            self._jobs.put(job)
        return job.future

    def close(self) -> None:
        """Finish the queue, then stop; the connection is the caller's again."""
        with self._lock:
            self._closed = True
            self._jobs.put(None)
        self._thread.join()
        self._delivery.close()
        if self._failure is None:
            self._checkpoint()  # before SQLite does it, on closing the connection

    def _loop(self) -> None:
        while True:
            job = self._jobs.get()
            if job is None:
                return
            group = [job]
            ops = len(job.items)
            last = False
            while ops < GROUP_LIMIT and not self._jobs.empty():
                following = self._jobs.get()
                if following is None:
                    last = True
                    break
                group.append(following)
                ops += len(following.items)
            # Jobs cancelled while they waited are left out; from here on they can no longer be cancelled.
            running = [job for job in group if job.future.set_running_or_notify_cancel()]
            self._transact([item for job in running for item in job.items])
            if last:
                return

    def _transact(self, items: list[WriteItem], *, savepoints: bool = False) -> None:
        """Run these in one transaction and complete them; with `savepoints`, each can be undone alone."""
        done: list[tuple[Step, WriteResult]] = []
        try:
            self._reset_wal()
            began = time.monotonic()
            self._connection.execute("BEGIN IMMEDIATE")
            if savepoints:
                for item in items:
                    self._run_in_savepoint(item, done)
            else:
                done += [(step, step.run(self._connection)) for step in steps(items)]
            self._connection.execute("COMMIT")
        except Exception as error:  # noqa: BLE001 - a full or failing disk, or an operation's own
            self._rollback()
            if _has_failed(error):
                self._failure = error
            pending = [item for item in items if not item.completed]
            if len(pending) > 1 and _is_full(error):
                for item in pending:
                    self._transact([item])  # what does not fit must not fail what does
            elif len(pending) > 1 and not savepoints and not _has_failed(error):
                self._transact(pending, savepoints=True)
            else:
                for item in pending:
                    item.complete(self.damage.public_error(public_error(error)))
            return
        if self.on_transaction is not None:
            operations = sum(len(step.items) for step, _ in done)
            self.on_transaction(TransactionCommitted(operations, time.monotonic() - began))
        self._delivery.deliver(done, at_once=self._jobs.empty())
        if self._wal.record_write(sum(result.size + _OVERHEAD * len(step.items) for step, result in done)):
            self._checkpoint()

    def _run_in_savepoint(self, item: WriteItem, done: list[tuple[Step, WriteResult]]) -> None:
        self._connection.execute("SAVEPOINT op")
        try:
            step = Step((item,))
            done.append((step, step.run(self._connection)))
        except Exception as error:  # noqa: BLE001 - whatever an operation raises belongs to its caller
            self._rollback_to_savepoint(error)
            item.complete(self.damage.public_error(public_error(error)))
        self._connection.execute("RELEASE op")

    def _checkpoint(self) -> None:
        try:
            self._wal.checkpoint()
        except OSError:
            pass  # the WAL's contents are safe, and the next checkpoint is soon
        except Exception as error:  # noqa: BLE001 - SQLite's; every write is rejected until the WAL is reset
            self._failure = error

    def _reset_wal(self) -> None:
        """Reset the WAL if it cannot be trusted; raises if that is impossible now."""
        if self._failure is not None:
            if not self._wal.reset():
                raise self._failure
            self._failure = None

    def _rollback_to_savepoint(self, error: Exception) -> None:
        try:
            self._connection.execute("ROLLBACK TO op")
        except Exception:  # noqa: BLE001 - a consequence of the first error
            # On a full or failing disk SQLite undoes the whole transaction, savepoints and all, so the group fails.
            raise error from None

    def _rollback(self) -> None:
        # After an error of its own SQLite has already rolled back, and rejects a second ROLLBACK.
        with contextlib.suppress(Exception):
            self._connection.execute("ROLLBACK")


def _has_failed(error: Exception) -> bool:
    """Whether the disk failed, by SQLite's error name."""
    return str(getattr(error, "sqlite_errorname", "")).startswith("SQLITE_IOERR")


def _is_full(error: Exception) -> bool:
    if isinstance(error, OSError):
        return error.errno == errno.ENOSPC
    return getattr(error, "sqlite_errorname", "") == "SQLITE_FULL"


def public_error(error: Exception) -> Exception:
    """Return the error as its caller gets it: a `ServerError` that explains it if the disk is full."""
    if not _is_full(error):
        return error
    fault = disk_full()
    fault.__cause__ = error
    return fault
