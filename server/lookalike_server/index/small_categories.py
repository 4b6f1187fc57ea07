"""Categories of few rows, which share matrices: a hundred thousand of them are a dozen shards, each compared at once.

A category is in one shard. It moves to another one if its shard is full, or if too much of its shard is deleted: then
all categories leave it, a few at a time, and the shard is dropped.
"""

from __future__ import annotations

import heapq
import threading
from collections.abc import Sequence
from itertools import islice

from lookalike_server.domain.catalog import IndexRow
from lookalike_server.domain.filters import Condition
from lookalike_server.index.lazy_loading import PartitionChange
from lookalike_server.index.row_counts import RowCounts
from lookalike_server.index.row_storage import BLOCK_BYTES, rows_in
from lookalike_server.index.segment import PartitionSettings
from lookalike_server.index.shard import SLOT_BYTES, Shard
from lookalike_server.index.snapshot import Snapshot
from lookalike_server.pausing import pausing

_SPARSE_RATIO = 0.2  # of a shard's rows; with more deleted ones, all categories leave it
_MAX_ROWS = 256  # of a small category
_MAX_BYTES = 2 << 20  # of its vectors, which a search of it copies, and which move between shards under the lock
_GROWTH_SHARE = 8  # one in this many rows of a shard is kept for the categories that are in it
_STEP_ROWS = 64  # that move in one step of maintenance, while no search can begin


class SmallCategories:
    """All small categories. One thread changes them, another one may maintain them; any thread searches."""

    def __init__(self, settings: PartitionSettings) -> None:
        self._settings = settings
        self._capacity = min(settings.max_shard_rows, rows_in(BLOCK_BYTES, settings.dim))
        self.max_rows = min(
            _MAX_ROWS, settings.full_scan_threshold, _MAX_BYTES // (4 * max(1, settings.dim)), self._capacity // 4
        )
        """The most rows of a small category; 0 if the vectors are so long that sharing gains nothing."""
        self._lock = threading.Lock()
        self._shard_of: dict[str, Shard] = {}
        self._shards: list[Shard] = []
        self._sparse: list[Shard] = []  # those that are to be emptied
        self._open: Shard | None = None  # takes new categories

    def __len__(self) -> int:
        """Count the categories."""
        return len(self._shard_of)

    def __contains__(self, category: str) -> bool:
        """Return whether the category is here; does not block."""
        return category in self._shard_of

    @property
    def shards(self) -> Sequence[Shard]:
        """The shards, oldest first."""
        return tuple(self._shards)

    @property
    def needs_maintenance(self) -> bool:
        """Whether too many rows of a shard are deleted."""
        return bool(self._sparse)

    def fits(self, category: str, change: PartitionChange) -> bool:
        """Return whether the category is small after this change."""
        with self._lock:
            shard = self._shard_of.get(category)
            rows = 0 if shard is None else shard.count(category)
        return rows + len(change.added) - len(change.removed) <= self.max_rows

    def change(self, category: str, change: PartitionChange) -> None:
        """Change a category that is small afterwards; a search of it sees the whole change or nothing."""
        with self._lock:
            shard = self._shard_of.get(category)
            if shard is None:
                if not change.added:
                    return
                shard = self._shard_of[category] = self._with_room(len(change.added))
            elif shard.room < len(change.added):
                shard = self._move(category, len(change.added))
            shard.change(category, change)
            if category not in shard:
                del self._shard_of[category]
            self._check(shard)

    def rows(self, category: str) -> list[IndexRow]:
        """Return the rows of a category; none if it is not here."""
        with self._lock:
            shard = self._shard_of.get(category)
            return shard.rows(category) if shard is not None else []

    def largest(self, most: int) -> tuple[dict[str, RowCounts], RowCounts]:
        """Return the rows of the largest `most` categories by name, and of the others together with all deleted ones.

        In any thread but the event loop's, for which it pauses. The lock is held for one shard at a time, because
        searches wait for it.
        """
        found: list[tuple[int, str]] = []
        live = dead = 0
        for shard in pausing(self.shards):
            with self._lock:
                sizes = shard.sizes()
                live += shard.row_count - shard.deleted_count
                dead += shard.deleted_count
            found = heapq.nlargest(most, pausing([*found, *sizes]))
        largest = {category: RowCounts(size // SLOT_BYTES) for size, category in found}
        return largest, RowCounts(live - sum(rows.live for rows in largest.values()), dead)

    def drop(self, category: str) -> None:
        """Remove a category, if it is here."""
        with self._lock:
            shard = self._shard_of.pop(category, None)
            if shard is not None:
                shard.drop(category)
                self._check(shard)

    def snapshot(self, category: str, conditions: Sequence[Condition]) -> Snapshot | None:
        """Return a snapshot of the rows of a category that meet the conditions; None if it is not here."""
        with self._lock:
            shard = self._shard_of.get(category)
            return shard.snapshot_of(category, conditions) if shard is not None else None

    def snapshots(self, conditions: Sequence[Condition]) -> list[Snapshot]:
        """Return snapshots of all categories, together, at the same moment."""
        with self._lock:
            return [shard.snapshot(conditions) for shard in self._shards]

    def maintain(self) -> None:
        """Move a few categories out of a shard of which too many rows are deleted; searches hardly wait for it."""
        with self._lock:
            if not self._sparse:
                return
            shard = self._sparse[0]
            moved = 0
            for category in list(islice(shard, _STEP_ROWS)):
                moved += shard.count(category)
                self._move(category)
                if moved >= _STEP_ROWS:
                    break

    def _move(self, category: str, more: int = 0) -> Shard:
        """Move a category to a shard that has room for it and for some more rows."""
        before = self._shard_of[category]
        rows = before.rows(category)
        shard = self._shard_of[category] = self._with_room(len(rows) + more)
        shard.change(category, PartitionChange(added=rows))
        before.drop(category)
        self._check(before)
        return shard

    def _with_room(self, rows: int) -> Shard:
        if self._open is None or self._open.room - self._capacity // _GROWTH_SHARE < rows:
            self._open = Shard(self._settings, self._capacity)
            self._shards.append(self._open)
        return self._open

    def _check(self, shard: Shard) -> None:
        """Drop a shard that is empty, and have one emptied of which too many rows are deleted."""
        empty = not len(shard)
        if not empty and shard.deleted_count <= max(self.max_rows, _SPARSE_RATIO * shard.row_count):
            return
        if shard is self._open:
            self._open = None
        if shard in self._sparse:
            if empty:
                self._sparse.remove(shard)
        elif not empty:
            self._sparse.append(shard)
        if empty:
            self._shards.remove(shard)
