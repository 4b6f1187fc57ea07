"""One category: a flat matrix of every row, and above a size segments of the older ones, each with an HNSW graph.

A row is searchable at once: a search merges the graphs' candidates with an exact look at the rows that came after them,
drops the dead, and measures what is left exactly. Graphs are built aside and swapped in as a reference; new rows join
a copy of the last segment until it is full, so that no build and no call of a graph takes long. Where too many rows are
dead the live ones are copied and their graphs built aside as well, while the old ones go on answering.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Mapping, Sequence

import numpy as np

from lookalike_server.domain.catalog import IndexKind, IndexRow
from lookalike_server.domain.filters import Condition
from lookalike_server.index.attributes import AttributeColumns
from lookalike_server.index.brute_force import FlatRows, View
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
"""The share of dead rows at which a partition is copied without them."""

_QUICK_NUMBERS = 1 << 21  # compared one by one in about half a millisecond
_QUICK_SEGMENTS = 3  # walked in about as much

_GONE = RowOwner(0, "", 0)  # of a slot whose row died before it was loaded

KeptGraph = tuple[Slots, HnswGraph]
"""A graph and the labels of its rows by offset, int64 [n], some of which may have died since."""


class Partition:
    """The rows of one category. One thread changes it, another may care for it; any thread searches."""

    def __init__(self, settings: PartitionSettings, fell_back: Callable[[], None]) -> None:
        self._settings = settings
        self._fell_back = fell_back
        self._lock = threading.Lock()
        self._rows = FlatRows(settings.dim)
        self._attributes = AttributeColumns()
        self._owners: list[RowOwner] = []  # by slot
        self._slots: dict[int, int] = {}  # by label
        self._images: dict[str, int] = {}  # live rows a product
        self._most_images = 1
        self._segments: tuple[Segment, ...] = ()
        self._no_graph_before = 0  # rows; with fewer, none that pays was to be had

    @classmethod
    def loaded(
        cls,
        settings: PartitionSettings,
        fell_back: Callable[[], None],
        rows: Iterable[IndexRow],
        count: int,
        graphs: Sequence[KeptGraph],
    ) -> Partition:
        """A category as it was left: about `count` rows, and graphs over some of them."""
        partition = cls(settings, fell_back)
        gaps: dict[int, int] = {}
        segments: list[Segment] = []
        for labels, graph in graphs:
            begin = end_of(segments)
            segments.append(Segment(graph, begin, begin + len(labels)))
            gaps |= zip(labels.tolist(), range(begin, begin + len(labels)), strict=True)
        end = end_of(segments)
        partition._rows = FlatRows.with_gaps(settings.dim, end, count)
        partition._owners = [_GONE] * end
        partition._segments = tuple(segments)
        for row in rows:
            partition._add(row, gaps.get(row.label))
        return partition

    def __len__(self) -> int:
        """Products in it."""
        return len(self._images)

    def __contains__(self, label: int) -> bool:
        """Whether a row of this label is in it."""
        return label in self._slots

    @property
    def kind(self) -> IndexKind:
        """How it is searched at present."""
        return IndexKind.HNSW if self._segments else IndexKind.FLAT

    @property
    def is_cheap(self) -> bool:
        """Whether a search compares few numbers: rows outside the graphs, and candidates that these choose."""
        compared = self._rows.count - end_of(self._segments)
        if self._segments:
            compared += self._settings.hnsw.ef_search
        return compared * self._settings.dim <= _QUICK_NUMBERS and len(self._segments) <= _QUICK_SEGMENTS

    @property
    def needs_maintenance(self) -> bool:
        """Whether too many rows are dead, or more are outside the segments than a flat search should look at."""
        return self._wants_compaction or self._wants_graph(self._rows, self._segments)

    @property
    def _wants_compaction(self) -> bool:
        return self._rows.dead > COMPACTION_RATIO * self._rows.count

    def _wants_graph(self, rows: FlatRows, segments: Sequence[Segment]) -> bool:
        return rows.count >= self._no_graph_before and self._settings.wants_graph(rows.count, segments)

    def change(
        self,
        removed: Sequence[int],
        added: Sequence[IndexRow],
        described: Sequence[tuple[int, Mapping[str, str]]] = (),
    ) -> None:
        """Take out rows by label, take these in, and describe others again; a search sees all of it or nothing."""
        with self._lock:
            for label in removed:
                self._remove(label)
            for row in added:
                self._add(row)
            for label, attributes in described:
                self._attributes.put(self._slots[label], attributes)

    def snapshot(self, conditions: Sequence[Condition] = ()) -> Snapshot:
        """What meets the conditions at this moment."""
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
                fell_back=self._fell_back,
            )

    def graphs(self) -> list[KeptGraph]:
        """The graphs there are, oldest first. For the thread that cares: nobody else replaces owners and segments."""
        with self._lock:
            owners, segments = self._owners, self._segments
        return [
            (np.array([owner.label for owner in owners[each.begin : each.end]], dtype=np.int64), each.graph)
            for each in segments
            if each.graph is not None
        ]

    def maintain(self) -> bool:
        """Do a piece of what it wants; takes long, and holds up neither searches nor changes. One thread does it.

        Returns whether it came to anything: a graph that does not pay is not built.
        """
        if self._wants_compaction:
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
            new = self._sealed(view, segments)
        if new is None:
            # Every row is compared, as before. What is there will not change by a few rows more.
            self._no_graph_before = 2 * len(view.live)
            return False
        with self._lock:
            self._segments = (*earlier, new)
        return True

    def _compact(self) -> None:
        """Copy the live rows, build their graphs, and swap both in with what changed meanwhile."""
        with self._lock:
            before = self._rows.view()
        kept = np.flatnonzero(before.live)
        rows = FlatRows.copied(before, kept)
        segments: list[Segment] = []
        while self._wants_graph(rows, segments):
            new = self._sealed(rows.view(), segments)
            if new is None:
                self._no_graph_before = 2 * rows.count
            else:
                segments.append(new)
        with self._lock:
            now = self._rows.view()
            for slot in np.flatnonzero(~now.live[kept]).tolist():
                rows.remove(slot)
            rows.extend(View(now.vectors.part(len(before.live), len(now.live)), now.live[len(before.live) :]))
            order = np.concatenate([kept, np.arange(len(before.live), len(now.live))])
            # New containers: searches under way go on with the old ones.
            self._owners = [self._owners[slot] for slot in order.tolist()]
            alive = np.flatnonzero(now.live[order]).tolist()
            self._slots = {self._owners[slot].label: slot for slot in alive}
            self._attributes = self._attributes.taken(order)
            self._rows, self._segments = rows, tuple(segments)

    def _sealed(self, view: View, before: Sequence[Segment]) -> Segment | None:
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
