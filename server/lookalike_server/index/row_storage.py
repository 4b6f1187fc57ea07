"""A matrix in blocks of bounded size, so that growing copies little and no pass over it takes much memory.

A single growing array is copied into a larger one, and both exist until the last search over the old one has ended:
gigabytes for embeddings of 100,352 dimensions. Here only the first block grows that way; the others are added whole.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from typing import Protocol

import numpy as np
import numpy.typing as npt

from lookalike_server.domain.inference import Floats
from lookalike_server.index.row_blocks import ANONYMOUS, RowBlocks
from lookalike_server.index.row_residency import Residency

Slots = npt.NDArray[np.int64]

BLOCK_BYTES = 64 << 20
"""The size of a block, unless a single row is larger."""

CHUNK_BYTES = 8 << 20
"""The size of the rows that are copied, subtracted or widened at once: about a core's own share of the CPU caches."""

_FEW_ROWS = 32  # which are copied faster one by one


def block_rows(dim: int) -> int:
    """Return how many rows of `dim` dimensions a block has."""
    return rows_in(BLOCK_BYTES, dim)


class Rows(Protocol):
    """A source of rows: a `Matrix`, or an array float32 [n, dim]."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Rows and dimensions."""

    def __getitem__(self, slots: Slots, /) -> Floats:
        """Return a copy of these rows (int64 [m]): float32 [m, dim]."""


def rows_in(size: int, dim: int) -> int:
    """Return how many float32 rows of `dim` dimensions fit into `size` bytes, at least one."""
    return max(1, size // (4 * max(1, dim)))


def copies(vectors: Rows, slots: Slots, size: int = CHUNK_BYTES) -> Iterator[Floats]:
    """Yield copies of these rows (int64 [n]) in their order, in chunks of at most `size` bytes (or one row)."""
    step = rows_in(size, vectors.shape[1])
    for begin in range(0, len(slots), step):
        yield vectors[slots[begin : begin + step]]


class Matrix:
    """The rows from `begin` to before `end` of some blocks, all of which but the last have as many rows as the first.

    What it shows never changes: rows that come later are beyond its end.
    """

    def __init__(self, blocks: Sequence[Floats], begin: int, end: int) -> None:
        self._blocks = blocks
        self._begin = begin
        self._end = end
        self._height, self._dim = blocks[0].shape

    def __len__(self) -> int:
        return self._end - self._begin

    @property
    def shape(self) -> tuple[int, ...]:
        """Rows and dimensions."""
        return len(self), self._dim

    def __getitem__(self, slots: Slots, /) -> Floats:
        """Return a copy of these rows (int64 [m]): float32 [m, dim]."""
        if len(self._blocks) == 1:
            return np.take(self._blocks[0], slots + self._begin, axis=0)
        if len(slots) <= _FEW_ROWS:
            rows = np.empty((len(slots), self._dim), dtype=np.float32)
            for position, slot in enumerate((slots + self._begin).tolist()):
                rows[position] = self._blocks[slot // self._height][slot % self._height]
            return rows
        block, row = np.divmod(slots + self._begin, self._height)
        blocks = np.unique(block)
        if len(blocks) == 1:
            return np.take(self._blocks[blocks[0]], row, axis=0)
        rows = np.empty((len(slots), self._dim), dtype=np.float32)
        for each in blocks.tolist():
            there = block == each
            rows[there] = self._blocks[each][row[there]]
        return rows

    @property
    def blocks(self) -> Sequence[Floats]:
        """All of the blocks, with rows that are not shown."""
        return self._blocks

    def part(self, begin: int, end: int) -> Matrix:
        """Return the rows from `begin` to before `end`, without copying."""
        return Matrix(self._blocks, self._begin + begin, self._begin + end)

    def chunks(self, size: int = CHUNK_BYTES) -> Iterator[Floats]:
        """Yield all rows in their order, in arrays of at most `size` bytes (or one row), without copying."""
        limit = rows_in(size, self._dim)
        slot = self._begin
        while slot < self._end:
            block, row = divmod(slot, self._height)
            count = min(limit, self._height - row, self._end - slot)
            yield self._blocks[block][row : row + count]
            slot += count


class GrowingMatrix:
    """A matrix that grows at the end. One thread changes it; matrices from `until` are not affected."""

    def __init__(self, dim: int, memory: RowBlocks = ANONYMOUS, block_bytes: int = BLOCK_BYTES) -> None:
        self._dim = dim
        self._memory = memory
        self._residency = Residency()
        self._height = rows_in(block_bytes, dim)
        self._blocks: list[Floats] = [np.empty((0, dim), dtype=np.float32)]

    @classmethod
    def of(cls, dim: int, memory: RowBlocks, blocks: Sequence[Floats]) -> GrowingMatrix:
        """Return a matrix of these blocks, float32 [`block_rows`, dim] each; a single one may be smaller."""
        matrix = cls(dim, memory)
        matrix._blocks = list(blocks)
        return matrix

    def __setitem__(self, slot: int, vector: Floats) -> None:
        """Store a row (float32 [dim]) within the capacity."""
        block, row = divmod(slot, self._height)
        self._blocks[block][row] = vector

    @property
    def capacity(self) -> int:
        """The rows for which memory is reserved."""
        return (len(self._blocks) - 1) * self._height + len(self._blocks[-1])

    def is_resident(self, end: int) -> bool:
        """Whether reading any row before `end` would wait for no disk, as of about a second ago; does not block."""
        return self._residency.known(lambda: list(self.until(end).chunks(sys.maxsize)))

    def put(self, slot: int, rows: Floats) -> None:
        """Store rows (float32 [n, dim]) from a slot on, within the capacity."""
        while len(rows):
            block, row = divmod(slot, self._height)
            count = min(len(rows), self._height - row)
            self._blocks[block][row : row + count] = rows[:count]
            slot, rows = slot + count, rows[count:]

    def grow(self) -> None:
        """Reserve memory for at least one more row."""
        first = len(self._blocks[0])
        self.reserve(min(max(8, first + first // 2), self._height) if first < self._height else self.capacity + 1)

    def reserve(self, capacity: int) -> None:
        """Reserve memory for at least `capacity` rows; the system provides it when a row is stored."""
        first = self._blocks[0]
        if len(first) < min(capacity, self._height):
            # A new array, never resized in place: a search may still be reading the old one.
            larger = self._memory.allocate(min(capacity, self._height), self._dim)
            larger[: len(first)] = first
            self._blocks[0] = larger
        while self.capacity < capacity:
            self._blocks.append(self._memory.allocate(self._height, self._dim))

    def until(self, end: int) -> Matrix:
        """Return the rows before `end`, without copying."""
        return Matrix(tuple(self._blocks), 0, end)
