"""An immutable snapshot of one category's rows, and the search over it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from lookalike_server.domain.inference import Floats
from lookalike_server.domain.search import Hit, IndexQuery, IndexResult
from lookalike_server.index.brute_force import FlatView
from lookalike_server.index.projection import Projection
from lookalike_server.index.row_storage import Slots
from lookalike_server.index.segment import PartitionSettings, Segment, end_of

_MAX_CANDIDATE_RATIO = 1 / 12  # of the rows; with more candidates, a graph is as slow as comparing every row


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
        segments: The graphs over the older rows.
        most_images: The most rows of any product.
        filtered: Whether conditions excluded rows.
        on_fallback: Called when a graph did not find enough rows.
    """

    settings: PartitionSettings
    view: FlatView
    owners: Sequence[RowOwner]
    segments: Sequence[Segment]
    most_images: int
    filtered: bool
    on_fallback: Callable[[], None]

    def search(self, queries: Sequence[IndexQuery], *, exact: bool) -> list[IndexResult]:
        """Search for several queries at once; `exact` compares every row even if there are graphs."""
        # k products are needed, not k rows: any of them may have all its images among the nearest.
        rows = max(each.k + (each.exclude is not None) for each in queries) * self.most_images
        if not self.segments or exact:
            return self._exact(queries, rows)
        if self.filtered and np.count_nonzero(self.view.live) <= self.settings.full_scan_threshold:
            return self._exact(queries, rows)
        candidates = [segment.candidates_for(self.view, rows) for segment in self.segments]
        if self.filtered and sum(candidates) > _MAX_CANDIDATE_RATIO * len(self.view.live):
            return self._exact(queries, rows)
        results: list[IndexResult] = []
        for query, slots in zip(queries, self._candidates(queries, rows, candidates), strict=True):
            nearest = self.view.nearest_of(slots, query.vectors, rows, self.settings.metric)
            hits = self._ranked(nearest, query)
            if len(hits) == query.k or len(hits) == self._products(query.exclude):
                results.append(IndexResult(hits, exact=False))
            else:
                self.on_fallback()
                results += self._exact([query], rows)
        return results

    def _exact(self, queries: Sequence[IndexQuery], rows: int) -> list[IndexResult]:
        nearest = self.view.nearest([each.vectors for each in queries], rows, self.settings.metric)
        return [
            IndexResult(self._ranked(slots, each), exact=True) for each, slots in zip(queries, nearest, strict=True)
        ]

    def _candidates(self, queries: Sequence[IndexQuery], rows: int, candidates: Sequence[int]) -> list[Slots]:
        """For each query, the live slots that the graphs find and the near ones that are in no graph yet.

        Empty for all queries if a graph fails.
        """
        vectors = [each.vectors for each in queries]
        try:
            found = self._by_graphs(np.concatenate(vectors), rows, candidates)
        except RuntimeError:
            return [np.empty(0, dtype=np.int64)] * len(queries)
        recent = self.view.nearest(vectors, rows, self.settings.metric, start=end_of(self.segments))
        ends = np.cumsum([len(each) for each in vectors])
        by_graphs = [np.unique(part) for part in np.split(found, ends[:-1])]
        live = self.view.live
        return [np.concatenate([slots[live[slots]], after]) for slots, after in zip(by_graphs, recent, strict=True)]

    def _by_graphs(self, vectors: Floats, rows: int, candidates: Sequence[int]) -> Slots:
        """Return the slots that the graphs find for each vector: int64 [m, any], perhaps with deleted ones among them.

        Raises:
            RuntimeError: A graph reaches too few of its rows.
        """
        found: dict[Projection | None, list[tuple[Slots, Floats]]] = {}
        projected: dict[Projection | None, Floats] = {None: vectors}
        limits: dict[Projection | None, int] = {}
        for segment, count in zip(self.segments, candidates, strict=True):
            if segment.graph is not None:
                projection = segment.graph.projection
                if projection is not None and projection not in projected:
                    projected[projection] = projection(vectors)
                offsets, distances = segment.graph.nearest(projected[projection], count)
                found.setdefault(projection, []).append((segment.begin + offsets, distances))
                limits[projection] = segment.graph.candidates_for(rows)
        return np.concatenate([self._nearest(found[each], limits[each]) for each in found], axis=1)

    def _nearest(self, found: Sequence[tuple[Slots, Floats]], limit: int) -> Slots:
        """Of the slots that graphs of one projection found for each vector, the nearest `limit` live ones."""
        slots = np.concatenate([each for each, _ in found], axis=1)
        if slots.shape[1] <= limit:
            return slots
        distances = np.where(self.view.live[slots], np.concatenate([each for _, each in found], axis=1), np.inf)
        return np.take_along_axis(slots, np.argpartition(distances, limit - 1, axis=1)[:, :limit], axis=1)

    def _ranked(self, slots: Slots, query: IndexQuery) -> list[Hit]:
        distances = self.view.measured(slots, query.vectors, self.settings.metric)
        order = sorted(
            (distance, self.owners[slot].product_id, self.owners[slot].image_index)
            for slot, distance in zip(slots.tolist(), distances.tolist(), strict=True)
        )
        best: dict[str, Hit] = {}
        for distance, product_id, image_index in order:
            if product_id not in best and product_id != query.exclude:
                best[product_id] = Hit(product_id, image_index, distance)
                if len(best) == query.k:
                    break
        return list(best.values())

    def _products(self, exclude: str | None) -> int:
        """Count the products that can be found; slow, so only called if fewer than k were found."""
        return len({self.owners[slot].product_id for slot in np.flatnonzero(self.view.live).tolist()} - {exclude})
