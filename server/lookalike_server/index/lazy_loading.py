"""Categories that are in the store only: loaded on their first search, or else in the background."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

from lookalike_server.domain.catalog import IndexRow
from lookalike_server.index.partition import Partition

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class PartitionChange:
    """The part of an `IndexChange` that concerns one category."""

    removed: list[int] = field(default_factory=list)
    added: list[IndexRow] = field(default_factory=list)
    updated: list[tuple[int, Mapping[str, str]]] = field(default_factory=list)


@dataclass(slots=True)
class UnloadedCategory:
    """A category that is not in memory yet.

    Attributes:
        count: Its rows in the store.
        reading: Held by the thread that reads them.
        missed: Changes since the read began, which it may or may not have seen; None before.
    """

    count: int
    reading: threading.Lock = field(default_factory=threading.Lock)
    missed: list[PartitionChange] | None = None

    def apply(self, change: PartitionChange) -> None:
        """Record a committed change."""
        self.count += len(change.added) - len(change.removed)
        if self.missed is not None:
            self.missed.append(change)


class ReadPriority:
    """Pauses background reads while an urgent read, which a search waits for, is running."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._urgent = 0
        self._idle = threading.Event()
        self._idle.set()

    def pace(self, rows: Iterable[T], *, urgent: bool) -> Iterator[T]:
        """Yield the rows: without a pause if urgent, else only while no urgent read is running."""
        return self._read_first(rows) if urgent else self._read_later(rows)

    def _read_first(self, rows: Iterable[T]) -> Iterator[T]:
        self._count(1)
        try:
            yield from rows
        finally:
            self._count(-1)

    def _read_later(self, rows: Iterable[T]) -> Iterator[T]:
        for row in rows:
            self._idle.wait()
            yield row

    def _count(self, change: int) -> None:
        with self._lock:
            self._urgent += change
            if self._urgent:
                self._idle.clear()
            else:
                self._idle.set()


def catch_up(partition: Partition, missed: Sequence[PartitionChange]) -> None:
    """Apply the missed changes to a partition that has some of them already.

    Labels are never reused: an added row that is present was read, and a removed one that is absent was already gone.
    """
    for change in missed:
        partition.change(
            [label for label in change.removed if label in partition],
            [row for row in change.added if row.label not in partition],
        )
        partition.change((), (), [(label, values) for label, values in change.updated if label in partition])
