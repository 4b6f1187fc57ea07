"""Deleted rows leave a category's memory in pieces, between which searches and changes go on."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pytest

from lookalike_server.domain.catalog import IndexRow
from lookalike_server.domain.filters import OneOf
from lookalike_server.domain.inference import Floats, Metric
from lookalike_server.domain.search import IndexQuery
from lookalike_server.index import compaction
from lookalike_server.index.graph import HnswSettings
from lookalike_server.index.owners import OwnerColumns
from lookalike_server.index.pacing import MaintenanceStopped, Pacing
from lookalike_server.index.partition import Partition
from lookalike_server.index.segment import PartitionSettings
from lookalike_server.index.snapshot import RowOwner
from support.index_model import DIM, vectors

ROWS = 1000
LIVE = range(1, ROWS, 2)


class Category:
    """A partition, and what must be in it: vector and color by label."""

    def __init__(self, full_scan_threshold: int = 10**9) -> None:
        self.partition = Partition(
            PartitionSettings(DIM, Metric.COSINE, full_scan_threshold, HnswSettings()), lambda: None
        )
        self.rows: dict[int, tuple[Floats, str]] = {}

    def change(self, removed: list[int], added: Mapping[int, Floats], updated: Mapping[int, str] | None = None) -> None:
        """Remove rows, add red ones, and give others a color."""
        new = [IndexRow(label, f"p{label}", 0, row, {"color": "red"}) for label, row in added.items()]
        colors = updated or {}
        self.partition.change(removed, new, [(label, {"color": color}) for label, color in colors.items()])
        for label in removed:
            del self.rows[label]
        self.rows |= {label: (row, "red") for label, row in added.items()}
        self.rows |= {label: (self.rows[label][0], color) for label, color in colors.items()}

    def check(self) -> None:
        """Find all rows of each color, and some of them by their own vectors."""
        for color in {color for _, color in self.rows.values()}:
            own = {label: row for label, (row, each) in self.rows.items() if each == color}
            snapshot = self.partition.snapshot((OneOf("color", frozenset({color})),))
            some = list(own)[::97]
            queries = [IndexQuery(own[label][np.newaxis], len(self.rows)) for label in some]
            for label, result in zip(some, snapshot.search(queries, exact=True), strict=True):
                assert result.hits[0].product_id == f"p{label}"
                assert {hit.product_id for hit in result.hits} == {f"p{each}" for each in own}


def half_deleted(full_scan_threshold: int = 10**9) -> Category:
    """Return a category whose even rows were deleted."""
    category = Category(full_scan_threshold)
    category.change([], dict(enumerate(vectors(ROWS, DIM, Metric.COSINE, seed=1))))
    while category.partition.needs_maintenance:
        category.partition.maintain(Pacing())
    category.change([label for label in range(ROWS) if label not in LIVE], {})
    return category


class Between(Pacing):
    """Calls something before each piece, with its number."""

    def __init__(self, call: Callable[[int], None]) -> None:
        super().__init__()
        self._call = call
        self.pieces = 0

    def await_searches(self) -> None:
        """Call it."""
        self._call(self.pieces)
        self.pieces += 1


@pytest.mark.parametrize("full_scan_threshold", [10**9, 100])
def test_changes_between_the_pieces(full_scan_threshold: int) -> None:
    """Rows before and after the piece can be removed, added and updated; searches are right during it and after it."""
    category = half_deleted(full_scan_threshold)
    late = vectors(200, DIM, Metric.COSINE, seed=2)

    def change(piece: int) -> None:
        if piece < 8:
            first, last = 2 * piece + 1, ROWS - 1 - 2 * piece
            more = {5000 + 10 * piece + number: late[10 * piece + number] for number in range(10)}
            category.change([first, last], more, {101 + 2 * piece: "blue", 899 - 2 * piece: "green"})
            category.change([5000 + 10 * piece], {})
            category.check()

    while category.partition.needs_maintenance:
        category.partition.maintain(Between(change))
    category.check()
    assert category.partition.deleted_count <= len(category.rows) / 2
    assert category.partition.row_count < ROWS


def test_the_lock_is_held_for_few_rows_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever waits for the lock gets it after at most a piece; with pieces of any size it is held for all rows."""
    assert max(rows_copied_while_locked(monkeypatch)) <= compaction.PIECE_ROWS
    monkeypatch.setattr(compaction, "PIECE_ROWS", 10**9)
    assert max(rows_copied_while_locked(monkeypatch)) == len(LIVE)


def rows_copied_while_locked(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Compact a category, and return how many rows were copied each time that its lock was held."""
    category = half_deleted()
    counts: list[int] = []

    class CountingLock:
        def __init__(self) -> None:
            self._lock = threading.Lock()

        def __enter__(self) -> None:
            self._lock.acquire()
            counts.append(0)

        def __exit__(self, *_: object) -> None:
            self._lock.release()

    append = OwnerColumns.append

    def counted(owners: OwnerColumns, owner: RowOwner) -> None:
        counts[-1] += 1
        append(owners, owner)

    monkeypatch.setattr(category.partition, "_lock", CountingLock())
    monkeypatch.setattr(OwnerColumns, "append", counted)
    category.partition.maintain(Pacing())
    monkeypatch.setattr(OwnerColumns, "append", append)
    assert sum(counts) == len(LIVE)
    assert category.partition.deleted_count == 0
    category.check()
    return counts


def test_a_compaction_that_is_stopped() -> None:
    """An index that closes in the middle of it leaves the category as it was, and changes go on."""
    category = half_deleted()

    def stop(piece: int) -> None:
        if piece == 2:
            raise MaintenanceStopped

    with pytest.raises(MaintenanceStopped):
        category.partition.maintain(Between(stop))
    category.change([1, 999], {5000: vectors(1, DIM, Metric.COSINE, seed=3)[0]}, {101: "blue"})
    category.check()
    category.partition.maintain(Pacing())
    category.check()
    assert category.partition.deleted_count == 0


def test_changes_right_after_the_copy_is_swapped_in(monkeypatch: pytest.MonkeyPatch) -> None:
    """A row that is removed as soon as the lock is free, before the compaction has ended, is removed once."""
    category = half_deleted()
    partition = category.partition
    swap = vars(Partition)["_swap"]

    def swapped(*arguments: Any) -> bool:
        done: bool = swap(*arguments)
        if done:
            category.change([1, 999], {5000: vectors(1, DIM, Metric.COSINE, seed=3)[0]}, {101: "blue"})
        return done

    monkeypatch.setattr(Partition, "_swap", swapped)
    partition.maintain(Pacing())
    category.check()
    assert partition.deleted_count == 2
