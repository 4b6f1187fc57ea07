"""One category: a matrix of all rows and, above a threshold, segments of the older ones with an HNSW graph each.

A row is searchable at once: a search merges the candidates of the graphs with an exact scan of the rows that are in no
graph yet, drops deleted ones, and measures the rest exactly. Graphs are built in the background and swapped in by
reference; new rows are added to a copy of the last segment until it is full, so that no build takes long. When too many
rows are deleted, the live ones are copied and their graphs are built in the background too (compaction).
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Mapping, Sequence

import numpy as np

from lookalike_server.domain.catalog import IndexKind, IndexRow
from lookalike_server.domain.filters import Condition
from lookalike_server.index.attributes import AttributeColumns
from lookalike_server.index.brute_force import FlatIndex, FlatView
from lookalike_server.index.hnsw import HnswGraph
from lookalike_server.index.row_storage import Slots
from lookalike_server.index.segment import (
    PartitionSettings,
    Segment,
    build_segment,
    end_of,
    extend_segment,
    shared_projection,
)
from lookalike_server.index.snapshot import RowOwner, Snapshot

COMPACTION_RATIO = 0.2
"""The share of deleted rows above which a partition is compacted."""

_CHEAP_SCAN = 1 << 21  # dimensions of all rows together, which are compared in about half a millisecond
_CHEAP_SEGMENTS = 3  # whose graphs take about as long

_NO_OWNER = RowOwner(0, "", 0)  # of a slot whose row was deleted before it was loaded

LabeledGraph = tuple[Slots, HnswGraph]
"""The labels of a graph's rows by offset, int64 [n], and the graph; some rows may have been deleted since."""


class Partition:
    """The rows of one category. One thread changes it, another one may maintain it; any thread searches."""

    def __init__(self, settings: PartitionSettings, on_fallback: Callable[[], None]) -> None:
        self._settings = settings
        self._on_fallback = on_fallback
        self._lock = threading.Lock()
        self._rows = FlatIndex(settings.dim)
        self._attributes = AttributeColumns()
        self._owners: list[RowOwner] = []  # by slot
        self._slots: dict[int, int] = {}  # by label
        self._images: dict[str, int] = {}  # live rows, by product
        self._most_images = 1
        self._segments: tuple[Segment, ...] = ()
        self._min_graph_rows = 0  # with fewer, no graph was worth building

    @classmethod
    def load(
        cls,
        settings: PartitionSettings,
        on_fallback: Callable[[], None],
        rows: Iterable[IndexRow],
        count: int,
        graphs: Sequence[LabeledGraph],
    ) -> Partition:
        """Restore a category from its rows, about `count`, and graphs over some of them."""
        partition = cls(settings, on_fallback)
        gaps: dict[int, int] = {}
        segments: list[Segment] = []
        for labels, graph in graphs:
            begin = end_of(segments)
            segments.append(Segment(graph, begin, begin + len(labels)))
            gaps |= zip(labels.tolist(), range(begin, begin + len(labels)), strict=True)
        end = end_of(segments)
        partition._rows = FlatIndex.with_gaps(settings.dim, end, count)
        partition._owners = [_NO_OWNER] * end
        partition._segments = tuple(segments)
        for row in rows:
            partition._add(row, gaps.get(row.label))
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
    def is_cheap(self) -> bool:
        """Whether a search is fast: few rows outside the graphs, and few graphs."""
        compared = self._rows.count - end_of(self._segments)
        if self._segments:
            compared += self._settings.hnsw.ef_search
        return compared * self._settings.dim <= _CHEAP_SCAN and len(self._segments) <= _CHEAP_SEGMENTS

    @property
    def needs_maintenance(self) -> bool:
        """Whether too many rows are deleted, or too many are in no segment."""
        return self._needs_compaction or self._needs_graph(self._rows, self._segments)

    @property
    def _needs_compaction(self) -> bool:
        return self._rows.deleted > COMPACTION_RATIO * self._rows.count

    def _needs_graph(self, rows: FlatIndex, segments: Sequence[Segment]) -> bool:
        return rows.count >= self._min_graph_rows and self._settings.needs_graph(rows.count, segments)

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
        """Return a snapshot of the rows that meet the conditions."""
        with self._lock:
            view = self._rows.view()
            if conditions:
                view = view.only(self._attributes.matching(conditions, len(view.live)))
            return Snapshot(
                self._settings,
                view,
                self._owners,
                self._segments,
                self._most_images,
                filtered=bool(conditions),
                on_fallback=self._on_fallback,
            )

    def graphs(self) -> list[LabeledGraph]:
        """Return the graphs, oldest first. For the maintenance thread, which alone replaces owners and segments."""
        with self._lock:
            owners, segments = self._owners, self._segments
        return [
            (np.array([owner.label for owner in owners[each.begin : each.end]], dtype=np.int64), each.graph)
            for each in segments
            if each.graph is not None
        ]

    def maintain(self) -> bool:
        """Do one step of maintenance. It takes long, blocks neither searches nor changes, and is for one thread only.

        Returns whether anything changed: a graph that is not worth building is not built.
        """
        if self._needs_compaction:
            self._compact()
            return True
        return self._build_graph()

    def _build_graph(self) -> bool:
        with self._lock:
            view, segments = self._rows.view(), self._segments
        earlier: Sequence[Segment] = segments
        if segments and len(view.live) - segments[-1].begin <= self._settings.max_segment_rows:
            *earlier, last = segments
            new = extend_segment(last, view, self._settings)
        else:
            new = self._next_segment(view, segments)
        if new is None:
            # Every row is compared, as before; a few more rows will not change that.
            self._min_graph_rows = 2 * len(view.live)
            return False
        with self._lock:
            self._segments = (*earlier, new)
        return True

    def _compact(self) -> None:
        """Copy the live rows, build their graphs, and swap both in together with the changes made meanwhile."""
        with self._lock:
            before = self._rows.view()
        live = np.flatnonzero(before.live)
        rows = FlatIndex.copy_of(before, live)
        segments: list[Segment] = []
        while self._needs_graph(rows, segments):
            new = self._next_segment(rows.view(), segments)
            if new is None:
                self._min_graph_rows = 2 * rows.count
            else:
                segments.append(new)
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
            self._rows, self._segments = rows, tuple(segments)

    def _next_segment(self, view: FlatView, before: Sequence[Segment]) -> Segment | None:
        return build_segment(view, end_of(before), self._settings, shared_projection(before))

    def _add(self, row: IndexRow, gap: int | None = None) -> None:
        owner = RowOwner(row.label, row.product_id, row.image_index)
        if gap is None:
            slot = self._rows.append(row.vector)
            self._owners.append(owner)
        else:
            slot = gap
            self._rows.fill(slot, row.vector)
            self._owners[slot] = owner
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
