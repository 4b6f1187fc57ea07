"""Rows of numbers in blocks of bounded size, so that growing copies little and no step over them takes much memory.

One array that grows has to be copied into a larger one, and both are there until the last search over the old one has
ended: with embeddings of 100,352 numbers, gigabytes. Here only the first block grows so; the others are added whole.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Protocol

import numpy as np
import numpy.typing as npt

from lookalike_server.domain.inference import Floats

Slots = npt.NDArray[np.int64]

BLOCK_BYTES = 64 << 20
"""Of a block, where a row is not larger."""

CHUNK_BYTES = 8 << 20
"""Of the rows that are copied, subtracted or widened at once: about what a core has for itself in its caches."""


class Rows(Protocol):
    """Rows to copy from: a `Matrix`, or an array float32 [n, dim]."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Rows and numbers in each."""

    def __getitem__(self, slots: Slots, /) -> Floats:
        """A copy of these rows (int64 [m]): float32 [m, dim]."""


def rows_in(size: int, dim: int) -> int:
    """How many rows of `dim` float32 numbers fit into so many bytes, at least one."""
    return max(1, size // (4 * max(1, dim)))


def copies(vectors: Rows, slots: Slots, size: int = CHUNK_BYTES) -> Iterator[Floats]:
    """These rows (int64 [n]) in their order, in copies of at most so many bytes (or one row)."""
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
        """Rows and numbers in each."""
        return len(self), self._dim

    def __getitem__(self, slots: Slots, /) -> Floats:
        """A copy of these rows (int64 [m]): float32 [m, dim]."""
        if len(self._blocks) == 1:
            return np.take(self._blocks[0], slots + self._begin, axis=0)
        block, row = np.divmod(slots + self._begin, self._height)
        used = np.unique(block)
        if len(used) == 1:
            return np.take(self._blocks[used[0]], row, axis=0)
        rows = np.empty((len(slots), self._dim), dtype=np.float32)
        for each in used.tolist():
            there = block == each
            rows[there] = self._blocks[each][row[there]]
        return rows

    def part(self, begin: int, end: int) -> Matrix:
        """The rows from `begin` to before `end`, counted from `begin` on; nothing is copied."""
        return Matrix(self._blocks, self._begin + begin, self._begin + end)

    def pieces(self, size: int = CHUNK_BYTES) -> Iterator[Floats]:
        """All rows in their order, in arrays of at most so many bytes (or one row); nothing is copied."""
        most = rows_in(size, self._dim)
        slot = self._begin
        while slot < self._end:
            block, row = divmod(slot, self._height)
            count = min(most, self._height - row, self._end - slot)
            yield self._blocks[block][row : row + count]
            slot += count


class GrowingMatrix:
    """Rows that are added at the end. One thread changes it; what it showed before stays as it was."""

    def __init__(self, dim: int, block_bytes: int = BLOCK_BYTES) -> None:
        self._dim = dim
        self._height = rows_in(block_bytes, dim)
        self._blocks: list[Floats] = [np.empty((0, dim), dtype=np.float32)]

    def __setitem__(self, slot: int, vector: Floats) -> None:
        """Put a row (float32 [dim]) where there is room for it."""
        block, row = divmod(slot, self._height)
        self._blocks[block][row] = vector

    @property
    def capacity(self) -> int:
        """Rows that there is room for."""
        return (len(self._blocks) - 1) * self._height + len(self._blocks[-1])

    def put(self, slot: int, rows: Floats) -> None:
        """Put rows (float32 [n, dim]) where there is room for them, from a slot on."""
        while len(rows):
            block, row = divmod(slot, self._height)
            count = min(len(rows), self._height - row)
            self._blocks[block][row : row + count] = rows[:count]
            slot, rows = slot + count, rows[count:]

    def grow(self) -> None:
        """Make room for at least one row more."""
        first = len(self._blocks[0])
        self.reserve(min(max(8, first + first // 2), self._height) if first < self._height else self.capacity + 1)

    def reserve(self, capacity: int) -> None:
        """Make room for so many rows or more; memory is taken only when a row is put there."""
        first = self._blocks[0]
        if len(first) < min(capacity, self._height):
            # A new array, never resized in place: a search may still be reading the old one.
            self._blocks[0] = np.empty((min(capacity, self._height), self._dim), dtype=np.float32)
            self._blocks[0][: len(first)] = first
        while self.capacity < capacity:
            self._blocks.append(np.empty((self._height, self._dim), dtype=np.float32))

    def until(self, end: int) -> Matrix:
        """The rows before `end`."""
        return Matrix(tuple(self._blocks), 0, end)
