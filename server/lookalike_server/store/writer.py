"""One thread that writes: it runs queued acts in transactions and tells their callers once the disk has them.

What waits together shares one transaction, hence one flush (group commit); a lone act is not delayed. Where an act
raises, the group is done again with each act in a SAVEPOINT, so that it is undone alone: that is rare, and savepoints
cost each act two statements. What an act means for the index is handed on in commit order, before its caller hears of
it, so a caller finds what it wrote.

When the disk rejects a write or a flush, nothing of the group is done. Where it is full each act is tried alone then,
so that what does not fit fails nothing else. Where it failed every caller of the group is told, and the log is begun
again before anything else is acknowledged, for a later flush that succeeds proves nothing of what is in it (`wal.py`);
until that can be done every write is rejected.

What a failed flush leaves open is whether the group is there after a crash: its frames may have reached the disk after
all. It is there as a whole or not at all, and its callers heard INTERNAL.
"""

from __future__ import annotations

import contextlib
import errno
import queue
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from typing import Any, Protocol

from lookalike_server.domain.catalog import IndexChange
from lookalike_server.domain.errors import disk_full
from lookalike_server.store.wal import Wal
from lookalike_server.store.write_jobs import Act, Item, Job, LoneJob, Written

_OVERHEAD = 12 << 10  # bytes an act writes besides what it stores: the pages of its rows and their indexes

GROUP_LIMIT = 64
"""EngineApi after which no more are taken into a transaction, so that the first of them does not wait for an endless one."""


class Connection(Protocol):
    """The part of an SQLite connection that the writer steers."""

    def execute(self, sql: str, /) -> Any:
        """Run one statement."""


class Writer:
    """Owns the thread and, from the start to `close`, the only connection that writes."""

    def __init__(self, connection: Connection, log: Wal, on_commit: Callable[[IndexChange], None]) -> None:
        self._connection = connection
        self._log = log
        self._on_commit = on_commit
        self._jobs: queue.SimpleQueue[Job | None] = queue.SimpleQueue()
        self._failure: Exception | None = None
        """Why the log cannot be relied on, where it cannot."""
        self._closed = False
        self._lock = threading.Lock()
        self._thread = threading.Thread(target=self._loop, name="store-writer", daemon=True)
        self._thread.start()

    def submit(self, act: Act) -> Future[Any]:
        """Queue an act; its future has its result once it is durable, or what it raised (`ServerError`: disk full).

        Raises:
            RuntimeError: The store is closed.
        """
        return self._queue(LoneJob(act))

    def submit_all(self, acts: Sequence[Act]) -> Future[list[Any]]:
        """Queue acts, at least one; the future has for each its result once all are durable, or what it raised.

        Raises:
            RuntimeError: The store is closed.
        """
        return self._queue(Job(acts))

    def _queue(self, job: Job) -> Future[Any]:
        with self._lock:
            if self._closed:
                raise RuntimeError("the store is closed")
            self._jobs.put(job)
        return job.future

    def close(self) -> None:
        """Finish what is queued, then stop; the connection is the caller's again."""
        with self._lock:
            self._closed = True
            self._jobs.put(None)
        self._thread.join()
        if self._failure is None:
            self._checkpoint()  # before SQLite does it, on closing the connection

    def _loop(self) -> None:
        while True:
            job = self._jobs.get()
            if job is None:
                return
            group = [job]
            acts = len(job.items)
            last = False
            while acts < GROUP_LIMIT and not self._jobs.empty():
                following = self._jobs.get()
                if following is None:
                    last = True
                    break
                group.append(following)
                acts += len(following.items)
            # A caller that gave up before its job began is left out; from here on a job can no longer be cancelled.
            going = [job for job in group if job.future.set_running_or_notify_cancel()]
            self._transact([item for job in going for item in job.items])
            if last:
                return

    def _transact(self, items: list[Item], *, apart: bool = False) -> None:
        """Do these, and tell their callers; `apart`: so that each can be undone alone."""
        done: list[tuple[Item, Written]] = []
        try:
            self._trust_log()
            self._connection.execute("BEGIN IMMEDIATE")
            for item in items:
                if apart:
                    self._do_apart(item, done)
                else:
                    done.append((item, item.act(self._connection)))
            self._connection.execute("COMMIT")
        except Exception as error:  # noqa: BLE001 - a full or failing disk, or an act's own
            self._undo()
            if _has_failed(error):
                self._failure = error
            undecided = [item for item in items if not item.decided]
            if len(undecided) > 1 and _is_full(error):
                for item in undecided:
                    self._transact([item])  # what does not fit shall not fail what does
            elif len(undecided) > 1 and not apart and not _has_failed(error):
                self._transact(undecided, apart=True)
            else:
                for item in undecided:
                    item.decide(_public_error(error))
            return
        for item, written in done:
            try:
                self._on_commit(written.change)
            except Exception as error:  # noqa: BLE001 - the thread must outlive a fault of the index
                item.decide(error)
            else:
                item.decide(written.result)
        if self._log.wrote(sum(written.size + _OVERHEAD for _, written in done)):
            self._checkpoint()

    def _do_apart(self, item: Item, done: list[tuple[Item, Written]]) -> None:
        self._connection.execute("SAVEPOINT act")
        try:
            done.append((item, item.act(self._connection)))
        except Exception as error:  # noqa: BLE001 - whatever an act raises belongs to its caller
            self._undo_act(error)
            item.decide(_public_error(error))
        self._connection.execute("RELEASE act")

    def _checkpoint(self) -> None:
        try:
            self._log.checkpoint()
        except OSError:
            pass  # what the log holds is safe, and the next time is soon
        except Exception as error:  # noqa: BLE001 - SQLite's; every write is rejected until the log is begun again
            self._failure = error

    def _trust_log(self) -> None:
        """Begin the log again where it cannot be relied on; raises where that cannot be done now."""
        if self._failure is not None:
            if not self._log.reset():
                raise self._failure
            self._failure = None

    def _undo_act(self, error: Exception) -> None:
        try:
            self._connection.execute("ROLLBACK TO act")
        except Exception:  # noqa: BLE001 - what comes of an error that was there before
            # On a full or failing disk SQLite undoes the whole transaction, savepoints and all; so fails the group.
            raise error from None

    def _undo(self) -> None:
        # SQLite has already rolled back when the error was its own, and then rejects to do it again.
        with contextlib.suppress(Exception):
            self._connection.execute("ROLLBACK")


def _has_failed(error: Exception) -> bool:
    """Whether the disk failed, as SQLite says."""
    return str(getattr(error, "sqlite_errorname", "")).startswith("SQLITE_IOERR")


def _is_full(error: Exception) -> bool:
    if isinstance(error, OSError):
        return error.errno == errno.ENOSPC
    return getattr(error, "sqlite_errorname", "") == "SQLITE_FULL"


def _public_error(error: Exception) -> Exception:
    """The error as its caller gets it; SQLite's own are known by the names that it gives them."""
    if not _is_full(error):
        return error
    fault = disk_full()
    fault.__cause__ = error
    return fault
