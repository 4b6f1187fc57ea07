"""The attributes of rows that were loaded at a start: read when a filter needs them, or else in the background.

Reading them takes longer than all else that a search without a filter needs. Changes are recorded meanwhile, and
applied to what was read, which may have some of them already.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence

from lookalike_server.domain.filters import Condition
from lookalike_server.index.attributes import AttributeColumns, Mask

ReadAttributes = Callable[[], Iterable[tuple[int, Mapping[str, str]]]]
"""Reads the attributes of all rows of a category, by label."""


class LazyAttributes:
    """Columns as `AttributeColumns` has them. Changed under the partition's lock."""

    def __init__(self) -> None:
        self._columns = AttributeColumns()
        self._read: ReadAttributes | None = None
        self._missed: list[tuple[int, Mapping[str, str]]] = []

    def read_later(self, read: ReadAttributes) -> None:
        """Have the attributes of rows that were loaded read by `load`."""
        self._read = read

    @property
    def is_loaded(self) -> bool:
        """Whether the attributes of all rows are here."""
        return self._read is None

    def read(self, slot_of: Callable[[int], int | None]) -> AttributeColumns | None:
        """Read what is to be read, for `install`; None if that was done. Takes long, and needs no lock.

        Args:
            slot_of: Returns the slot of a label, or None if there is no such row.
        """
        read = self._read  # which another thread may end with
        if read is None:
            return None
        rows = ((slot_of(label), attributes) for label, attributes in read())
        return AttributeColumns.from_rows((slot, attributes) for slot, attributes in rows if slot is not None)

    def install(self, columns: AttributeColumns) -> None:
        """Use what was read, with the changes since."""
        if self._read is None:
            return  # another thread was faster
        for slot, attributes in self._missed:
            columns.put(slot, attributes)
        self._columns, self._read, self._missed = columns, None, []

    def put(self, slot: int, attributes: Mapping[str, str]) -> None:
        """Set a row's attributes; any others are dropped."""
        if self._read is None:
            self._columns.put(slot, attributes)
        else:
            self._missed.append((slot, attributes))

    def drop(self, slot: int) -> None:
        """Remove a row's attributes."""
        self.put(slot, {})

    def of(self, slot: int) -> Mapping[str, str]:
        """Return a row's attributes; all must be loaded."""
        return self._columns.of(slot)

    def matching(self, conditions: Sequence[Condition], count: int) -> Mask:
        """Return which of the first `count` rows meet all conditions, bool [count]; all must be loaded."""
        return self._columns.matching(conditions, count)
