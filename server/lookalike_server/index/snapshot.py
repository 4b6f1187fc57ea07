"""The rows of one category as they were at one moment, and the search over them. Nothing here changes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from lookalike_server.domain.inference import Floats
from lookalike_server.domain.search import Hit, IndexQuery, IndexResult
from lookalike_server.index.brute_force import View
from lookalike_server.index.projection import Projection
from lookalike_server.index.row_storage import Slots
from lookalike_server.index.segment import PartitionSettings, Segment, end_of

_WORTH_GRAPH = 1 / 12  # of the rows; more candidates than these cost a graph as much as looking at every row


class RowOwner(NamedTuple):
    """Whose image a row is."""

    label: int
    product_id: str
    image_index: int


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What a search needs.

    Attributes:
        settings: How the category is searched.
        view: The rows that count.
        owners: Whose they are, by slot.
        segments: The graphs over the older of them.
        most_images: The most rows that a product has.
        filtered: Whether rows were left out because of conditions.
        fell_back: Told when a graph did not find enough.
    """

    settings: PartitionSettings
    view: View
    owners: Sequence[RowOwner]
    segments: Sequence[Segment]
    most_images: int
    filtered: bool
    fell_back: Callable[[], None]

    def search(self, questions: Sequence[IndexQuery], *, exact: bool) -> list[IndexResult]:
        """SearchResult queries together, each by itself; `exact` compares every row also where there is a graph."""
        # Products, not rows, are wanted: leave room for each to have all its images among the nearest.
        rows = max(each.k + (each.exclude is not None) for each in questions) * self.most_images
        if not self.segments or exact:
            return self._exact(questions, rows)
        if self.filtered and np.count_nonzero(self.view.live) <= self.settings.full_scan_threshold:
            return self._exact(questions, rows)
        wanted = [segment.wanted(self.view, rows) for segment in self.segments]
        if self.filtered and sum(wanted) > _WORTH_GRAPH * len(self.view.live):
            return self._exact(questions, rows)
        answers: list[IndexResult] = []
        for question, slots in zip(questions, self._candidates(questions, rows, wanted), strict=True):
            nearest = self.view.nearest_of(slots, question.vectors, rows, self.settings.metric)
            hits = self._ranked(nearest, question)
            if len(hits) == question.k or len(hits) == self._products(question.exclude):
                answers.append(IndexResult(hits, exact=False))
            else:
                self.fell_back()
                answers += self._exact([question], rows)
        return answers

    def _exact(self, questions: Sequence[IndexQuery], rows: int) -> list[IndexResult]:
        nearest = self.view.nearest([each.vectors for each in questions], rows, self.settings.metric)
        return [
            IndexResult(self._ranked(slots, each), exact=True) for each, slots in zip(questions, nearest, strict=True)
        ]

    def _candidates(self, questions: Sequence[IndexQuery], rows: int, wanted: Sequence[int]) -> list[Slots]:
        """For each query the live slots that the graphs choose and the near ones that came after them.

        None at all where a graph fails, which it does for all of the queries at once.
        """
        vectors = [each.vectors for each in questions]
        try:
            found = self._chosen(np.concatenate(vectors), rows, wanted)
        except RuntimeError:
            return [np.empty(0, dtype=np.int64)] * len(questions)
        recent = self.view.nearest(vectors, rows, self.settings.metric, start=end_of(self.segments))
        ends = np.cumsum([len(each) for each in vectors])
        chosen = [np.unique(part) for part in np.split(found, ends[:-1])]
        live = self.view.live
        return [np.concatenate([slots[live[slots]], after]) for slots, after in zip(chosen, recent, strict=True)]

    def _chosen(self, vectors: Floats, rows: int, wanted: Sequence[int]) -> Slots:
        """What the graphs choose for each of the vectors: int64 [m, any], dead ones perhaps among them.

        Raises:
            RuntimeError: A graph reaches too few of its rows.
        """
        found: dict[Projection | None, list[tuple[Slots, Floats]]] = {}
        projected: dict[Projection | None, Floats] = {None: vectors}
        most: dict[Projection | None, int] = {}
        for segment, count in zip(self.segments, wanted, strict=True):
            if segment.graph is not None:
                projection = segment.graph.projection
                if projection is not None and projection not in projected:
                    projected[projection] = projection(vectors)
                offsets, far = segment.graph.nearest(projected[projection], count)
                found.setdefault(projection, []).append((segment.begin + offsets, far))
                most[projection] = segment.graph.weighed(rows)
        return np.concatenate([self._nearest(found[each], most[each]) for each in found], axis=1)

    def _nearest(self, found: Sequence[tuple[Slots, Floats]], most: int) -> Slots:
        """Of what several graphs of one projection found for each vector, the `most` that seem nearest and are live."""
        slots = np.concatenate([each for each, _ in found], axis=1)
        if slots.shape[1] <= most:
            return slots
        far = np.where(self.view.live[slots], np.concatenate([each for _, each in found], axis=1), np.inf)
        return np.take_along_axis(slots, np.argpartition(far, most - 1, axis=1)[:, :most], axis=1)

    def _ranked(self, slots: Slots, question: IndexQuery) -> list[Hit]:
        distances = self.view.measured(slots, question.vectors, self.settings.metric)
        order = sorted(
            (distance, self.owners[slot].product_id, self.owners[slot].image_index)
            for slot, distance in zip(slots.tolist(), distances.tolist(), strict=True)
        )
        best: dict[str, Hit] = {}
        for distance, product_id, image_index in order:
            if product_id not in best and product_id != question.exclude:
                best[product_id] = Hit(product_id, image_index, distance)
                if len(best) == question.k:
                    break
        return list(best.values())

    def _products(self, exclude: str | None) -> int:
        """How many products there are to find; looks at every row, so only asked where too few were found."""
        return len({self.owners[slot].product_id for slot in np.flatnonzero(self.view.live).tolist()} - {exclude})
