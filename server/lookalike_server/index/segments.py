"""All segments of a partition, and which of its rows they do not find: those that a search compares."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np
import numpy.typing as npt

from lookalike_server.index.brute_force import FlatView, RowsApart
from lookalike_server.index.pacing import Pacing
from lookalike_server.index.row_storage import Slots
from lookalike_server.index.segment import PartitionSettings, Segment, grown, lost_slots_of, slots_of

GONE_RATIO = 0.5
"""The share of a graph's nodes without a live row above which its live rows move to another one."""


def _none() -> Slots:
    return np.empty(0, dtype=np.int64)


@dataclass(frozen=True, slots=True, eq=False)
class Segments:
    """The segments, and the rows outside them as they were when this was made.

    Attributes:
        all: The segments, oldest first.
        end: Slots from here on are in none.
        loose: Slots before it that are in none either.
        lost: Slots in one whose graph does not find them.
        outside: The last two together.
        stale: A segment whose live rows are to move.
    """

    all: tuple[Segment, ...] = ()
    end: int = 0
    loose: Slots = field(default_factory=_none)
    lost: Slots = field(default_factory=_none)
    outside: RowsApart = field(default_factory=lambda: RowsApart(_none()))
    stale: Segment | None = None

    @classmethod
    def of(cls, segments: tuple[Segment, ...], end: int, live: npt.NDArray[np.bool_]) -> Segments:
        """Return these segments, over slots before `end` at most, of rows of which these are live (bool [n])."""
        unused = live[:end].copy()
        unused[slots_of(segments)] = False
        loose, lost = np.flatnonzero(unused), lost_slots_of(segments)
        stale = next((each for each in segments if each.gone(live) > GONE_RATIO), None)
        return cls(segments, end, loose, lost, RowsApart(np.concatenate([loose, lost])), stale)

    def proven(self, before: Segment, after: Segment) -> Segments:
        """Return the segments with one whose nodes were looked up."""
        segments = tuple(after if each is before else each for each in self.all)
        lost = lost_slots_of(segments)
        stale = after if self.stale is before else self.stale
        return replace(
            self, all=segments, lost=lost, outside=RowsApart(np.concatenate([self.loose, lost])), stale=stale
        )

    def waiting(self, live: npt.NDArray[np.bool_]) -> Slots:
        """Return the live rows that are in no segment, int64 [n]; of rows of which these are live (bool [n])."""
        slots = np.concatenate([self.loose, np.arange(self.end, len(live))])
        waiting: Slots = slots[live[slots]]
        return waiting

    def with_rows(
        self, view: FlatView, slots: Slots, settings: PartitionSettings, pacing: Pacing
    ) -> tuple[tuple[Segment, ...], int]:
        """Return the segments with some of these rows as well, and how many: in the last one, or a new one."""
        if not len(slots):
            return self.all, 0
        last = next((each for each in reversed(self.all) if each is not self.stale), None)
        room = settings.segment_rows - len(last.rows) if last else 0
        if room <= 0:
            last, room = None, settings.segment_rows
        new = slots[: min(room, settings.step_rows)]
        segment = grown(last, view.vectors, new, settings, pacing)
        return (*(each for each in self.all if each is not last), segment), len(new)

    def moved(
        self, stale: Segment, view: FlatView, settings: PartitionSettings, pacing: Pacing
    ) -> tuple[tuple[Segment, ...], int]:
        """Return the segments with live rows of the stale one in another, at most those of one step, and how many.

        It is dropped when none is left.
        """
        others = tuple(each for each in self.all if each is not stale)
        left = stale.rows.slots[view.live[stale.rows.slots]]
        left = np.setdiff1d(left, slots_of(others), assume_unique=True)
        if len(left) > (0 if others else settings.full_scan_threshold):
            return self.with_rows(view, left, settings, pacing)
        return others, 0
