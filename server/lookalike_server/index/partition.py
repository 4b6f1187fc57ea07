"""One category: a flat matrix of every row, and above a size an HNSW graph over the older of them.

A row is searchable at once: a search merges the graph's candidates with an exact look at the rows that came after it,
drops the dead, and measures what is left exactly. Graphs are built aside and swapped in as a reference.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from lookalike_server.domain import Hit, Hits, IndexKind, IndexRow, Metric, Question
from lookalike_server.index.flat import FlatRows, Slots, View, measure
from lookalike_server.index.hnsw import HnswGraph, HnswSettings

DEAD_SHARE = 0.2
"""The share of dead rows at which a partition is copied without them."""


@dataclass(frozen=True, slots=True)
class PartitionSettings:
    """When a category is searched how.

    Attributes:
        dim: Numbers in a vector.
        metric: How distance is measured.
        flat_limit: Rows up to which every one is compared; beyond, a graph is built over them.
        hnsw: How graphs are built.
    """

    dim: int
    metric: Metric
    flat_limit: int
    hnsw: HnswSettings


@dataclass(frozen=True, slots=True)
class _Sealed:
    graph: HnswGraph
    end: int  # slots below it are in the graph


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
        self._owners: list[_Owner] = []  # by slot
        self._slots: dict[int, int] = {}  # by label
        self._photos: dict[str, int] = {}  # live rows a product
        self._most_photos = 1
        self._sealed: _Sealed | None = None

    def __len__(self) -> int:
        """Products in it."""
        return len(self._photos)

    @property
    def kind(self) -> IndexKind:
        """How it is searched at present."""
        return IndexKind.HNSW if self._sealed else IndexKind.FLAT

    @property
    def wants_graph(self) -> bool:
        """Whether more rows are outside a graph than a flat search should look at."""
        sealed = self._sealed
        return self._rows.count - (sealed.end if sealed else 0) > self._settings.flat_limit

    def change(self, removed: Sequence[int], added: Sequence[IndexRow]) -> None:
        """Take out the rows with these labels and take in these; a search sees all of it or nothing."""
        with self._lock:
            for label in removed:
                self._remove(label)
            for row in added:
                self._add(row)
            if self._rows.dead > DEAD_SHARE * self._rows.count:
                self._compact()

    def build_graph(self) -> None:
        """Build a graph over all live rows and swap it in; given up when the slots were renumbered meanwhile."""
        with self._lock:
            rows, view = self._rows, self._rows.view()
        slots = np.flatnonzero(view.live)
        if len(slots) == 0:
            return
        graph = HnswGraph(view.vectors[slots], slots, self._settings.metric, self._settings.hnsw)
        with self._lock:
            if rows is self._rows:
                self._sealed = _Sealed(graph, len(view.live))

    def search(self, questions: Sequence[Question], *, exact: bool) -> list[Hits]:
        """Answer questions together, each by itself; `exact` compares every row also where there is a graph."""
        with self._lock:
            view, sealed, owners = self._rows.view(), self._sealed, self._owners
            there = [min(each.k, len(self._photos) - (each.exclude in self._photos)) for each in questions]
            # Products, not rows, are wanted: leave room for each to have all its photos among the nearest.
            rows = max(each.k + (each.exclude is not None) for each in questions) * self._most_photos
        if sealed is None or exact:
            return self._exact(view, owners, questions, rows)
        candidates = self._candidates(view, sealed, questions, rows)
        answers: list[Hits] = []
        for question, slots, wanted in zip(questions, candidates, there, strict=True):
            hits = self._rank(view, owners, slots, question)
            if len(hits) >= wanted:
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

    def _candidates(self, view: View, sealed: _Sealed, questions: Sequence[Question], rows: int) -> list[Slots]:
        """For each question the live slots that the graph chooses and the near ones that came after it.

        None at all where the graph fails, which it does for all of the questions at once.
        """
        vectors = [each.vectors for each in questions]
        dead = int(sealed.end - np.count_nonzero(view.live[: sealed.end]))
        try:
            found = sealed.graph.nearest(np.concatenate(vectors), rows + dead)
        except RuntimeError:
            return [np.empty(0, dtype=np.int64)] * len(questions)
        recent = view.nearest(vectors, rows, self._settings.metric, start=sealed.end)
        ends = np.cumsum([len(each) for each in vectors])
        chosen = [np.unique(part) for part in np.split(found, ends[:-1])]
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
        self._slots[row.label] = self._rows.append(row.vector)
        self._owners.append(_Owner(row.label, row.product_id, row.image_index))
        photos = self._photos[row.product_id] = self._photos.get(row.product_id, 0) + 1
        self._most_photos = max(self._most_photos, photos)

    def _remove(self, label: int) -> None:
        slot = self._slots.pop(label)
        self._rows.remove(slot)
        product_id = self._owners[slot].product_id
        self._photos[product_id] -= 1
        if not self._photos[product_id]:
            del self._photos[product_id]

    def _compact(self) -> None:
        view = self._rows.view()
        # New containers: searches under way go on with the old ones.
        rows = FlatRows(self._settings.dim)
        owners: list[_Owner] = []
        slots: dict[int, int] = {}
        for slot in np.flatnonzero(view.live).tolist():
            owner = self._owners[slot]
            slots[owner.label] = rows.append(view.vectors[slot])
            owners.append(owner)
        self._rows, self._owners, self._slots = rows, owners, slots
        self._sealed = None
