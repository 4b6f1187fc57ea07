"""The rows of one category in one matrix, and the exact search that compares all of them.

A row keeps its slot; deleting it only clears its live bit. Candidates are chosen with float32 arithmetic and then
measured in float64, each row by itself, so that equal rows have equal distances at any slot and ties can be broken by
product id.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain

import numpy as np
import numpy.typing as npt

from lookalike_server.domain.inference import Floats, Metric
from lookalike_server.domain.vectors import joined
from lookalike_server.index.row_blocks import ANONYMOUS, RowBlocks
from lookalike_server.index.row_storage import CHUNK_BYTES, GrowingMatrix, Matrix, Slots, copies, rows_in

Distances = npt.NDArray[np.float64]

TIE_MARGIN = 1e-5
"""Candidates this much farther than the k-th (relative, for euclidean) are measured too: more than float32 rounding."""

_GATHER_RATIO = 0.4  # of the rows; if fewer are live, they are gathered before they are compared
_JOINED_BYTES = 512 << 10  # of rows that are added at a time
_MAX_TERMS = 8192  # of a sum in float32; with more, rounding would come close to the margin


@dataclass(frozen=True, slots=True)
class FlatView:
    """A snapshot of the rows, which later changes do not affect: vectors float32 [n, dim], live bool [n]."""

    vectors: Matrix
    live: npt.NDArray[np.bool_]

    def only(self, mask: npt.NDArray[np.bool_]) -> FlatView:
        """Return the rows that are also in the mask (bool [n])."""
        return FlatView(self.vectors, self.live & mask)

    def nearest(self, queries: Sequence[Floats], rows: int, metric: Metric) -> list[Slots]:
        """For each query, find the live slots that can be among its `rows` nearest, unordered.

        Args:
            queries: The vectors of each, float32 [m, dim]; a row is as near as the nearest of them.
            rows: How many to find; ties with the last, and rows within the rounding margin, come on top.
            metric: How distance is measured.
        """
        if np.count_nonzero(self.live) <= rows:
            return [np.flatnonzero(self.live)] * len(queries)
        slots, compared = self.compared(queries, metric)
        return [nearest_of(slots, distances, rows, metric) for distances in compared]

    def compared(
        self, queries: Sequence[Floats], metric: Metric, apart: RowsApart | None = None, start: int = 0
    ) -> tuple[Slots, list[Floats]]:
        """Return live slots, int64 [n], and for each query their distances to it by float32 arithmetic, float32 [n].

        Args:
            queries: The vectors of each, float32 [m, dim]; a row is as near as the nearest of them.
            metric: How distance is measured.
            apart: Rows to compare besides those from `start` on, all before it.
            start: The first of the slots that are compared anyway.
        """
        chunks: Iterable[Floats] = ()
        positions = slots = np.empty(0, dtype=np.int64)
        if apart is not None and len(apart.slots):
            positions = np.flatnonzero(self.live[apart.slots])
            slots = apart.slots[positions]
            if apart.rows is not None:
                chunks, before = (apart.rows,), len(apart.slots)
            else:
                chunks, before = copies(self.vectors, slots), len(slots)
                positions = np.arange(before)
        else:
            before = 0
        tail = np.flatnonzero(self.live[start:])
        if len(tail):
            if len(tail) < _GATHER_RATIO * (len(self.live) - start):
                chunks = chain(chunks, copies(self.vectors, start + tail))
                positions = np.append(positions, np.arange(before, before + len(tail)))
            else:
                chunks = chain(chunks, self.vectors.part(start, len(self.live)).chunks())
                positions = np.append(positions, before + tail)
            slots = np.append(slots, start + tail)
        if not len(slots):
            return slots, [np.empty(0, dtype=np.float32)] * len(queries)
        return slots, [distances[positions] for distances in _rough(chunks, queries, metric)]

    def measured(self, slots: Slots, queries: Floats, metric: Metric) -> Distances:
        """Return the distance of each of these rows (int64 [n]) to the nearest query, as `measure` does."""
        measured = [measure(rows, queries, metric) for rows in copies(self.vectors, slots)]
        return np.concatenate(measured) if measured else np.empty(0)


class RowsApart:
    """Rows that are compared beside others, and copies of them: gathering takes several times as long as comparing.

    Attributes:
        slots: int64 [n].
        rows: float32 [n, dim], their vectors; None where they were not copied, or are too many.
    """

    def __init__(self, slots: Slots) -> None:
        """Begin without copies; see `copy`."""
        self.slots = slots
        self.rows: Floats | None = None

    def copy(self, vectors: Matrix) -> None:
        """Copy the rows, for the searches from now on, unless they have more than `CHUNK_BYTES`."""
        if len(self.slots) <= rows_in(CHUNK_BYTES, vectors.shape[1]):
            self.rows = vectors[self.slots]


class FlatIndex:
    """A growing matrix of rows. One thread changes it, under the lock of the partition that takes the views."""

    def __init__(self, dim: int, memory: RowBlocks = ANONYMOUS) -> None:
        self._vectors = GrowingMatrix(dim, memory)
        self._live = np.zeros(0, dtype=np.bool_)
        self.count = 0
        self.deleted = 0

    @classmethod
    def of(cls, vectors: Matrix, live: npt.NDArray[np.bool_], memory: RowBlocks = ANONYMOUS) -> FlatIndex:
        """Return these rows, of which these are live (bool [n]), not copied; new ones go into the last block."""
        rows = cls(vectors.shape[1], memory)
        rows._vectors = GrowingMatrix.of(vectors.shape[1], memory, vectors.blocks)
        rows._fit()
        rows._live[: len(live)] = live
        rows.count = len(live)
        rows.deleted = rows.count - int(np.count_nonzero(live))
        return rows

    def reserve(self, capacity: int) -> None:
        """Reserve memory for at least `capacity` rows."""
        self._vectors.reserve(capacity)
        self._fit()

    @property
    def is_resident(self) -> bool:
        """Whether reading any row would wait for no disk (see `GrowingMatrix.is_resident`)."""
        return self._vectors.is_resident(self.count)

    def append(self, vector: Floats) -> int:
        """Add a row (float32 [dim]) and return its slot."""
        self._make_room(1)
        slot = self.count
        self._vectors[slot] = vector
        self._live[slot] = True
        self.count += 1
        return slot

    def append_all(self, vectors: Sequence[Floats]) -> int:
        """Add rows (float32 [dim] each) and return the slot of the first."""
        first = self.count
        if vectors:
            self._make_room(len(vectors))
            step = rows_in(_JOINED_BYTES, len(vectors[0]))
            for begin in range(0, len(vectors), step):
                self._vectors.put(first + begin, joined(vectors[begin : begin + step]))
            self._live[first : first + len(vectors)] = True
            self.count += len(vectors)
        return first

    def _make_room(self, rows: int) -> None:
        while self.count + rows > len(self._live):
            self._vectors.grow()
            self._fit()

    def remove(self, slot: int) -> None:
        """Remove a row from all later views."""
        self._live[slot] = False
        self.deleted += 1

    def is_live(self, slots: Slots) -> npt.NDArray[np.bool_]:
        """Return whether these rows (int64 [n]) are live: bool [n]."""
        return self._live[slots]

    def stage(self, vectors: Floats) -> None:
        """Store rows (float32 [n, dim]) after the last one, within the capacity; no row is added yet."""
        self._vectors.put(self.count, vectors)

    def add_staged(self, rows: int) -> None:
        """Add as many of the rows that were staged."""
        self._live[self.count : self.count + rows] = True
        self.count += rows

    def _fit(self) -> None:
        """Extend the live bits to the capacity."""
        # A new array, never resized in place: a view may still be reading the old one.
        live = np.zeros(self._vectors.capacity, dtype=np.bool_)
        live[: len(self._live)] = self._live
        self._live = live

    @property
    def vectors(self) -> Matrix:
        """The vectors of all slots, with deleted ones."""
        return self._vectors.until(self.count)

    def view(self) -> FlatView:
        """Return the rows as they are now."""
        return FlatView(self.vectors, self._live[: self.count].copy())


def measure(vectors: Floats, queries: Floats, metric: Metric) -> Distances:
    """Return the distance of each row to the nearest query: float64 [n], the same for equal rows at any position.

    Cosine: 1 - x.q / (|x| |q|), 0 to 2, where a zero vector is 1 from everything. Euclidean: |x - q|.

    The values are rounded to float32, as in responses: distances that look equal to a caller are ties, and the distance
    of a result, used as `max_distance`, includes that result. Takes four times the memory of the rows.
    """
    rows = vectors.astype(np.float64)
    # Not a matrix product, which sums a row in an order that depends on its position.
    squares = np.vecdot(rows, rows) if metric is Metric.COSINE else None
    best: Distances | None = None
    for query in queries.astype(np.float64):
        if squares is not None:
            lengths = np.sqrt(squares * np.vecdot(query, query))
            dots = np.vecdot(rows, query)
            cosine = np.divide(dots, lengths, out=np.zeros_like(dots), where=lengths > 0)
            distances = np.minimum(np.maximum(1.0 - cosine, 0.0), 2.0)
        else:
            differences = rows - query
            distances = np.sqrt(np.vecdot(differences, differences))
        best = distances if best is None else np.minimum(best, distances)
    assert best is not None  # noqa: S101 - a query has at least one vector
    return best.astype(np.float32).astype(np.float64)


def rounding_margin(distance: float, metric: Metric) -> float:
    """Return by how much two float32 distances of about this size may be in the wrong order."""
    return TIE_MARGIN if metric is Metric.COSINE else TIE_MARGIN * distance


def nearest_of(slots: Slots, distances: Floats, rows: int, metric: Metric) -> Slots:
    """Return the slots of the `rows` smallest float32 distances, and those that are farther by at most rounding."""
    if len(slots) <= rows:
        return slots
    last = np.partition(distances, rows - 1)[rows - 1]
    nearest: Slots = slots[distances <= last + rounding_margin(float(last), metric)]
    return nearest


def _rough(chunks: Iterable[Floats], queries: Sequence[Floats], metric: Metric) -> list[Floats]:
    """For each query, the float32 distance of every row to the nearest of its vectors; the rows come in chunks."""
    vectors = np.concatenate(queries)
    rough = _rough_cosine if metric is Metric.COSINE else _rough_euclidean
    if len(vectors) == len(queries):
        return list(np.concatenate([rough(chunk, vectors) for chunk in chunks]).T)
    ends = np.cumsum([len(query) for query in queries])[:-1]
    found: list[list[Floats]] = [[] for _ in queries]
    # All queries compare a chunk while it is in the CPU caches.
    for chunk in chunks:
        for own, distances in zip(found, np.split(rough(chunk, vectors), ends, axis=1), strict=True):
            own.append(distances.min(axis=1))
    return [np.concatenate(own) for own in found]


def _rough_cosine(rows: Floats, vectors: Floats) -> Floats:
    """Distances [n, m]. All vectors have length 1 (the engine normalizes them), so the dot product is the cosine."""
    if rows.shape[1] <= _MAX_TERMS:
        return np.float32(1.0) - rows @ vectors.T
    cosines = np.zeros((len(rows), len(vectors)))
    for part in _parts(rows.shape[1]):
        cosines += rows[:, part] @ vectors[:, part].T
    return (1.0 - cosines).astype(np.float32)


def _rough_euclidean(rows: Floats, vectors: Floats) -> Floats:
    """Distances [n, m]."""
    squares = np.zeros((len(rows), len(vectors)))
    buffer = np.empty((len(rows), min(rows.shape[1], _MAX_TERMS)), dtype=np.float32)  # once: fresh memory is slower
    for part in _parts(rows.shape[1]):
        for column, vector in enumerate(vectors[:, part]):
            differences = np.subtract(rows[:, part], vector, out=buffer[:, : len(vector)])
            squares[:, column] += np.einsum("ij,ij->i", differences, differences)
    return np.sqrt(squares).astype(np.float32)


def _parts(dim: int) -> Iterator[slice]:
    for begin in range(0, dim, _MAX_TERMS):
        yield slice(begin, begin + _MAX_TERMS)
