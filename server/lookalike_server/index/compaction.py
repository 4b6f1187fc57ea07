"""A copy of a partition's live rows, made in pieces between which searches and changes go on.

Copying 20,000 rows takes 100 milliseconds, and their labels, owners and attributes as long in Python. So only a few
rows at a time are copied under the partition's lock, their vectors before that, and what changes meanwhile is changed
in the copy too (`PartitionRows.copy`).
"""

from __future__ import annotations

import numpy as np

from lookalike_server.domain.inference import Floats
from lookalike_server.index.partition_rows import PartitionRows
from lookalike_server.index.row_storage import Slots

PIECE_ROWS = 128
"""Rows whose labels, owners and attributes are copied under the lock: about a millisecond."""

_ROOM = 8  # a share of the rows that are copied, for those that come later


class Compaction:
    """Copies rows in the order of their slots. Under the partition's lock, but for `put_vectors`.

    Attributes:
        copy: The rows that were copied.
        position: The slot before which all were copied.
    """

    def __init__(self, rows: PartitionRows) -> None:
        """Begin with no row; reserves the memory, which takes a while, and so not under the lock.

        Args:
            rows: What to copy; their attributes must be loaded.
        """
        self._rows = rows
        live = rows.vectors.count - rows.vectors.deleted
        self.copy = rows.without_rows(live + max(8, live // _ROOM))
        self.position = 0
        self._moved: list[Slots] = []

    def remaining(self) -> int:
        """How many rows are still to be copied, with deleted ones."""
        return self._rows.vectors.count - self.position

    @property
    def moved(self) -> Slots:
        """For each slot before `position` the new one, -1 where its row was deleted before: int64 [n]."""
        return np.concatenate([np.empty(0, dtype=np.int64), *self._moved])

    def next_piece(self) -> Slots:
        """Return the next rows to copy, int64 [n], without deleted ones."""
        begin, end = self.position, min(self.position + PIECE_ROWS, self._rows.vectors.count)
        piece = begin + np.flatnonzero(self._rows.vectors.is_live(np.arange(begin, end)))
        copied = self.copy.vectors
        moved = np.full(end - begin, -1)
        moved[piece - begin] = copied.count + np.arange(len(piece))
        self._moved.append(moved)
        self.position = end
        copied.reserve(copied.count + len(piece))
        return piece

    def put_vectors(self, vectors: Floats) -> None:
        """Store the vectors of the piece, float32 [n, dim]; needs no lock."""
        self.copy.vectors.stage(vectors)

    def add(self, piece: Slots) -> None:
        """Add the piece, whose vectors are stored: all but what was deleted meanwhile."""
        rows, copy = self._rows, self.copy
        first = copy.vectors.count
        copy.vectors.add_staged(len(piece))
        live = rows.vectors.is_live(piece).tolist()
        for new, (slot, is_live) in enumerate(zip(piece.tolist(), live, strict=True), first):
            owner = rows.owners[slot]
            copy.owners.append(owner)
            if is_live:
                copy.slots[owner.label] = new
                copy.attributes.put(new, rows.attributes.of(slot))
            else:
                copy.vectors.remove(new)
