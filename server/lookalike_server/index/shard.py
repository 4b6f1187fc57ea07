"""The rows of many small categories in one matrix, so that one matrix multiplication compares all of them.

Rows are only ever added at the end, and a slot is never used twice, so a search keeps what it has seen while rows move.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterator, Sequence

import numpy as np

from lookalike_server.domain.catalog import IndexRow
from lookalike_server.domain.filters import Condition
from lookalike_server.index.attributes import AttributeColumns
from lookalike_server.index.brute_force import FlatIndex, FlatView, RowsApart
from lookalike_server.index.lazy_loading import PartitionChange
from lookalike_server.index.owners import OwnerColumns
from lookalike_server.index.row_storage import Matrix, Slots
from lookalike_server.index.segment import PartitionSettings
from lookalike_server.index.snapshot import RowOwner, Snapshot

SLOT_BYTES = np.dtype(np.int64).itemsize
_EARLY_SHARE = 32  # a shard with a 32nd of its rows gets memory for all of them


class Shard:
    """Whole categories, up to a number of rows. Read and changed under the lock of the `SmallCategories`."""

    def __init__(self, settings: PartitionSettings, capacity: int) -> None:
        self._settings = settings
        self._capacity = capacity
        self._rows = FlatIndex(settings.dim, settings.memory)
        self._attributes = AttributeColumns()
        self._owners = OwnerColumns()
        self._slots: dict[str, bytes] = {}  # int64 each, and no list, which the garbage collector would look into
        self._most_images = 1

    def __len__(self) -> int:
        """Count the categories."""
        return len(self._slots)

    def __iter__(self) -> Iterator[str]:
        """Yield the categories."""
        return iter(self._slots)

    def __contains__(self, category: str) -> bool:
        """Return whether the category has rows here."""
        return category in self._slots

    @property
    def room(self) -> int:
        """How many rows can still be added."""
        return self._capacity - self._rows.count

    @property
    def row_count(self) -> int:
        """Rows in memory, with deleted ones."""
        return self._rows.count

    @property
    def deleted_count(self) -> int:
        """Deleted rows that are still in memory."""
        return self._rows.deleted

    def count(self, category: str) -> int:
        """Count the rows of a category."""
        return len(self._slots_of(category))

    def sizes(self) -> list[tuple[int, str]]:
        """Return the bytes of each category's slots, `SLOT_BYTES` for each row, with its name; searches wait for it."""
        return list(zip(map(len, self._slots.values()), self._slots, strict=True))

    def rows(self, category: str) -> list[IndexRow]:
        """Return the rows of a category."""
        slots = self._slots_of(category)
        vectors = self._rows.vectors[slots]
        rows: list[IndexRow] = []
        for slot, vector in zip(slots.tolist(), vectors, strict=True):
            label, product_id, image_index = self._owners[int(slot)]
            rows.append(IndexRow(label, product_id, image_index, vector, self._attributes.of(slot)))
        return rows

    def change(self, category: str, change: PartitionChange) -> None:
        """Change the rows of one category; there must be room for those that are added."""
        slots = {self._owners.label(slot): slot for slot in self._slots_of(category).tolist()}
        for label in change.removed:
            self._remove(slots.pop(label))
        for row in change.added:
            slots[row.label] = self._add(row)
        for label, attributes in change.updated:
            self._attributes.put(slots[label], attributes)
        if slots:
            self._slots[category] = array("q", slots.values()).tobytes()
        else:
            self._slots.pop(category, None)

    def drop(self, category: str) -> None:
        """Remove a category with its rows."""
        for slot in self._slots_of(category).tolist():
            self._remove(slot)
        del self._slots[category]

    def snapshot(self, conditions: Sequence[Condition]) -> Snapshot:
        """Return a snapshot of the rows of all categories that meet the conditions."""
        view = self._rows.view()
        if conditions:
            view = view.only(self._attributes.matching(conditions, len(view.live)))
        return self._snapshot(view, self._owners, filtered=bool(conditions))

    def snapshot_of(self, category: str, conditions: Sequence[Condition]) -> Snapshot:
        """Return a snapshot of the rows of one category that meet the conditions."""
        slots = self._slots_of(category)
        if conditions:
            slots = slots[self._attributes.matching(conditions, self._rows.count, slots)]
        view = FlatView(Matrix([self._rows.vectors[slots]], 0, len(slots)), np.ones(len(slots), dtype=np.bool_))
        return self._snapshot(view, [self._owners[slot] for slot in slots.tolist()], filtered=bool(conditions))

    def _snapshot(self, view: FlatView, owners: Sequence[RowOwner], *, filtered: bool) -> Snapshot:
        return Snapshot(
            self._settings,
            view,
            owners,
            segments=(),
            outside=RowsApart(np.empty(0, dtype=np.int64)),
            end=0,
            most_images=self._most_images,
            filtered=filtered,
            has_deleted=self._rows.deleted > 0,
            on_fallback=_without_graphs,
        )

    def _slots_of(self, category: str) -> Slots:
        return np.frombuffer(self._slots.get(category, b""), dtype=np.int64)

    def _add(self, row: IndexRow) -> int:
        if self._rows.count == self._capacity // _EARLY_SHARE:
            # All of it at once: later steps of growing would copy for tens of milliseconds, under the lock.
            self._rows.reserve(self._capacity)
        slot = self._rows.append(row.vector)
        self._owners.append(RowOwner(row.label, row.product_id, row.image_index))
        self._attributes.put(slot, row.attributes)
        # A product's images are numbered from 0, and are all in one category.
        self._most_images = max(self._most_images, row.image_index + 1)
        return slot

    def _remove(self, slot: int) -> None:
        self._rows.remove(slot)
        self._attributes.drop(slot)


def _without_graphs() -> None:
    raise AssertionError("every row is compared, so no search falls back")
