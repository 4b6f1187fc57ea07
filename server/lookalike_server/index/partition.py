"""One category: a flat matrix of every row, and above a size segments of the older ones, each with an HNSW graph.

A row is searchable at once: a search merges the graphs' candidates with an exact look at the rows that came after them,
drops the dead, and measures what is left exactly. Graphs are built aside and swapped in as a reference; new rows join
the last segment, which is built anew, until it is full, so that no build and no call of a graph takes long. Where too
many rows are dead the live ones are copied and their graphs built aside as well, while the old ones go on answering.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from lookalike_server.domain import Hit, Hits, IndexKind, IndexRow, Metric, Question
from lookalike_server.filters import Condition
from lookalike_server.index.attributes import AttributeColumns
from lookalike_server.index.flat import FlatRows, Slots, View, measure
from lookalike_server.index.hnsw import HnswGraph, HnswSettings

DEAD_SHARE = 0.2
"""The share of dead rows at which a partition is copied without them."""

_SLACK = 2  # times as many candidates are asked of a graph as should do where rows are spread evenly
_WORTH_GRAPH = 1 / 12  # of the rows; more candidates than these cost a graph as much as looking at every row


@dataclass(frozen=True, slots=True)
class PartitionSettings:
    """When a category is searched how.

    Attributes:
        dim: Numbers in a vector.
        metric: How distance is measured.
        flat_limit: Rows up to which every one is compared; beyond, a graph is built over them.
        hnsw: How graphs are built.
        segment_rows: The most rows under one graph.
    """

    dim: int
    metric: Metric
    flat_limit: int
    hnsw: HnswSettings
    segment_rows: int = 16_384


@dataclass(frozen=True, slots=True)
class _Segment:
    """Rows that change no more but die: slots from `begin` to before `end`, and their graph (None: all were dead)."""

    graph: HnswGraph | None
    begin: int
    end: int

    def needed(self, view: View, rows: int) -> int:
        """How many candidates its graph should be asked for, so that `rows` of them are live."""
        live = int(np.count_nonzero(view.live[self.begin : self.end]))
        hidden = self.end - self.begin - live
        if not hidden:
            return rows
        return min(rows + hidden, math.ceil(_SLACK * rows * (self.end - self.begin) / max(1, live)))


class _Owner(NamedTuple):
    label: int
    product_id: str
    image_index: int


class Partition:
    """The rows of one category. One thread changes it, another may build its graph; any thread searches."""

    def __init__(self, settings: PartitionSettings, fell_back: Callable[[], None]) -> None:
        self._settings = settings
        self._fell_back = fell_back
        self._lock = threading.Lock()
        self._rows = FlatRows(settings.dim)
        self._attributes = AttributeColumns()
        self._owners: list[_Owner] = []  # by slot
        self._slots: dict[int, int] = {}  # by label
        self._photos: dict[str, int] = {}  # live rows a product
        self._most_photos = 1
        self._segments: tuple[_Segment, ...] = ()

    def __len__(self) -> int:
        """Products in it."""
        return len(self._photos)

    @property
    def kind(self) -> IndexKind:
        """How it is searched at present."""
        return IndexKind.HNSW if self._segments else IndexKind.FLAT

    @property
    def wants_care(self) -> bool:
        """Whether too many rows are dead, or more are outside the segments than a flat search should look at."""
        return self._wants_compaction or self._rows.count - _end(self._segments) > self._settings.flat_limit

    @property
    def _wants_compaction(self) -> bool:
        return self._rows.dead > DEAD_SHARE * self._rows.count

    def change(
        self,
        removed: Sequence[int],
        added: Sequence[IndexRow],
        described: Sequence[tuple[int, Mapping[str, str]]] = (),
    ) -> None:
        """Take out rows by label, take these in, and describe others anew; a search sees all of it or nothing."""
        with self._lock:
            for label in removed:
                self._remove(label)
            for row in added:
                self._add(row)
            for label, attributes in described:
                self._attributes.put(self._slots[label], attributes)

    def care(self) -> None:
        """Do a piece of what it wants; takes long, and holds up neither searches nor changes. One thread does it."""
        if self._wants_compaction:
            self._compact()
        else:
            self._build_graph()

    def _build_graph(self) -> None:
        with self._lock:
            view, segments = self._rows.view(), self._segments
        begin = _end(segments)
        if segments and len(view.live) - segments[-1].begin <= self._settings.segment_rows:
            *full, last = segments
            segments, begin = tuple(full), last.begin
        segment = self._sealed(view, begin)
        with self._lock:
            self._segments = (*segments, segment)

    def _sealed(self, view: View, begin: int) -> _Segment:
        """The segment that begins at a slot, with as many rows as there are and a segment may have."""
        end = min(len(view.live), begin + self._settings.segment_rows)
        slots = begin + np.flatnonzero(view.live[begin:end])
        graph = None
        if len(slots):
            graph = HnswGraph(view.vectors[slots], slots, self._settings.metric, self._settings.hnsw)
        return _Segment(graph, begin, end)

    def _compact(self) -> None:
        """Copy the live rows, build their graphs, and swap both in with what changed meanwhile."""
        with self._lock:
            before = self._rows.view()
        kept = np.flatnonzero(before.live)
        rows = FlatRows.copied(before, kept)
        segments: list[_Segment] = []
        while rows.count - _end(segments) > self._settings.flat_limit:
            segments.append(self._sealed(rows.view(), _end(segments)))
        with self._lock:
            now = self._rows.view()
            for slot in np.flatnonzero(~now.live[kept]).tolist():
                rows.remove(slot)
            rows.extend(View(now.vectors[len(before.live) :], now.live[len(before.live) :]))
            order = np.concatenate([kept, np.arange(len(before.live), len(now.live))])
            # New containers: searches under way go on with the old ones.
            self._owners = [self._owners[slot] for slot in order.tolist()]
            alive = np.flatnonzero(now.live[order]).tolist()
            self._slots = {self._owners[slot].label: slot for slot in alive}
            self._attributes = self._attributes.taken(order)
            self._rows, self._segments = rows, tuple(segments)

    def search(self, questions: Sequence[Question], *, exact: bool, conditions: Sequence[Condition] = ()) -> list[Hits]:
        """Answer questions together, each by itself; `exact` compares every row also where there is a graph."""
        with self._lock:
            view, segments, owners = self._rows.view(), self._segments, self._owners
            if conditions:
                view = view.only(self._attributes.matching(conditions, len(view.live)))
            # Products, not rows, are wanted: leave room for each to have all its photos among the nearest.
            rows = max(each.k + (each.exclude is not None) for each in questions) * self._most_photos
        if not segments or exact or (conditions and np.count_nonzero(view.live) <= self._settings.flat_limit):
            return self._exact(view, owners, questions, rows)
        asked = [segment.needed(view, rows) for segment in segments]
        if conditions and sum(asked) > _WORTH_GRAPH * len(view.live):
            return self._exact(view, owners, questions, rows)
        candidates = self._candidates(view, segments, questions, rows, asked)
        answers: list[Hits] = []
        for question, slots in zip(questions, candidates, strict=True):
            hits = self._rank(view, owners, slots, question)
            if len(hits) == question.k or len(hits) == _products(view, owners, question.exclude):
                answers.append(Hits(hits, exact=False))
            else:
                self._fell_back()
                answers += self._exact(view, owners, [question], rows)
        return answers

    def _exact(self, view: View, owners: Sequence[_Owner], questions: Sequence[Question], rows: int) -> list[Hits]:
        nearest = view.nearest([each.vectors for each in questions], rows, self._settings.metric)
        return [
            Hits(self._rank(view, owners, slots, each), exact=True)
            for each, slots in zip(questions, nearest, strict=True)
        ]

    def _candidates(
        self, view: View, segments: Sequence[_Segment], questions: Sequence[Question], rows: int, asked: Sequence[int]
    ) -> list[Slots]:
        """For each question the live slots that the graphs choose and the near ones that came after them.

        None at all where a graph fails, which it does for all of the questions at once.
        """
        vectors = [each.vectors for each in questions]
        together = np.concatenate(vectors)
        found = [np.empty((len(together), 0), dtype=np.int64)]
        try:
            for segment, count in zip(segments, asked, strict=True):
                if segment.graph is not None:
                    found.append(segment.graph.nearest(together, count))
        except RuntimeError:
            return [np.empty(0, dtype=np.int64)] * len(questions)
        recent = view.nearest(vectors, rows, self._settings.metric, start=_end(segments))
        ends = np.cumsum([len(each) for each in vectors])
        chosen = [np.unique(part) for part in np.split(np.concatenate(found, axis=1), ends[:-1])]
        return [np.concatenate([slots[view.live[slots]], after]) for slots, after in zip(chosen, recent, strict=True)]

    def _rank(self, view: View, owners: Sequence[_Owner], slots: Slots, question: Question) -> list[Hit]:
        distances = measure(view.vectors[slots], question.vectors, self._settings.metric)
        order = sorted(
            (distance, owners[slot].product_id, owners[slot].image_index)
            for slot, distance in zip(slots.tolist(), distances.tolist(), strict=True)
        )
        best: dict[str, Hit] = {}
        for distance, product_id, image_index in order:
            if product_id not in best and product_id != question.exclude:
                best[product_id] = Hit(product_id, image_index, distance)
                if len(best) == question.k:
                    break
        return list(best.values())

    def _add(self, row: IndexRow) -> None:
        slot = self._slots[row.label] = self._rows.append(row.vector)
        self._attributes.put(slot, row.attributes)
        self._owners.append(_Owner(row.label, row.product_id, row.image_index))
        photos = self._photos[row.product_id] = self._photos.get(row.product_id, 0) + 1
        self._most_photos = max(self._most_photos, photos)

    def _remove(self, label: int) -> None:
        slot = self._slots.pop(label)
        self._rows.remove(slot)
        self._attributes.drop(slot)
        product_id = self._owners[slot].product_id
        self._photos[product_id] -= 1
        if not self._photos[product_id]:
            del self._photos[product_id]


def _end(segments: Sequence[_Segment]) -> int:
    """The first slot that is in no segment."""
    return segments[-1].end if segments else 0


def _products(view: View, owners: Sequence[_Owner], exclude: str | None) -> int:
    """How many products there are to find; looks at every row, so only asked where too few were found."""
    return len({owners[slot].product_id for slot in np.flatnonzero(view.live).tolist()} - {exclude})
