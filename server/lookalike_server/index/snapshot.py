"""An immutable snapshot of one category's rows, and the search over it."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from lookalike_server.domain.inference import Floats
from lookalike_server.domain.search import Hit, IndexQuery, IndexResult
from lookalike_server.index.brute_force import Distances, FlatView, RowsApart, nearest_of, rounding_margin
from lookalike_server.index.device import DeviceSearchError, DeviceView
from lookalike_server.index.device_rows import NOT_ON_DEVICE, DeviceState
from lookalike_server.index.device_search import DeviceSearch
from lookalike_server.index.row_storage import Slots
from lookalike_server.index.segment import PartitionSettings, Segment, nearest_nodes

_MAX_CANDIDATE_RATIO = 1 / 12  # of the rows; with more candidates, a graph is as slow as comparing every row
_SLACK = 2  # times the candidates that would suffice if the live rows were spread evenly


class RowOwner(NamedTuple):
    """The image that a row belongs to, and the row's label."""

    label: int
    product_id: str
    image_index: int


@dataclass(frozen=True, slots=True)
class Snapshot:
    """Everything that a search needs.

    Attributes:
        settings: How the category is searched.
        view: The rows, without deleted ones and those that the conditions exclude.
        owners: The image of each row, by slot.
        segments: The graphs over most of the rows.
        outside: The rows before `end` that no graph finds.
        end: The first slot of those that are in no graph yet.
        most_images: The most rows of any product.
        filtered: Whether conditions excluded rows.
        has_deleted: Whether rows were deleted.
        on_fallback: Called when the graphs did not find enough rows.
        device: What of the rows is on a device.
        on_device_failure: Called when that failed, so that the rows were all compared instead.
    """

    settings: PartitionSettings
    view: FlatView
    owners: Sequence[RowOwner]
    segments: Sequence[Segment]
    outside: RowsApart
    end: int
    most_images: int
    filtered: bool
    has_deleted: bool
    on_fallback: Callable[[], None]
    device: DeviceState = NOT_ON_DEVICE
    on_device_failure: Callable[[DeviceSearchError], None] | None = None

    def search(self, queries: Sequence[IndexQuery], *, exact: bool) -> list[IndexResult]:
        """Search for several queries at once; `exact` compares every row even if there are graphs."""
        # k products are needed, not k rows: any of them may have all its images among the nearest.
        rows = max(each.k + (each.exclude is not None) for each in queries) * self.most_images
        if self.device.rows is not None and not self._is_small:
            try:
                return self._by_device(self.device.rows, queries, rows)
            except DeviceSearchError as error:
                if self.on_device_failure is not None:
                    self.on_device_failure(error)
        if not self.segments or exact or self._is_small:
            return self._exact(queries, rows)
        counts = [self._nodes_to_find(segment, rows) for segment in self.segments]
        if self.filtered and sum(counts) > _MAX_CANDIDATE_RATIO * len(self.view.live):
            return self._exact(queries, rows)
        vectors = [each.vectors for each in queries]
        found = self._by_graphs(vectors, counts)
        metric = self.settings.metric
        outside, compared = self.view.compared(vectors, metric, self.outside, self.end)
        results: list[IndexResult] = []
        for query, (slots, nodes), rough in zip(queries, found, compared, strict=True):
            if len(slots) < rows and len(slots) < self._live_in_graphs():
                self.on_fallback()
                results += self._exact([query], rows)
                continue
            distances = self._measured_once(slots, nodes, query)
            more = self._nearer(outside, rough, distances, rows)
            if len(self.outside.slots) and len(more):
                # A graph may find a row that it did not find when that was looked up.
                more = np.setdiff1d(more, slots, assume_unique=True)
            if len(more):
                slots, distances = np.append(slots, more), np.append(distances, self._measured(more, query))
            results.append(IndexResult(self._ranked(slots, distances, query, rows), exact=False))
        return results

    def stored_query(self, position: float, k: int) -> IndexQuery | None:
        """Return a query by the vector of the live row at 0 <= `position` < 1 of all; None where there is none."""
        live = np.flatnonzero(self.view.live)
        if not len(live):
            return None
        return IndexQuery(self.view.vectors[live[[int(position * len(live))]]], k)

    @property
    def _is_small(self) -> bool:
        """Whether conditions leave so few rows that comparing them is fast."""
        return self.filtered and int(np.count_nonzero(self.view.live)) <= self.settings.full_scan_threshold

    def _by_device(self, rows: DeviceView, queries: Sequence[IndexQuery], needed: int) -> list[IndexResult]:
        vectors = [each.vectors for each in queries]
        search = DeviceSearch(rows, self.view, vectors, needed, filtered=self.filtered)
        outside, compared = self.view.compared(vectors, self.settings.metric, start=self.device.end)
        results: list[IndexResult] = []
        for number, (query, rough) in enumerate(zip(queries, compared, strict=True)):
            found = search.nearest(number)
            hits = self._nearest_hits(found.slots, outside, rough, query, needed)
            farthest = hits[-1].distance if len(hits) == query.k else math.inf
            if found.others <= farthest and found.others < math.inf:
                every = search.nearest_of_all(number, farthest)
                hits = self._nearest_hits(every, outside, rough, query, needed)
            results.append(IndexResult(hits, exact=True))
        return results

    def _nearest_hits(self, slots: Slots, outside: Slots, rough: Floats, query: IndexQuery, rows: int) -> list[Hit]:
        """Measure rows, and those of the rows outside of the device that can be among the nearest beside them."""
        distances = self._measured(slots, query)
        if len(outside):
            more = self._nearer(outside, rough, distances, rows)
            slots, distances = np.append(slots, more), np.append(distances, self._measured(more, query))
        return self._ranked(slots, distances, query, rows)

    def _exact(self, queries: Sequence[IndexQuery], rows: int) -> list[IndexResult]:
        nearest = self.view.nearest([each.vectors for each in queries], rows, self.settings.metric)
        return [
            IndexResult(self._ranked(slots, self._measured(slots, each), each, rows), exact=True)
            for each, slots in zip(queries, nearest, strict=True)
        ]

    def _nodes_to_find(self, segment: Segment, rows: int) -> int:
        """Return how many nodes a search must find so that the `rows` nearest live rows are among theirs."""
        empty = segment.rows.empty
        if not self.filtered and not self.has_deleted and not empty:
            return rows
        every = len(segment.rows.slots) + empty
        live = int(np.count_nonzero(self.view.live[segment.rows.slots]))
        return min(rows + every - live, math.ceil(_SLACK * rows * every / max(1, live)))

    def _by_graphs(self, vectors: Sequence[Floats], counts: Sequence[int]) -> list[tuple[Slots, Slots]]:
        """For each query, given by its vectors, return the live rows that the graphs find, and a number of their node.

        The rows of a node follow each other.
        """
        every = np.concatenate(vectors) if len(vectors) > 1 else vectors[0]
        found = [
            nearest_nodes(segment.graph, every, count) for segment, count in zip(self.segments, counts, strict=True)
        ]
        results = []
        end = 0
        for own in vectors:
            begin, end = end, end + len(own)
            nodes = [each[begin] if len(own) == 1 else np.unique(np.concatenate(each[begin:end])) for each in found]
            results.append(self._rows_of(nodes))
        return results

    def _rows_of(self, found: Sequence[Slots]) -> tuple[Slots, Slots]:
        """Return the live rows of the nodes of each segment, int64 [n], and the position of each one's node."""
        parts = [segment.rows.of_nodes(nodes) for segment, nodes in zip(self.segments, found, strict=True)]
        slots, nodes = parts[0]
        if len(parts) > 1:
            slots = np.concatenate([each for each, _ in parts])
            begins = np.cumsum([0, *map(len, found[:-1])]).tolist()
            nodes = np.concatenate([begin + own for begin, (_, own) in zip(begins, parts, strict=True)])
            # A row may be in two graphs, while it moves from one to the other.
            slots, first = np.unique(slots, return_index=True)
            order = np.argsort(nodes[first], kind="stable")
            slots, nodes = slots[order], nodes[first][order]
        if self.filtered or self.has_deleted:
            live = self.view.live[slots]
            slots, nodes = slots[live], nodes[live]
        return slots, nodes

    def _nearer(self, outside: Slots, rough: Floats, found: Distances, rows: int) -> Slots:
        """Return those of the rows outside of graphs that can be among the `rows` nearest, beside what graphs found."""
        metric = self.settings.metric
        if not len(outside) or len(found) < rows:
            return nearest_of(outside, rough, rows, metric)
        last = float(np.partition(found, rows - 1)[rows - 1])
        near = rough <= last + rounding_margin(last, metric)
        return nearest_of(outside[near], rough[near], rows, metric)

    def _measured_once(self, slots: Slots, nodes: Slots, query: IndexQuery) -> Distances:
        """Measure rows of nodes, which follow each other, a node once."""
        if not len(slots) or (int(nodes[-1]) == len(nodes) - 1 and nodes[0] == 0):  # one row each
            return self._measured(slots, query)
        is_first = np.diff(nodes, prepend=-1) > 0
        measured: Distances = self._measured(slots[is_first], query)[np.cumsum(is_first) - 1]
        return measured

    def _live_in_graphs(self) -> int:
        return sum(int(np.count_nonzero(self.view.live[each.rows.slots])) for each in self.segments)

    def _measured(self, slots: Slots, query: IndexQuery) -> Distances:
        return self.view.measured(slots, query.vectors, self.settings.metric)

    def _ranked(self, slots: Slots, distances: Distances, query: IndexQuery, rows: int) -> list[Hit]:
        if len(slots) > rows:
            near = distances <= np.partition(distances, rows - 1)[rows - 1]
            slots, distances = slots[near], distances[near]
        order: list[tuple[float, str, int]] = []
        for slot, distance in zip(slots.tolist(), distances.tolist(), strict=True):
            _, product_id, image_index = self.owners[slot]
            order.append((distance, product_id, image_index))
        order.sort()
        best: dict[str, Hit] = {}
        for distance, product_id, image_index in order:
            if product_id not in best and product_id != query.exclude:
                best[product_id] = Hit(product_id, image_index, distance)
                if len(best) == query.k:
                    break
        return list(best.values())
