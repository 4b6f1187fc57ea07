"""One category: a matrix of all rows and, above a threshold, segments with a graph each over most of them.

A row is searchable at once: a search merges what the graphs find with an exact scan of the rows that are in no graph
yet, or that their graph loses, drops deleted ones, and measures the rest exactly. Graphs are built in the background
and swapped in by reference; new rows are added to a copy of the last segment until it is full. When too many rows are
deleted, their graphs are built again without them, and the live rows are copied (compaction).
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from functools import partial

import numpy as np

from lookalike_server.domain.catalog import IndexKind, IndexRow
from lookalike_server.domain.filters import Condition
from lookalike_server.index.attributes import AttributeColumns
from lookalike_server.index.brute_force import FlatIndex, FlatView
from lookalike_server.index.pacing import Pacing
from lookalike_server.index.row_storage import Slots
from lookalike_server.index.segment import PartitionSettings, Segment, grown, looked_up, slots_of
from lookalike_server.index.snapshot import RowOwner, Snapshot

COMPACTION_RATIO = 0.2
"""The share of deleted rows above which a partition, or a graph, is compacted."""

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
        self._attributes = AttributeColumns()
        self._owners: list[RowOwner] = []  # by slot
        self._slots: dict[int, int] = {}  # by label
        self._images: dict[str, int] = {}  # live rows, by product
        self._most_images = 1
        self._segments: tuple[Segment, ...] = ()
        self._searched = -math.inf
        self._end = 0  # slots from here on are in no graph
        self._loose: Slots = np.empty(0, dtype=np.int64)  # those before it that are in none either
        self._lost: Slots = self._loose  # those that are in a graph which does not find them

    @classmethod
    def load(
        cls, settings: PartitionSettings, on_fallback: Callable[[], None], rows: Iterable[IndexRow], count: int
    ) -> Partition:
        """Return a category with these rows, about `count`."""
        partition = cls(settings, on_fallback)
        partition._rows.reserve(count)
        for row in rows:
            partition._add(row)
        return partition

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
        return max(0, self.waiting - _BACKLOG * self._settings.max_waiting_rows)

    @property
    def is_cheap(self) -> bool:
        """Whether a search is fast: few rows outside the graphs, few graphs, and no row on a disk only."""
        compared = self.waiting + len(self._lost)
        if self._segments:
            compared += self._settings.hnsw.ef_search
        fast = compared * self._settings.dim <= _CHEAP_SCAN and len(self._segments) <= _CHEAP_SEGMENTS
        return fast and self._rows.is_resident

    @property
    def needs_maintenance(self) -> bool:
        """Whether too many rows are deleted or in no graph, or nodes are to be looked up."""
        return (
            self._has_too_many(self._rows.deleted, self._rows.count)
            or self._needs_graph
            or any(len(each.to_look_up) for each in self._segments)
        )

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
        with self._lock:
            for label in removed:
                self._remove(label)
            for row in added:
                self._add(row)
            for label, attributes in updated:
                self._attributes.put(self._slots[label], attributes)

    def snapshot(self, conditions: Sequence[Condition] = ()) -> Snapshot:
        """Return a snapshot of the rows that meet the conditions, to search it."""
        self._searched = time.monotonic()
        with self._lock:
            view = self._rows.view()
            if conditions:
                view = view.only(self._attributes.matching(conditions, len(view.live)))
            return Snapshot(
                self._settings,
                view,
                self._owners,
                self._segments,
                np.concatenate([self._loose, self._lost, np.arange(self._end, len(view.live))]),
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

    def _labels(self, segment: Segment) -> Slots:
        owners = self._owners
        return np.fromiter((owners[slot].label for slot in segment.rows.slots.tolist()), np.int64)

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
            self._end = self._rows.count
            self._outline()

    def maintain(self, pacing: Pacing) -> int:
        """Do one step of maintenance. It takes long, blocks neither searches nor changes, and is for one thread only.

        Returns how many rows a graph was built over or grew by.

        Raises:
            MaintenanceStopped: The index is closing.
        """
        stale = self._stale_segment()
        if stale is not None:
            return self._rebuild(stale, pacing)
        if self._has_too_many(self._rows.deleted, self._rows.count):
            self._compact()
            return 0
        if self._needs_graph:
            return self._grow(pacing)
        self._look_up(pacing)
        return 0

    def _grow(self, pacing: Pacing) -> int:
        """Add the rows that wait, at most those of one step, to the last segment, or to a new one where it is full."""
        with self._lock:
            view, segments, loose, end = self._rows.view(), self._segments, self._loose, self._end
        waiting = np.concatenate([loose, np.arange(end, len(view.live))])
        waiting = waiting[view.live[waiting]]
        room = self._settings.segment_rows - len(segments[-1].rows) if segments else 0
        last = segments[-1] if room > 0 else None
        new = waiting[: min(room if last else self._settings.segment_rows, self._settings.step_rows)]
        if len(new):
            segment = grown(last, view.vectors, new, self._settings, pacing)
            segments = (*(segments[:-1] if last else segments), segment)
        with self._lock:
            self._segments = segments
            self._end = len(view.live)
            self._outline()
        return len(new)

    def _look_up(self, pacing: Pacing) -> None:
        with self._lock:
            view, segments = self._rows.view(), self._segments
        for position, segment in enumerate(segments):
            if len(segment.to_look_up):
                after = looked_up(segment, view.vectors, pacing)
                with self._lock:
                    self._segments = (*segments[:position], after, *segments[position + 1 :])
                    self._outline()
                return

    def _stale_segment(self) -> Segment | None:
        """Return a segment too many of whose nodes stand for no live row."""
        with self._lock:
            live, segments = self._rows.view().live, self._segments
        for segment in segments:
            gone = np.ones(len(segment.rows), dtype=np.bool_)
            gone[segment.rows.nodes[live[segment.rows.slots]]] = False
            if self._has_too_many(int(np.count_nonzero(gone)), len(gone)):
                return segment
        return None

    def _rebuild(self, stale: Segment, pacing: Pacing) -> int:
        """Replace a segment by one of its live rows, together with those of the last segment where both fit in one."""
        with self._lock:
            view, segments = self._rows.view(), self._segments
        last = segments[-1]
        others = [each for each in segments if each is not stale]
        slots = stale.rows.slots[view.live[stale.rows.slots]]
        if last is not stale and len(slots) + len(last.rows) <= self._settings.segment_rows:
            others.remove(last)
            slots = np.concatenate([slots, last.rows.slots[view.live[last.rows.slots]]])
        if len(slots) > (0 if others else self._settings.full_scan_threshold):
            others.append(grown(None, view.vectors, slots, self._settings, pacing))
        with self._lock:
            self._segments = tuple(others)
            self._outline()
        return len(slots)

    def _compact(self) -> None:
        """Copy the live rows, and swap them in together with the changes made meanwhile."""
        with self._lock:
            before = self._rows.view()
        live = np.flatnonzero(before.live)
        rows = FlatIndex.copy_of(before, live, self._settings.memory)
        with self._lock:
            now = self._rows.view()
            for slot in np.flatnonzero(~now.live[live]).tolist():
                rows.remove(slot)
            rows.extend(FlatView(now.vectors.part(len(before.live), len(now.live)), now.live[len(before.live) :]))
            order = np.concatenate([live, np.arange(len(before.live), len(now.live))])
            # New containers, because running searches use the old ones.
            self._owners = [self._owners[slot] for slot in order.tolist()]
            still_live = np.flatnonzero(now.live[order]).tolist()
            self._slots = {self._owners[slot].label: slot for slot in still_live}
            self._attributes = self._attributes.select(order)
            moved = np.full(len(now.live), -1)
            moved[order] = np.arange(len(order))
            self._segments = tuple(replace(each, rows=each.rows.moved(moved)) for each in self._segments)
            self._end = int(np.count_nonzero(live < self._end))
            self._rows = rows
            self._outline()

    def _outline(self) -> None:
        """Find the rows before the end that no graph has, or finds."""
        outside = np.ones(self._end, dtype=np.bool_)
        outside[slots_of(self._segments)] = False
        self._loose = np.flatnonzero(outside & self._rows.view().live[: self._end])
        self._lost = np.concatenate([self._loose[:0], *(each.lost_slots for each in self._segments)])

    @staticmethod
    def _has_too_many(deleted: int, rows: int) -> bool:
        return deleted > COMPACTION_RATIO * rows

    def _add(self, row: IndexRow) -> None:
        slot = self._rows.append(row.vector)
        self._owners.append(RowOwner(row.label, row.product_id, row.image_index))
        self._slots[row.label] = slot
        self._attributes.put(slot, row.attributes)
        images = self._images[row.product_id] = self._images.get(row.product_id, 0) + 1
        self._most_images = max(self._most_images, images)

    def _remove(self, label: int) -> None:
        slot = self._slots.pop(label)
        self._rows.remove(slot)
        self._attributes.drop(slot)
        product_id = self._owners[slot].product_id
        self._images[product_id] -= 1
        if not self._images[product_id]:
            del self._images[product_id]
