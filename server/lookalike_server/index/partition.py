"""One category: a matrix of all rows and, above a threshold, segments with a graph each over most of them.

A row is searchable at once: a search merges what the graphs find with an exact scan of the rows that are in no graph
yet, or that their graph loses, drops deleted ones, and measures the rest exactly. Graphs are built in the background
and swapped in by reference; new rows are added to a copy of the last segment until it is full. The live rows of a graph
most of whose rows were deleted move to another one, and where many rows are deleted the live ones are copied
(compaction).
"""

from __future__ import annotations

import math
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from itertools import compress

import numpy as np
import numpy.typing as npt

from lookalike_server.domain.catalog import IndexKind, IndexRow
from lookalike_server.domain.filters import Condition
from lookalike_server.index.brute_force import FlatIndex, FlatView, RowsApart
from lookalike_server.index.compaction import PIECE_ROWS, Compaction
from lookalike_server.index.lazy_attributes import LazyAttributes, ReadAttributes
from lookalike_server.index.owners import OwnerColumns
from lookalike_server.index.pacing import Pacing
from lookalike_server.index.row_files import RowColumns
from lookalike_server.index.row_storage import Slots
from lookalike_server.index.segment import PartitionSettings, Segment, grown, looked_up, lost_slots_of, slots_of
from lookalike_server.index.snapshot import RowOwner, Snapshot

GONE_RATIO = 0.5
"""The share of a graph's nodes without a live row above which its live rows move to another one."""

_COMPACTION_RATIO = 1 / 3  # of the rows; with more deleted ones, the live ones are copied
_CHEAP_SCAN = 1 << 21  # dimensions of all rows together, which are compared in about half a millisecond
_CHEAP_SEGMENTS = 3  # whose graphs take about as long
_SEARCHED_SECONDS = 10.0  # since when a category counts as searched
_BACKLOG = 4  # times the rows that may wait for a graph, with which a search takes a few milliseconds


class Partition:
    """The rows of one category. One thread changes it, another one may maintain it; any thread searches."""

    def __init__(self, settings: PartitionSettings, on_fallback: Callable[[], None]) -> None:
        self._settings = settings
        self._on_fallback = on_fallback
        self._lock = threading.Lock()
        self._rows = FlatIndex(settings.dim, settings.memory)
        self._attributes = LazyAttributes()
        self._owners = OwnerColumns()
        self._slots: dict[int, int] = {}  # by label
        self._images: dict[str, int] = {}  # live rows, by product
        self._most_images = 1
        self._segments: tuple[Segment, ...] = ()
        self._searched = -math.inf  # when, by the clock
        self._changed = time.monotonic()
        self._end = 0  # slots from here on are in no graph
        self._loose: Slots = np.empty(0, dtype=np.int64)  # those before it that are in none either
        self._lost: Slots = self._loose  # those that are in a graph which does not find them
        self._outside = RowsApart(self._loose)  # both
        self._stale: Segment | None = None  # one whose live rows are to move
        self._compaction: Compaction | None = None  # one that is under way

    @classmethod
    def load(
        cls,
        settings: PartitionSettings,
        on_fallback: Callable[[], None],
        labels: Slots,
        saved: RowColumns | None,
        read: Callable[[Slots], Iterable[IndexRow]],
        read_attributes: ReadAttributes,
    ) -> Partition:
        """Return a category as it is in the store.

        Args:
            settings: How it is searched.
            on_fallback: Called when a search falls back to comparing all rows.
            labels: Its rows, int64 [n].
            saved: The rows of a file, some of which may exist no more.
            read: Reads rows by label, in any order and without attributes; deleted ones are missing.
            read_attributes: Reads the attributes of all rows, when they are needed.
        """
        partition = cls(settings, on_fallback)
        if saved is not None:
            partition._restore(saved, np.isin(saved.labels, labels))
            labels = np.setdiff1d(labels, saved.labels, assume_unique=True)
        if len(labels):
            partition._rows.reserve(partition._rows.count + len(labels))
            for row in read(labels):
                partition._append(row)
        partition._attributes.read_later(read_attributes)
        return partition

    def _restore(self, saved: RowColumns, live: npt.NDArray[np.bool_]) -> None:
        self._rows = FlatIndex.of(saved.vectors, live, self._settings.memory)
        self._owners.extend(saved.labels, saved.product_ids, saved.image_indexes)
        slots = np.flatnonzero(live)
        self._slots = dict(zip(saved.labels[slots].tolist(), slots.tolist(), strict=True))
        self._images = Counter(compress(saved.product_ids, live.tolist()))
        self._most_images = max(self._images.values(), default=1)

    def __len__(self) -> int:
        """Count the products."""
        return len(self._images)

    def __contains__(self, label: int) -> bool:
        """Return whether a row has this label."""
        return label in self._slots

    @property
    def segments(self) -> Sequence[Segment]:
        """The segments, oldest first."""
        return self._segments

    @property
    def row_count(self) -> int:
        """Rows in memory, with deleted ones."""
        return self._rows.count

    @property
    def deleted_count(self) -> int:
        """Deleted rows that are still in memory."""
        return self._rows.deleted

    @property
    def kind(self) -> IndexKind:
        """How the category is searched at present."""
        return IndexKind.HNSW if self._segments else IndexKind.FLAT

    @property
    def waiting(self) -> int:
        """Rows that are in no graph."""
        return self._rows.count - self._end + len(self._loose)

    @property
    def backlog(self) -> int:
        """How many rows more wait for a graph than should while the category is searched; 0 where it is not."""
        if not self._segments or time.monotonic() - self._searched > _SEARCHED_SECONDS:
            return 0
        return max(0, self.waiting - _BACKLOG * self._settings.waiting_rows)

    @property
    def is_cheap(self) -> bool:
        """Whether a search is fast: few rows outside the graphs, few graphs, and no row on a disk only."""
        compared = self.waiting + len(self._lost)
        if self._segments:
            compared += self._settings.hnsw.ef_search
        fast = compared * self._settings.dim <= _CHEAP_SCAN and len(self._segments) <= _CHEAP_SEGMENTS
        return fast and self._attributes.is_loaded and self._rows.is_resident

    @property
    def needs_maintenance(self) -> bool:
        """Whether too many rows are deleted or in no graph, or nodes are to be looked up."""
        return (
            self._needs_graph
            or self.can_catch_up
            or self._stale is not None
            or self._needs_compaction
            or any(each.is_unproven for each in self._segments)
        )

    @property
    def can_catch_up(self) -> bool:
        """Whether rows that need not be in a graph yet may as well be, because nothing changes any more."""
        quiet = time.monotonic() - self._changed >= self._settings.catch_up_seconds
        return bool(self._segments) and quiet and self.waiting > 0

    @property
    def _needs_compaction(self) -> bool:
        return self._rows.deleted > _COMPACTION_RATIO * self._rows.count

    @property
    def _needs_graph(self) -> bool:
        return self._settings.needs_graph(self.waiting, has_graph=bool(self._segments))

    def change(
        self,
        removed: Sequence[int],
        added: Sequence[IndexRow],
        updated: Sequence[tuple[int, Mapping[str, str]]] = (),
    ) -> None:
        """Remove rows by label, add rows, and update attributes by label; a search sees the whole change or nothing."""
        self._changed = time.monotonic()
        with self._lock:
            for label in removed:
                self._remove(label)
            self._add_all(added)
            for label, attributes in updated:
                self._attributes.put(self._slots[label], attributes)
                if self._compaction is not None:
                    self._compaction.update(label, attributes)

    def snapshot(self, conditions: Sequence[Condition] = ()) -> Snapshot:
        """Return a snapshot of the rows that meet the conditions, to search it."""
        self._searched = time.monotonic()
        if conditions:
            self.load_attributes()
        with self._lock:
            view = self._rows.view()
            if conditions:
                view = view.only(self._attributes.matching(conditions, len(view.live)))
            return Snapshot(
                self._settings,
                view,
                self._owners,
                self._segments,
                self._outside,
                self._end,
                self._most_images,
                filtered=bool(conditions),
                has_deleted=self._rows.deleted > 0,
                on_fallback=self._on_fallback,
            )

    def saved(self) -> list[tuple[Segment, Callable[[], Slots]]]:
        """Return the segments, each with a function that returns the labels of its rows, int64 [rows].

        For the maintenance thread, which alone moves rows.
        """
        return [(each, partial(self._labels, each)) for each in self._segments]

    def rows_to_save(self) -> RowColumns:
        """Return all rows, with deleted ones, to write them to a file."""
        with self._lock:
            vectors = self._rows.vectors
            return RowColumns(*self._owners.columns(len(vectors)), vectors)

    def load_attributes(self) -> None:
        """Read the attributes of the rows that were loaded, unless that was done."""
        columns = self._attributes.read(self._slots.get)
        if columns is not None:
            with self._lock:
                self._attributes.install(columns)

    def _labels(self, segment: Segment) -> Slots:
        with self._lock:
            return self._owners.labels(segment.rows.slots)

    def attach(self, segments: Iterable[tuple[Slots, Segment]]) -> None:
        """Use segments that were saved, whose rows are positions in the labels that come with each (int64 [rows]).

        Rows that no longer exist are left out. For the maintenance thread, before any other maintenance.
        """
        with self._lock:
            slots = self._slots
            self._segments = tuple(
                replace(each, rows=each.rows.moved(np.array([slots.get(label, -1) for label in labels.tolist()])))
                for labels, each in segments
            )
            self._end = self._rows.count if self._segments else 0
            self._outline()
        self._outside.copy(self._rows.vectors)

    def maintain(self, pacing: Pacing) -> int:
        """Do one step of maintenance. It takes long, blocks neither searches nor changes, and is for one thread only.

        Returns how many rows a graph was built over or grew by.

        Raises:
            MaintenanceStopped: The index is closing.
        """
        added = 0
        if self._needs_graph or self.can_catch_up:
            added = self._grow(pacing)
        elif self._stale is not None:
            added = self._move(self._stale, pacing)
        elif self._needs_compaction:
            self._compact(pacing)
        else:
            self._look_up(pacing)
        self._outside.copy(self._rows.vectors)
        return added

    def _grow(self, pacing: Pacing) -> int:
        """Add the rows that wait, at most those of one step, to a graph."""
        with self._lock:
            view, segments, loose, end = self._rows.view(), self._segments, self._loose, self._end
        waiting = np.concatenate([loose, np.arange(end, len(view.live))])
        waiting = waiting[view.live[waiting]]
        segments, added = self._added(view, segments, waiting, pacing)
        with self._lock:
            self._segments = segments
            self._end = max(end, int(waiting[added])) if added < len(waiting) else len(view.live)
            self._outline()
        return added

    def _move(self, stale: Segment, pacing: Pacing) -> int:
        """Add live rows of a segment, at most those of one step, to another one; drop it when none is left."""
        with self._lock:
            view, segments = self._rows.view(), self._segments
        others = tuple(each for each in segments if each is not stale)
        left = stale.rows.slots[view.live[stale.rows.slots]]
        left = np.setdiff1d(left, slots_of(others), assume_unique=True)
        if len(left) > (0 if others else self._settings.full_scan_threshold):
            segments, added = self._added(view, segments, left, pacing)
        else:
            segments, added = others, 0
        with self._lock:
            self._segments = segments
            self._outline()
        return added

    def _added(
        self, view: FlatView, segments: tuple[Segment, ...], slots: Slots, pacing: Pacing
    ) -> tuple[tuple[Segment, ...], int]:
        """Return segments with some of these rows as well, and how many: in the last one, or a new one."""
        if not len(slots):
            return segments, 0
        last = next((each for each in reversed(segments) if each is not self._stale), None)
        room = self._settings.segment_rows - len(last.rows) if last else 0
        if room <= 0:
            last, room = None, self._settings.segment_rows
        new = slots[: min(room, self._settings.step_rows)]
        segment = grown(last, view.vectors, new, self._settings, pacing)
        return (*(each for each in segments if each is not last), segment), len(new)

    def _look_up(self, pacing: Pacing) -> None:
        with self._lock:
            view, segments = self._rows.view(), self._segments
        for position, segment in enumerate(segments):
            if segment.is_unproven:
                after = looked_up(segment, view.vectors, pacing)
                with self._lock:
                    self._segments = (*segments[:position], after, *segments[position + 1 :])
                    self._find_lost()
                return

    def _compact(self, pacing: Pacing) -> None:
        """Copy the live rows, a few at a time, and swap the copy in."""
        self.load_attributes()
        compaction = Compaction(self._rows, self._owners, self._attributes, self._settings.memory)
        with self._lock:
            self._compaction = compaction
        try:
            while compaction.remaining():
                self._copy_piece(compaction, pacing)
            moved = compaction.moved
            segments = tuple(replace(each, rows=each.rows.moved(moved)) for each in self._segments)
            end = int(np.count_nonzero(moved[: self._end] >= 0))
            before = self._rows, self._owners, self._attributes, self._slots  # freed later, and not under the lock
            while not self._swap(compaction, segments, end):
                self._copy_piece(compaction, pacing)
            del before
        finally:
            with self._lock:
                self._compaction = None

    def _copy_piece(self, compaction: Compaction, pacing: Pacing) -> None:
        pacing.await_searches()
        with self._lock:
            piece = compaction.next_piece()
        compaction.put_vectors(self._rows.vectors[piece])
        with self._lock:
            compaction.add(piece)

    def _swap(self, compaction: Compaction, segments: tuple[Segment, ...], end: int) -> bool:
        """Use the copy, unless more rows have come meanwhile than fit into a piece."""
        with self._lock:
            if compaction.remaining() > PIECE_ROWS:
                return False
            piece = compaction.next_piece()
            compaction.put_vectors(self._rows.vectors[piece])
            compaction.add(piece)
            # New containers, because running searches use the old ones.
            self._rows, self._owners = compaction.rows, compaction.owners
            self._attributes, self._slots = compaction.attributes, compaction.slots
            self._segments, self._end = segments, end
            self._compaction = None  # now: its rows are the partition's own
            self._outline()
            return True

    def _outline(self) -> None:
        """Find the rows before the end that no graph has, or finds, and a segment that is stale."""
        live = self._rows.view().live
        outside = live[: self._end].copy()
        outside[slots_of(self._segments)] = False
        self._loose = np.flatnonzero(outside)
        self._find_lost()
        self._stale = next((each for each in self._segments if each.gone(live) > GONE_RATIO), None)

    def _find_lost(self) -> None:
        """Find the rows that are in a graph which does not find them."""
        self._lost = lost_slots_of(self._segments)
        self._outside = RowsApart(np.concatenate([self._loose, self._lost]))

    def _add_all(self, rows: Sequence[IndexRow]) -> None:
        """Add rows with their attributes; in less time than `_append` for each."""
        images = self._images
        self._owners.append_all(rows)
        for slot, row in enumerate(rows, self._rows.append_all([row.vector for row in rows])):
            self._slots[row.label] = slot
            self._attributes.put(slot, row.attributes)
            count = images[row.product_id] = images.get(row.product_id, 0) + 1
            if count > self._most_images:
                self._most_images = count

    def _append(self, row: IndexRow) -> int:
        slot = self._rows.append(row.vector)
        self._owners.append(RowOwner(row.label, row.product_id, row.image_index))
        self._slots[row.label] = slot
        images = self._images[row.product_id] = self._images.get(row.product_id, 0) + 1
        self._most_images = max(self._most_images, images)
        return slot

    def _remove(self, label: int) -> None:
        if self._compaction is not None:
            self._compaction.remove(label)
        slot = self._slots.pop(label)
        self._rows.remove(slot)
        self._attributes.drop(slot)
        product_id = self._owners[slot].product_id
        self._images[product_id] -= 1
        if not self._images[product_id]:
            del self._images[product_id]
