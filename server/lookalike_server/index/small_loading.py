"""Small categories that are in the store only: read many at once in the background, or alone when they are searched."""

from __future__ import annotations

import heapq
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import replace

from lookalike_server.domain.catalog import IndexRow
from lookalike_server.domain.protocols import RowSource
from lookalike_server.index.lazy_loading import PartitionChange, ReadPriority
from lookalike_server.index.row_counts import RowCounts
from lookalike_server.index.row_storage import rows_in
from lookalike_server.pausing import pausing

_BATCH_ROWS = 1024  # that are read by one statement in the background
_BATCH_BYTES = 8 << 20  # of their vectors

Missed = dict[str, list[PartitionChange]]
"""The changes of some categories since they began to be read, which the read may or may not have seen."""


class SmallCategoryLoader:
    """The small categories that are not in memory yet."""

    def __init__(
        self,
        dim: int,
        lock: threading.Lock,
        read_priority: ReadPriority,
        install: Callable[[str, Sequence[IndexRow]], None],
    ) -> None:
        """Begin with none.

        Args:
            dim: Dimensions of a vector.
            lock: The index's: held during each change, and while a category is installed.
            read_priority: Pauses what is read in the background.
            install: Called with each category that was read and its rows, under the lock.
        """
        self._batch_rows = min(_BATCH_ROWS, rows_in(_BATCH_BYTES, dim))
        self._lock = lock
        self._read_priority = read_priority
        self._install = install
        self._source: RowSource | None = None
        self._counts: dict[str, int] = {}
        self._pending: deque[str] = deque()  # to be read in the background, unless they were read by then
        self._reads: list[Missed] = []
        self._reading_batch = threading.Lock()

    def open(self, source: RowSource, counts: Mapping[str, int]) -> None:
        """Take over these categories of a store, with their numbers of rows."""
        self._source = source
        self._counts = dict(counts)
        self._pending = deque(counts)

    def __len__(self) -> int:
        """Count the categories that are not in memory yet."""
        return len(self._counts)

    def __contains__(self, category: str) -> bool:
        """Return whether the category is not in memory yet."""
        return category in self._counts

    def count(self, category: str) -> int:
        """Count the rows of a category that is not in memory yet; 0 for any other."""
        return self._counts.get(category, 0)

    def largest(self, most: int) -> tuple[dict[str, RowCounts], RowCounts]:
        """Return the rows of the largest `most` categories by name, and of the others together; in any thread."""
        counts = self._counts.copy()
        largest = {
            category: RowCounts(rows)
            for rows, category in heapq.nlargest(most, pausing(zip(counts.values(), counts, strict=True)))
        }
        return largest, RowCounts(sum(counts.values()) - sum(rows.live for rows in largest.values()))

    @property
    def is_pending(self) -> bool:
        """Whether there is anything left to read in the background."""
        return bool(self._pending)

    def apply(self, category: str, change: PartitionChange) -> None:
        """Record a committed change of a category that is not in memory yet. Under the lock."""
        self._counts[category] += len(change.added) - len(change.removed)
        for missed in self._reads:
            if category in missed:
                missed[category].append(change)

    def forget(self, category: str) -> None:
        """Leave a category to others to read. Under the lock."""
        del self._counts[category]

    def pending_batch(self) -> list[str]:
        """Return the categories that the background is to read next.

        Each is returned once: one that cannot be read is left to searches.
        """
        with self._lock:
            return self._first(self._popped())

    def load_all(self) -> Iterator[list[str]]:
        """Read all categories, for a search that waits; yields what was loaded, a batch each."""
        while self._counts:
            with self._lock:
                batch = self._first(self._counts)
            yield self.load(batch, urgent=True)

    def load(self, categories: Sequence[str], *, urgent: bool) -> list[str]:
        """Read some categories at once, and return those that were loaded by this call and no other."""
        # One batch at a time, because everyone who reads them begins with the same.
        with self._reading_batch if len(categories) > 1 else nullcontext():
            return self._load(categories, urgent=urgent)

    def _popped(self) -> Iterator[str]:
        while self._pending:
            yield self._pending.popleft()

    def _first(self, categories: Iterable[str]) -> list[str]:
        batch: list[str] = []
        rows = 0
        for category in categories:
            if category in self._counts:
                batch.append(category)
                rows += self._counts[category]
                if rows >= self._batch_rows:
                    break
        return batch

    def _load(self, categories: Sequence[str], *, urgent: bool) -> list[str]:
        with self._lock:
            # Changes are recorded from here on; earlier ones are in what will be read.
            missed: Missed = {category: [] for category in categories if category in self._counts}
            self._reads.append(missed)
        try:
            if not missed:
                return []
            assert self._source is not None  # noqa: S101 - only `open` adds categories
            rows: dict[str, dict[int, IndexRow]] = {category: {} for category in missed}
            for category, row in self._read_priority.pace(self._source.rows_of(list(missed)), urgent=urgent):
                rows[category][row.label] = row
            # Then every change that the read has seen is recorded, and other categories have it too.
            self._source.wait_until_applied()
            return [category for category in missed if self._take_over(category, rows.pop(category), missed)]
        finally:
            with self._lock:
                # By identity: another read of the same categories is equal.
                self._reads = [each for each in self._reads if each is not missed]

    def _take_over(self, category: str, rows: dict[int, IndexRow], missed: Missed) -> bool:
        with self._lock:
            if category not in self._counts:
                return False  # another thread read it meanwhile, or it has grown
            self._install(category, list(_caught_up(rows, missed[category]).values()))
            del self._counts[category]
            return True


def _caught_up(rows: dict[int, IndexRow], missed: Sequence[PartitionChange]) -> dict[int, IndexRow]:
    """Apply changes to rows, by label, that have some of them already.

    Labels are never reused: an added row that is present was read, and a removed one that is absent was already gone.
    """
    for change in missed:
        for label in change.removed:
            rows.pop(label, None)
        for row in change.added:
            rows.setdefault(row.label, row)
        for label, attributes in change.updated:
            if label in rows:
                rows[label] = replace(rows[label], attributes=attributes)
    return rows
