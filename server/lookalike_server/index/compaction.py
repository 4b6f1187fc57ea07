"""A copy of a partition's live rows, made in pieces between which searches and changes go on.

Copying 20,000 rows takes 100 milliseconds, and their labels, owners and attributes as long in Python. So only a few
rows at a time are copied under the partition's lock, their vectors before that, and what changes meanwhile is changed
in the copy too.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from lookalike_server.domain.inference import Floats
from lookalike_server.index.brute_force import FlatIndex
from lookalike_server.index.lazy_attributes import LazyAttributes
from lookalike_server.index.owners import OwnerColumns
from lookalike_server.index.row_blocks import RowBlocks
from lookalike_server.index.row_storage import Slots

PIECE_ROWS = 128
"""Rows whose labels, owners and attributes are copied under the lock: about a millisecond."""

_ROOM = 8  # a share of the rows that are copied, for those that come later


class Compaction:
    """Copies rows in the order of their slots. Under the partition's lock, but for `put_vectors`.

    Attributes:
        rows: The copy.
        owners: The image of each row of it.
        attributes: Their attributes.
        slots: Its live rows, by label.
        position: The slot before which all were copied.
    """

    def __init__(self, rows: FlatIndex, owners: OwnerColumns, attributes: LazyAttributes, memory: RowBlocks) -> None:
        """Begin with no row; reserves the memory, which takes a while, and so not under the lock."""
        self._rows, self._owners, self._attributes = rows, owners, attributes
        live = rows.count - rows.deleted
        self.rows = FlatIndex(rows.vectors.shape[1], memory)
        self.rows.reserve(live + max(8, live // _ROOM))
        self.owners = OwnerColumns()
        self.attributes = LazyAttributes()
        self.slots: dict[int, int] = {}
        self.position = 0
        self._moved: list[Slots] = []

    def remaining(self) -> int:
        """How many rows are still to be copied, with deleted ones."""
        return self._rows.count - self.position

    @property
    def moved(self) -> Slots:
        """For each slot before `position` the new one, -1 where its row was deleted before: int64 [n]."""
        return np.concatenate([np.empty(0, dtype=np.int64), *self._moved])

    def next_piece(self) -> Slots:
        """Return the next rows to copy, int64 [n], without deleted ones."""
        begin, end = self.position, min(self.position + PIECE_ROWS, self._rows.count)
        piece = begin + np.flatnonzero(self._rows.is_live(np.arange(begin, end)))
        moved = np.full(end - begin, -1)
        moved[piece - begin] = self.rows.count + np.arange(len(piece))
        self._moved.append(moved)
        self.position = end
        self.rows.reserve(self.rows.count + len(piece))
        return piece

    def put_vectors(self, vectors: Floats) -> None:
        """Store the vectors of the piece, float32 [n, dim]; needs no lock."""
        self.rows.stage(vectors)

    def add(self, piece: Slots) -> None:
        """Add the piece, whose vectors are stored: all but what was deleted meanwhile."""
        first = self.rows.count
        self.rows.add_staged(len(piece))
        live = self._rows.is_live(piece).tolist()
        for new, (slot, is_live) in enumerate(zip(piece.tolist(), live, strict=True), first):
            owner = self._owners[slot]
            self.owners.append(owner)
            if is_live:
                self.slots[owner.label] = new
                self.attributes.put(new, self._attributes.of(slot))
            else:
                self.rows.remove(new)

    def remove(self, label: int) -> None:
        """Remove a row that the partition loses, if it was copied."""
        slot = self.slots.pop(label, None)
        if slot is not None:
            self.rows.remove(slot)
            self.attributes.drop(slot)

    def update(self, label: int, attributes: Mapping[str, str]) -> None:
        """Update the attributes of a row, if it was copied."""
        slot = self.slots.get(label)
        if slot is not None:
            self.attributes.put(slot, attributes)
