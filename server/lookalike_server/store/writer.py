"""One thread that writes: it runs queued jobs in transactions and tells their callers once the disk has them.

Jobs that wait together share one transaction, hence one flush (group commit); a lone job is not delayed. A job that
raises is undone alone (SAVEPOINT). What a job means for the index is handed on in commit order, before its caller hears
of it, so a caller finds what it wrote.
"""

from __future__ import annotations

import contextlib
import queue
import threading
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeVar

from lookalike_server.domain import IndexChange

T = TypeVar("T")

GROUP_LIMIT = 64
"""Jobs a transaction holds at most, so that the first of them does not wait for an endless group."""


class Connection(Protocol):
    """The part of an SQLite connection that the writer steers."""

    def execute(self, sql: str, /) -> Any:
        """Run one statement."""


@dataclass(frozen=True)
class Written:
    """What a job returns: the result for its caller, and what it means for the index."""

    result: Any
    change: IndexChange


@dataclass(frozen=True)
class _Job:
    run: Callable[[Any], Written]
    future: Future[Any] = field(default_factory=Future)


class Writer:
    """Owns the thread and, from the start to `close`, the only connection that writes."""

    def __init__(self, connection: Connection, on_commit: Callable[[IndexChange], None]) -> None:
        self._connection = connection
        self._on_commit = on_commit
        self._jobs: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
        self._closed = False
        self._lock = threading.Lock()
        self._thread = threading.Thread(target=self._loop, name="store-writer", daemon=True)
        self._thread.start()

    def submit(self, run: Callable[[Any], Written]) -> Future[Any]:
        """Queue a job; its future has the job's result once it is durable, or what it raised.

        Raises:
            RuntimeError: The store is closed.
        """
        job = _Job(run)
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

    def _loop(self) -> None:
        while True:
            job = self._jobs.get()
            if job is None:
                return
            group = [job]
            last = False
            while len(group) < GROUP_LIMIT and not self._jobs.empty():
                following = self._jobs.get()
                if following is None:
                    last = True
                    break
                group.append(following)
            self._commit(group)
            if last:
                return

    def _commit(self, group: list[_Job]) -> None:
        # A caller that gave up before its job began is left out; from here on a job can no longer be cancelled.
        group = [job for job in group if job.future.set_running_or_notify_cancel()]
        done: list[tuple[_Job, Written]] = []
        try:
            self._connection.execute("BEGIN IMMEDIATE")
            for job in group:
                self._connection.execute("SAVEPOINT job")
                try:
                    done.append((job, job.run(self._connection)))
                except Exception as error:  # noqa: BLE001 - whatever a job raises belongs to its caller
                    self._connection.execute("ROLLBACK TO job")
                    job.future.set_exception(error)
                self._connection.execute("RELEASE job")
            self._connection.execute("COMMIT")
        except Exception as error:  # noqa: BLE001 - a full or failing disk: nothing of the group is durable
            self._undo()
            for job in group:
                if not job.future.done():
                    job.future.set_exception(error)
            return
        for job, written in done:
            try:
                self._on_commit(written.change)
            except Exception as error:  # noqa: BLE001 - the thread must outlive a fault of the index
                job.future.set_exception(error)
            else:
                job.future.set_result(written.result)

    def _undo(self) -> None:
        # SQLite has already rolled back when the error was its own, and then refuses to do it again.
        with contextlib.suppress(Exception):
            self._connection.execute("ROLLBACK")
