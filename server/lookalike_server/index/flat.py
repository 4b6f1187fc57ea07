"""Rows of one category in one matrix, and the exact search over them.

A row keeps its slot for good; removing it only clears its live bit. Candidates are chosen with float32 arithmetic and
then measured in float64, each row by itself, so that equal rows get equal distances wherever they stand and ties can
be broken by product id.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from lookalike_server.domain import Floats, Metric

Slots = npt.NDArray[np.int64]
Distances = npt.NDArray[np.float64]

TIE_MARGIN = 1e-5
"""Candidates this much beyond the k-th (relative, for euclidean) are measured too: more than float32's rounding."""

_WORTH_COPYING = 0.4  # of the rows; fewer live ones are copied out before they are compared
_CHUNK = 1024  # rows whose differences to a query are held at once: 8 MiB at 2,048 numbers


@dataclass(frozen=True, slots=True)
class View:
    """The rows as they were at one moment; later changes do not show. vectors float32 [n, dim], live bool [n]."""

    vectors: Floats
    live: npt.NDArray[np.bool_]

    def only(self, mask: npt.NDArray[np.bool_]) -> View:
        """The rows that are also in the mask (bool [n])."""
        return View(self.vectors, self.live & mask)

    def nearest(self, questions: Sequence[Floats], rows: int, metric: Metric, start: int = 0) -> list[Slots]:
        """For each question choose the live slots from `start` on that can be among its `rows` nearest, unordered.

        Args:
            questions: Of each the vectors, float32 [m, dim], any of which may be near.
            rows: How many are wanted; ties with the last and a margin for rounding come on top.
            metric: How distance is measured.
            start: The first slot to look at.
        """
        slots = start + np.flatnonzero(self.live[start:])
        if len(slots) <= rows:
            return [slots] * len(questions)
        few = len(slots) < _WORTH_COPYING * (len(self.live) - start)
        vectors = self.vectors[slots] if few else self.vectors[start:]
        return [
            _nearest(slots, every if few else every[slots - start], rows, metric)
            for every in _rough(vectors, questions, metric)
        ]

    def nearest_of(self, slots: Slots, vectors: Floats, rows: int, metric: Metric) -> Slots:
        """Choose of some live slots (int64 [n]) as `nearest` does for one question."""
        if len(slots) <= rows:
            return slots
        (distances,) = _rough(self.vectors[slots], [vectors], metric)
        return _nearest(slots, distances, rows, metric)


class FlatRows:
    """The growing matrix. One thread changes it, under the lock of the partition that takes the views."""

    def __init__(self, dim: int) -> None:
        self._vectors: Floats = np.empty((0, dim), dtype=np.float32)
        self._live = np.zeros(0, dtype=np.bool_)
        self.count = 0
        self.dead = 0

    @classmethod
    def copied(cls, view: View, slots: Slots) -> FlatRows:
        """Live rows with the vectors of these slots, and room for some more."""
        rows = cls(view.vectors.shape[1])
        rows.count = len(slots)
        rows._reserve(len(slots) + max(8, len(slots) // 8))
        np.take(view.vectors, slots, axis=0, out=rows._vectors[: rows.count])
        rows._live[: rows.count] = True
        return rows

    @classmethod
    def with_gaps(cls, dim: int, gaps: int, capacity: int) -> FlatRows:
        """Slots for `gaps` rows, all dead until they are filled, and room for rows up to `capacity` in all."""
        rows = cls(dim)
        rows._reserve(max(gaps, capacity))
        rows.count = rows.dead = gaps
        return rows

    def append(self, vector: Floats) -> int:
        """Add a row (float32 [dim]) and return its slot."""
        if self.count == len(self._vectors):
            self._reserve(max(8, self.count + self.count // 2))
        slot = self.count
        self._vectors[slot] = vector
        self._live[slot] = True
        self.count += 1
        return slot

    def fill(self, slot: int, vector: Floats) -> None:
        """Put a row (float32 [dim]) into a gap."""
        self._vectors[slot] = vector
        self._live[slot] = True
        self.dead -= 1

    def remove(self, slot: int) -> None:
        """Take a row out of every later view."""
        self._live[slot] = False
        self.dead += 1

    def extend(self, rows: View) -> None:
        """Add rows, dead ones too, in slots of their order."""
        for vector, live in zip(rows.vectors, rows.live.tolist(), strict=True):
            slot = self.append(vector)
            if not live:
                self.remove(slot)

    def _reserve(self, capacity: int) -> None:
        # New arrays, never resized in place: a view may still be reading the old ones.
        vectors = np.empty((capacity, self._vectors.shape[1]), dtype=np.float32)
        vectors[: len(self._vectors)] = self._vectors
        live = np.zeros(capacity, dtype=np.bool_)
        live[: len(self._live)] = self._live
        self._vectors, self._live = vectors, live

    def view(self) -> View:
        """The rows as they are now."""
        return View(self._vectors[: self.count], self._live[: self.count].copy())


def measure(vectors: Floats, queries: Floats, metric: Metric) -> Distances:
    """Distance of each row to the nearest of the queries, float64 [n], the same for equal rows at any position.

    Cosine: 1 - x.q / (|x| |q|), 0 to 2, where a zero vector is 1 from everything. Euclidean: |x - q|.

    The values are float32's, as answers carry them: what a caller sees as equal is a tie, and a distance from an
    answer, sent back as `max_distance`, lets the same product in.
    """
    best = np.full(len(vectors), np.inf)
    rows = vectors.astype(np.float64)
    for query in queries.astype(np.float64):
        if metric is Metric.COSINE:
            lengths = np.sqrt(np.einsum("ij,ij->i", rows, rows) * np.einsum("j,j->", query, query))
            dots = np.einsum("ij,j->i", rows, query)
            cosine = np.divide(dots, lengths, out=np.zeros_like(dots), where=lengths > 0)
            distances = np.clip(1.0 - cosine, 0.0, 2.0)
        else:
            differences = rows - query
            distances = np.sqrt(np.einsum("ij,ij->i", differences, differences))
        np.minimum(best, distances, out=best)
    return best.astype(np.float32).astype(np.float64)


def _nearest(slots: Slots, distances: Floats, rows: int, metric: Metric) -> Slots:
    """The slots at the `rows` smallest float32 distances, and those farther by no more than rounding."""
    last = np.partition(distances, rows - 1)[rows - 1]
    margin = TIE_MARGIN if metric is Metric.COSINE else TIE_MARGIN * float(last)
    nearest: Slots = slots[distances <= last + margin]
    return nearest


def _rough(vectors: Floats, questions: Sequence[Floats], metric: Metric) -> list[Floats]:
    """For each question the float32 distance of every row to the nearest of its vectors."""
    if metric is Metric.COSINE:
        # Rows and questions have length 1 (the engine sees to it), so the product is the cosine; one for all questions.
        cosines: Floats = vectors @ np.concatenate(questions).T
        ends = np.cumsum([len(question) for question in questions])
        return [np.float32(1.0) - part.max(axis=1) for part in np.split(cosines, ends[:-1], axis=1)]
    return [_rough_euclidean(vectors, question) for question in questions]


def _rough_euclidean(vectors: Floats, question: Floats) -> Floats:
    distances = np.empty(len(vectors), dtype=np.float32)
    for begin in range(0, len(vectors), _CHUNK):
        chunk = vectors[begin : begin + _CHUNK]
        best = np.full(len(chunk), np.inf, dtype=np.float32)
        for vector in question:
            differences = chunk - vector
            np.minimum(best, np.einsum("ij,ij->i", differences, differences), out=best)
        distances[begin : begin + _CHUNK] = np.sqrt(best)
    return distances
