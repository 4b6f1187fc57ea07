"""One category: a matrix of all rows and, above a threshold, segments with a graph each over most of them, or a device.

A row is searchable at once: a search merges what the graphs find with an exact scan of the rows that are in no graph
yet, or that their graph loses, drops deleted ones, and measures the rest exactly. Graphs are built in the background
and swapped in by reference; new rows are added to a copy of the last segment until it is full. The live rows of a graph
most of whose rows were deleted move to another one, and where many rows are deleted the live ones are copied
(compaction). Where a device searches, most rows are copied to it instead, and there are no segments.
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
from lookalike_server.domain.inference import Metric
from lookalike_server.index.compaction import PIECE_ROWS, Compaction
from lookalike_server.index.device import DeviceSearchError
from lookalike_server.index.device_rows import NOT_ON_DEVICE, DeviceRows, DeviceState
from lookalike_server.index.lazy_attributes import ReadAttributes
from lookalike_server.index.pacing import Pacing
from lookalike_server.index.partition_rows import PartitionRows
from lookalike_server.index.row_counts import RowCounts
from lookalike_server.index.row_files import RowColumns
from lookalike_server.index.row_storage import Slots
from lookalike_server.index.segment import PartitionSettings, Segment, looked_up
from lookalike_server.index.segments import Segments
from lookalike_server.index.snapshot import Snapshot

_COMPACTION_RATIO = 1 / 3  # of the rows; with more deleted ones, the live ones are copied
_CHEAP_SCAN = 1 << 21  # dimensions of all rows together, which are compared in about half a millisecond
_CHEAP_SEGMENTS = 3  # whose graphs take about as long
_SEARCHED_SECONDS = 10.0  # since when a category counts as searched
_BACKLOG = 4  # times the rows that may wait for a graph, with which a search takes a few milliseconds


class Partition:
    """The rows of one category. One thread changes it, another one may maintain it; any thread searches."""

    def __init__(
        self,
        settings: PartitionSettings,
        on_fallback: Callable[[], None],
        on_device_failure: Callable[[DeviceSearchError], None] = lambda _: None,
    ) -> None:
        self._settings = settings
        self._on_fallback = on_fallback
        self._on_device_failure = on_device_failure
        self._lock = threading.Lock()
        self._rows = PartitionRows(settings.dim, settings.memory)
        self._segments = Segments()
        self._device_rows = _device_rows(settings)
        self._device = NOT_ON_DEVICE
        self._searched = -math.inf  # when, by the clock
        self._changed = time.monotonic()

    @classmethod
    def load(
        cls,
        settings: PartitionSettings,
        on_fallback: Callable[[], None],
        on_device_failure: Callable[[DeviceSearchError], None],
        labels: Slots,
        saved: RowColumns | None,
        read: Callable[[Slots], Iterable[IndexRow]],
        read_attributes: ReadAttributes,
    ) -> Partition:
        """Return a category as it is in the store.

        Args:
            settings: How it is searched.
            on_fallback: Called when a search falls back to comparing all rows.
            on_device_failure: Called once when the device failed, which then searches this category no more.
            labels: Its rows, int64 [n].
            saved: The rows of a file, some of which may exist no more.
            read: Reads rows by label, in any order and without attributes; deleted ones are missing.
            read_attributes: Reads the attributes of all rows, when they are needed.
        """
        partition = cls(settings, on_fallback, on_device_failure)
        rows = partition._rows
        if saved is not None:
            rows.restore(saved, np.isin(saved.labels, labels))
            labels = np.setdiff1d(labels, saved.labels, assume_unique=True)
        if len(labels):
            rows.vectors.reserve(rows.vectors.count + len(labels))
            for row in read(labels):
                rows.append(row)
        rows.attributes.read_later(read_attributes)
        return partition

    def __len__(self) -> int:
        """Count the products."""
        return len(self._rows.products)

    def __contains__(self, label: int) -> bool:
        """Return whether a row has this label."""
        return label in self._rows.slots

    @property
    def segments(self) -> Sequence[Segment]:
        """The segments, oldest first."""
        return self._segments.all

    @property
    def row_count(self) -> int:
        """Rows in memory, with deleted ones."""
        return self._rows.vectors.count

    @property
    def deleted_count(self) -> int:
        """Deleted rows that are still in memory."""
        return self._rows.vectors.deleted

    @property
    def kind(self) -> IndexKind:
        """How the category is searched at present."""
        return IndexKind.HNSW if self.segments else IndexKind.FLAT

    @property
    def has_device(self) -> bool:
        """Whether a device searches it, or will once it has enough rows."""
        return self._device_rows is not None

    @property
    def waiting(self) -> int:
        """Rows that are in no graph, nor on the device."""
        return self.row_count - max(self._segments.end, self._device.end) + len(self._segments.loose)

    @property
    def counts(self) -> RowCounts:
        """Its rows; those of a category that is to have no graph do not wait for one."""
        with self._lock:  # so that rows and graphs are of the same moment
            waits = self._is_indexed or self._needs_graph
            dead = self.deleted_count
            return RowCounts(self.row_count - dead, dead, self.waiting if waits else 0)

    @property
    def backlog(self) -> int:
        """How many rows more wait for a graph than should while the category is searched; 0 where it is not."""
        if not self.segments or time.monotonic() - self._searched > _SEARCHED_SECONDS:
            return 0
        return max(0, self.waiting - _BACKLOG * self._settings.waiting_rows)

    @property
    def is_cheap(self) -> bool:
        """Whether a search is fast: few rows outside the graphs, few graphs, and no row on a disk only."""
        if self._device.rows is not None:
            return False
        compared = self.waiting + len(self._segments.lost)
        if self.segments:
            compared += self._settings.hnsw.ef_search
        fast = compared * self._settings.dim <= _CHEAP_SCAN and len(self.segments) <= _CHEAP_SEGMENTS
        return fast and self._rows.attributes.is_loaded and self._rows.vectors.is_resident

    @property
    def needs_maintenance(self) -> bool:
        """Whether too many rows are deleted or in no graph, or nodes are to be looked up."""
        return (
            self._needs_graph
            or self.can_catch_up
            or self._segments.stale is not None
            or self._device.stale is not None
            or self._device.needs_refresh(self.deleted_count)
            or self._needs_compaction
            or any(each.is_unproven for each in self.segments)
        )

    @property
    def can_catch_up(self) -> bool:
        """Whether rows that need not be in a graph yet may as well be, because nothing changes any more."""
        quiet = time.monotonic() - self._changed >= self._settings.catch_up_seconds
        return self._is_indexed and quiet and self.waiting > 0

    @property
    def _is_indexed(self) -> bool:
        return bool(self.segments) or self._device.rows is not None

    @property
    def _needs_compaction(self) -> bool:
        return self.deleted_count > _COMPACTION_RATIO * self.row_count

    @property
    def _needs_graph(self) -> bool:
        return self._settings.needs_graph(self.waiting, has_graph=self._is_indexed)

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
                self._rows.remove(label)
            self._rows.extend(added)
            for label, attributes in updated:
                self._rows.update(label, attributes)

    def snapshot(self, conditions: Sequence[Condition] = ()) -> Snapshot:
        """Return a snapshot of the rows that meet the conditions, to search it."""
        self._searched = time.monotonic()
        if conditions:
            self.load_attributes()
        with self._lock:
            rows = self._rows
            view = rows.vectors.view()
            if conditions:
                view = view.only(rows.attributes.matching(conditions, len(view.live)))
            return Snapshot(
                self._settings,
                view,
                rows.owners,
                self._segments.all,
                self._segments.outside,
                self._segments.end,
                rows.products.most,
                filtered=bool(conditions),
                has_deleted=rows.vectors.deleted > 0,
                on_fallback=self._on_fallback,
                device=self._device,
                on_device_failure=self._drop_device,
            )

    def saved(self) -> list[tuple[Segment, Callable[[], Slots]]]:
        """Return the segments, each with a function that returns the labels of its rows, int64 [rows].

        For the maintenance thread, which alone moves rows.
        """
        return [(each, partial(self._labels, each)) for each in self.segments]

    def rows_to_save(self) -> RowColumns:
        """Return all rows, with deleted ones, to write them to a file."""
        with self._lock:
            return self._rows.columns()

    def load_attributes(self) -> None:
        """Read the attributes of the rows that were loaded, unless that was done."""
        rows = self._rows
        columns = rows.attributes.read(rows.slots.get)
        if columns is not None:
            with self._lock:
                rows.attributes.install(columns)

    def _labels(self, segment: Segment) -> Slots:
        with self._lock:
            return self._rows.owners.labels(segment.rows.slots)

    def attach(self, segments: Iterable[tuple[Slots, Segment]]) -> None:
        """Use segments that were saved, whose rows are positions in the labels that come with each (int64 [rows]).

        Rows that no longer exist are left out. For the maintenance thread, before any other maintenance.
        """
        with self._lock:
            rows = self._rows
            attached = tuple(replace(each, rows=each.rows.moved(rows.slots_of(labels))) for labels, each in segments)
            self._segments = Segments.of(attached, self.row_count if attached else 0, rows.vectors.view().live)
        self._segments.outside.copy(self._rows.vectors.vectors)

    def maintain(self, pacing: Pacing) -> int:
        """Do one step of maintenance. It takes long, blocks neither searches nor changes, and is for one thread only.

        Returns how many rows a graph was built over or grew by.

        Raises:
            MaintenanceStopped: The index is closing.
        """
        added = 0
        if self._device_rows is not None:
            if not self._maintain_device(self._device_rows, pacing) and self._needs_compaction:
                self._compact(pacing)
        elif self._needs_graph or self.can_catch_up:
            added = self._grow(pacing)
        elif self._segments.stale is not None:
            added = self._move(self._segments.stale, pacing)
        elif self._needs_compaction:
            self._compact(pacing)
        else:
            self._look_up(pacing)
        self._segments.outside.copy(self._rows.vectors.vectors)
        return added

    def _grow(self, pacing: Pacing) -> int:
        """Add the rows that wait, at most those of one step, to a graph."""
        with self._lock:
            view, before = self._rows.vectors.view(), self._segments
        waiting = before.waiting(view.live)
        segments, added = before.with_rows(view, waiting, self._settings, pacing)
        end = max(before.end, int(waiting[added])) if added < len(waiting) else len(view.live)
        self._use(segments, end)
        return added

    def _move(self, stale: Segment, pacing: Pacing) -> int:
        """Add live rows of the stale segment, at most those of one step, to another one."""
        with self._lock:
            view, before = self._rows.vectors.view(), self._segments
        segments, added = before.moved(stale, view, self._settings, pacing)
        self._use(segments, before.end)
        return added

    def _use(self, segments: tuple[Segment, ...], end: int) -> None:
        with self._lock:
            self._segments = Segments.of(segments, end, self._rows.vectors.view().live)

    def _maintain_device(self, device: DeviceRows, pacing: Pacing) -> bool:
        """Do one step for the rows on the device, and return whether one was due."""
        with self._lock:
            view, before = self._rows.vectors.view(), self._device
        after = before
        try:
            if before.needs_refresh(self.deleted_count):
                after = device.refreshed(before, view)
            elif self._needs_graph or self.can_catch_up:
                after = device.extended(before, view, self._settings.step_rows, pacing)
            elif before.stale is not None:
                after = device.compacted(before, view, pacing)
        except DeviceSearchError as error:
            self._drop_device(error)
        with self._lock:
            if self._device_rows is device:
                self._device = after
        return after is not before

    def _drop_device(self, error: DeviceSearchError) -> None:
        """Search without the device from now on; in any thread."""
        with self._lock:
            if self._device_rows is None:
                return
            self._device_rows, self._device = None, NOT_ON_DEVICE
        self._on_device_failure(error)

    def _look_up(self, pacing: Pacing) -> None:
        with self._lock:
            view = self._rows.vectors.view()
        for segment in self.segments:
            if segment.is_unproven:
                after = looked_up(segment, view.vectors, pacing)
                with self._lock:
                    self._segments = self._segments.proven(segment, after)
                return

    def _compact(self, pacing: Pacing) -> None:
        """Copy the live rows, a few at a time, and swap the copy in."""
        self.load_attributes()
        before = self._rows  # freed at the end, and not under the lock
        compaction = Compaction(before)
        with self._lock:
            before.copy = compaction.copy
        try:
            while compaction.remaining():
                self._copy_piece(compaction, pacing)
            moved = compaction.moved
            segments = tuple(replace(each, rows=each.rows.moved(moved)) for each in self.segments)
            end = int(np.count_nonzero(moved[: self._segments.end] >= 0))
            device_rows, device = self._device_rows, NOT_ON_DEVICE
            if device_rows is not None:
                device = device_rows.moved(self._device, moved)
            while not self._swap(compaction, segments, end, device):
                self._copy_piece(compaction, pacing)
        finally:
            with self._lock:
                before.copy = None

    def _copy_piece(self, compaction: Compaction, pacing: Pacing) -> None:
        pacing.await_searches()
        with self._lock:
            piece = compaction.next_piece()
        compaction.put_vectors(self._rows.vectors.vectors[piece])
        with self._lock:
            compaction.add(piece)

    def _swap(self, compaction: Compaction, segments: tuple[Segment, ...], end: int, device: DeviceState) -> bool:
        """Use the copy, unless more rows have come meanwhile than fit into a piece."""
        with self._lock:
            if compaction.remaining() > PIECE_ROWS:
                return False
            piece = compaction.next_piece()
            compaction.put_vectors(self._rows.vectors.vectors[piece])
            compaction.add(piece)
            self._rows = compaction.copy
            self._segments = Segments.of(segments, end, self._rows.vectors.view().live)
            if self._device_rows is not None:
                self._device_rows.use(device)
                self._device = device
            return True


def _device_rows(settings: PartitionSettings) -> DeviceRows | None:
    """Return where rows go that a device is to search; it has no bound for euclidean distances."""
    if settings.device is None or settings.metric is not Metric.COSINE:
        return None
    return DeviceRows(settings.device)
