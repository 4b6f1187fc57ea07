"""Rows of one category in one matrix, and the exact search over them.

A row keeps its slot for good; removing it only clears its live bit. Candidates are chosen with float32 arithmetic and
then measured in float64, each row by itself, so that equal rows get equal distances wherever they stand and ties can
be broken by product id.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from lookalike_server.domain.inference import Floats, Metric
from lookalike_server.index.row_storage import GrowingMatrix, Matrix, Slots, copies

Distances = npt.NDArray[np.float64]

TIE_MARGIN = 1e-5
"""Candidates this much beyond the k-th (relative, for euclidean) are measured too: more than float32's rounding."""

_WORTH_COPYING = 0.4  # of the rows; fewer live ones are copied out before they are compared
_SUMMED = 8192  # numbers whose products float32 adds up; the rounding of more would come near to the margin


@dataclass(frozen=True, slots=True)
class View:
    """The rows as they were at one moment; later changes do not show. vectors float32 [n, dim], live bool [n]."""

    vectors: Matrix
    live: npt.NDArray[np.bool_]

    def only(self, mask: npt.NDArray[np.bool_]) -> View:
        """The rows that are also in the mask (bool [n])."""
        return View(self.vectors, self.live & mask)

    def nearest(self, questions: Sequence[Floats], rows: int, metric: Metric, start: int = 0) -> list[Slots]:
        """For each query choose the live slots from `start` on that can be among its `rows` nearest, unordered.

        Args:
            queries: Of each the vectors, float32 [m, dim], any of which may be near.
            rows: How many are wanted; ties with the last and a margin for rounding come on top.
            metric: How distance is measured.
            start: The first slot to look at.
        """
        slots = start + np.flatnonzero(self.live[start:])
        if len(slots) <= rows:
            return [slots] * len(questions)
        few = len(slots) < _WORTH_COPYING * (len(self.live) - start)
        pieces = copies(self.vectors, slots) if few else self.vectors.part(start, len(self.live)).pieces()
        return [
            _nearest(slots, every if few else every[slots - start], rows, metric)
            for every in _rough(pieces, questions, metric)
        ]

    def nearest_of(self, slots: Slots, vectors: Floats, rows: int, metric: Metric) -> Slots:
        """Choose of some live slots (int64 [n]) as `nearest` does for one query."""
        if len(slots) <= rows:
            return slots
        (distances,) = _rough(copies(self.vectors, slots), [vectors], metric)
        return _nearest(slots, distances, rows, metric)

    def measured(self, slots: Slots, queries: Floats, metric: Metric) -> Distances:
        """Distance of each of these rows (int64 [n]) to the nearest of the queries, as `measure`."""
        if not len(slots):
            return np.empty(0)
        return np.concatenate([measure(rows, queries, metric) for rows in copies(self.vectors, slots)])


class FlatRows:
    """The growing matrix. One thread changes it, under the lock of the partition that takes the views."""

    def __init__(self, dim: int) -> None:
        self._vectors = GrowingMatrix(dim)
        self._live = np.zeros(0, dtype=np.bool_)
        self.count = 0
        self.dead = 0

    @classmethod
    def copied(cls, view: View, slots: Slots) -> FlatRows:
        """Live rows with the vectors of these slots, and room for some more."""
        rows = cls(view.vectors.shape[1])
        rows._vectors.reserve(len(slots) + max(8, len(slots) // 8))
        for piece in copies(view.vectors, slots):
            rows._vectors.put(rows.count, piece)
            rows.count += len(piece)
        rows._fit()
        rows._live[: rows.count] = True
        return rows

    @classmethod
    def with_gaps(cls, dim: int, gaps: int, capacity: int) -> FlatRows:
        """Slots for `gaps` rows, all dead until they are filled, and room for rows up to `capacity` in all."""
        rows = cls(dim)
        rows._vectors.reserve(max(gaps, capacity))
        rows._fit()
        rows.count = rows.dead = gaps
        return rows

    def append(self, vector: Floats) -> int:
        """Add a row (float32 [dim]) and return its slot."""
        if self.count == len(self._live):
            self._vectors.grow()
            self._fit()
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
        live = iter(rows.live.tolist())
        for piece in rows.vectors.pieces():
            for vector in piece:
                slot = self.append(vector)
                if not next(live):
                    self.remove(slot)

    def _fit(self) -> None:
        """Have a live bit for every row that there is room for."""
        # A new array, never resized in place: a view may still be reading the old one.
        live = np.zeros(self._vectors.capacity, dtype=np.bool_)
        live[: len(self._live)] = self._live
        self._live = live

    def view(self) -> View:
        """The rows as they are now."""
        return View(self._vectors.until(self.count), self._live[: self.count].copy())


def measure(vectors: Floats, queries: Floats, metric: Metric) -> Distances:
    """Distance of each row to the nearest of the queries, float64 [n], the same for equal rows at any position.

    Cosine: 1 - x.q / (|x| |q|), 0 to 2, where a zero vector is 1 from everything. Euclidean: |x - q|.

    The values are float32's, as answers carry them: what a caller sees as equal is a tie, and a distance from an
    answer, sent back as `max_distance`, lets the same product in. Takes four times the memory of the rows meanwhile.
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


def _rough(pieces: Iterable[Floats], questions: Sequence[Floats], metric: Metric) -> list[Floats]:
    """For each query the float32 distance of every row to the nearest of its vectors; the rows come in pieces."""
    vectors = np.concatenate(questions)
    ends = np.cumsum([len(question) for question in questions])[:-1]
    rough = _rough_cosine if metric is Metric.COSINE else _rough_euclidean
    found: list[list[Floats]] = [[] for _ in questions]
    # Every query looks at a piece while it is in the caches.
    for piece in pieces:
        for own, distances in zip(found, np.split(rough(piece, vectors), ends, axis=1), strict=True):
            own.append(distances.min(axis=1))
    return [np.concatenate(own) for own in found]


def _rough_cosine(rows: Floats, vectors: Floats) -> Floats:
    """Distances [n, m]. All of them have length 1 (the engine sees to it), so the product is the cosine."""
    if rows.shape[1] <= _SUMMED:
        return np.float32(1.0) - rows @ vectors.T
    cosines = np.zeros((len(rows), len(vectors)))
    for part in _parts(rows.shape[1]):
        cosines += rows[:, part] @ vectors[:, part].T
    return (1.0 - cosines).astype(np.float32)


def _rough_euclidean(rows: Floats, vectors: Floats) -> Floats:
    """Distances [n, m]."""
    squares = np.zeros((len(rows), len(vectors)))
    room = np.empty((len(rows), min(rows.shape[1], _SUMMED)), dtype=np.float32)  # once: fresh memory costs more
    for part in _parts(rows.shape[1]):
        for number, vector in enumerate(vectors[:, part]):
            differences = np.subtract(rows[:, part], vector, out=room[:, : len(vector)])
            squares[:, number] += np.einsum("ij,ij->i", differences, differences)
    return np.sqrt(squares).astype(np.float32)


def _parts(dim: int) -> Iterator[slice]:
    for begin in range(0, dim, _SUMMED):
        yield slice(begin, begin + _SUMMED)
