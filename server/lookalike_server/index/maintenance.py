"""The work on graphs in the background: one thread of lower priority, one step of one category at a time."""

from __future__ import annotations

import ctypes
import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass

from lookalike_server.domain.events import GraphBuilt, IndexMaintenanceFailed, Observer
from lookalike_server.index.graph_files import GraphFiles
from lookalike_server.index.pacing import MaintenanceStopped, Pacing
from lookalike_server.index.partition import Partition
from lookalike_server.index.row_files import RowFiles
from lookalike_server.index.trusted_files import TrustedFiles
from lookalike_server.priority import lower_priority

_LEARNING_RATE = 0.2  # weight of the newest step in the moving average of a row's duration
_NICE = 10  # by how much the thread is nicer than searches, so that they come first


@dataclass(frozen=True, slots=True)
class IndexFiles:
    """What the index keeps for the next start."""

    trusted: TrustedFiles
    graphs: GraphFiles
    rows: RowFiles


class Maintenance:
    """Builds, looks up, compacts and saves the graphs of partitions, and runs other work in its thread.

    Attributes:
        files: The files of graphs and rows; None before there is a folder.
        pacing: A context for searches, which come first.
    """

    def __init__(
        self, partitions: Mapping[str, Partition], lock: threading.Lock, observer: Observer, threads: int
    ) -> None:
        """Maintain these partitions, which change under the lock, with up to so many threads."""
        self._partitions = partitions
        self._lock = lock
        self._observer = observer
        self._thread = ThreadPoolExecutor(1, "index-maintenance", initializer=lower_priority, initargs=(_NICE,))
        self._busy: set[str] = set()
        self._unattached: set[str] = set()
        self._row_seconds = 0.001  # for which a row is added to a graph; a moving average
        self.pacing = Pacing(threads)
        self.files: IndexFiles | None = None

    def is_busy(self, category: str) -> bool:
        """Return whether something is being done for a category, or will be."""
        return category in self._busy

    def submit(self, work: Callable[..., object], *arguments: object) -> bool:
        """Run something after what is due now; return whether it will, which it will not where the index closes."""
        with suppress(RuntimeError):
            self._thread.submit(work, *arguments)
            return True
        return False

    def await_graphs(self, category: str) -> None:
        """Read the graphs of a category later, whose rows were loaded. Under the lock."""
        self._unattached.add(category)

    def attach(self, category: str) -> None:
        """Read the graphs of a category now, if that is still to do; for the thread of this."""
        partition = self._partitions.get(category)
        if category in self._unattached and partition is not None and self.files is not None:
            if not partition.has_device:
                partition.attach(self.files.graphs.load(category))
            partition.load_attributes()
        self._unattached.discard(category)

    def check(self, category: str) -> None:
        """Begin what a category needs, unless that was begun."""
        with self._lock:
            partition = self._partitions.get(category)
            has_stale_files = partition is None and self.files is not None and self.files.trusted.has(category)
            needed = has_stale_files or (partition is not None and partition.needs_maintenance)
            needed |= category in self._unattached
            if not needed or category in self._busy:
                return
            self._busy.add(category)
        if not self.submit(self._step, category):
            self._busy.discard(category)

    def backlog_seconds(self, category: str) -> float:
        """Predict how long writes to a category should wait for its graphs (see `VectorIndex`)."""
        partition = self._partitions.get(category)
        return partition.backlog * self._row_seconds if partition is not None else 0.0

    def wait_until_idle(self) -> None:
        """Wait for all that was begun, and what follows from it."""
        self._thread.submit(int).result()
        while self._busy:
            self._thread.submit(int).result()

    def close(self) -> None:
        """Stop, once a running piece of work has ended."""
        self.pacing.stop()
        self._thread.shutdown(cancel_futures=True)

    def _step(self, category: str) -> None:
        """Do one step of what a category needs, and save its graphs after the last one.

        After an error, searches use what there is.
        """
        try:
            self.attach(category)
            partition = self._partitions.get(category)
            if partition is not None and partition.needs_maintenance:
                self._maintain(category, partition)
                if partition.needs_maintenance:
                    self.submit(self._step, category)  # after what other categories need by now
                    return
            self._save(category, partition)
        except MaintenanceStopped:
            return
        except Exception as error:  # noqa: BLE001 - the thread must outlive it
            self._observer(IndexMaintenanceFailed(category, error))
            self._busy.discard(category)
            return
        self._busy.discard(category)
        _release_memory()
        # A change just before the discard found the category busy, and did not begin anything.
        self.check(category)

    def _save(self, category: str, partition: Partition | None) -> None:
        if self.files is not None:
            self.files.graphs.save(category, partition.saved() if partition is not None else [])
            rows = self.files.rows
            if rows.is_due(category, partition.row_count if partition is not None else 0):
                rows.save(category, partition.rows_to_save() if partition is not None else None, self.pacing)

    def _maintain(self, category: str, partition: Partition) -> None:
        began = time.monotonic()
        added = partition.maintain(self.pacing)
        if added:
            self._row_seconds += _LEARNING_RATE * ((time.monotonic() - began) / added - self._row_seconds)
            self._observer(GraphBuilt(category, len(partition)))


def _release_memory() -> None:
    # A build needs several times the memory of its result, and glibc keeps freed memory: a tenth of a catalog's.
    with suppress(AttributeError):  # a C library other than glibc
        ctypes.CDLL(None).malloc_trim(0)
