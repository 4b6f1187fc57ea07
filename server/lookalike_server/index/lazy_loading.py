"""A category that is in the store only, until somebody asks for it or its turn comes."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from lookalike_server.domain.catalog import IndexRow
from lookalike_server.index.partition import Partition


@dataclass(frozen=True, slots=True)
class PartitionChange:
    """What one change means for one category; see `IndexChange`."""

    removed: list[int] = field(default_factory=list)
    added: list[IndexRow] = field(default_factory=list)
    described: list[tuple[int, Mapping[str, str]]] = field(default_factory=list)


@dataclass(slots=True)
class Unloaded:
    """How many rows wait in the store, and what changed while they are being read.

    Attributes:
        count: Rows.
        reading: Held by the thread that reads them.
        missed: Changes since the reading began, which it may or may not have seen; None before.
    """

    count: int
    reading: threading.Lock = field(default_factory=threading.Lock)
    missed: list[PartitionChange] | None = None

    def take_in(self, change: PartitionChange) -> None:
        """Note a change that was committed."""
        self.count += len(change.added) - len(change.removed)
        if self.missed is not None:
            self.missed.append(change)


class Turns:
    """Who reads first: while a category that is asked for is being read, the reading of all others rests."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._first = 0
        self._go_on = threading.Event()
        self._go_on.set()

    def taken(self, rows: Iterable[IndexRow], *, first: bool) -> Iterator[IndexRow]:
        """The same rows, as fast as they are asked for; or, not `first`, while nobody is first."""
        if first:
            return self._before_others(rows)
        return self._after_others(rows)

    def _before_others(self, rows: Iterable[IndexRow]) -> Iterator[IndexRow]:
        self._count(1)
        try:
            yield from rows
        finally:
            self._count(-1)

    def _after_others(self, rows: Iterable[IndexRow]) -> Iterator[IndexRow]:
        for row in rows:
            self._go_on.wait()
            yield row

    def _count(self, change: int) -> None:
        with self._lock:
            self._first += change
            if self._first:
                self._go_on.clear()
            else:
                self._go_on.set()


def catch_up(partition: Partition, missed: Sequence[PartitionChange]) -> None:
    """Bring a partition up to date with changes some of which it holds already.

    Labels are never used twice, so a row that is there was read, and one that is not there to be removed was gone.
    """
    for change in missed:
        partition.change(
            [label for label in change.removed if label in partition],
            [row for row in change.added if row.label not in partition],
        )
        partition.change((), (), [(label, values) for label, values in change.described if label in partition])
