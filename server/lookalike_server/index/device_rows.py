"""The part of a partition that is on a device, and how rows get there and leave it."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from lookalike_server.index.brute_force import FlatView
from lookalike_server.index.device import DeviceView, SearchDevice
from lookalike_server.index.pacing import Pacing
from lookalike_server.index.row_storage import Slots

_MAX_DELETED = 32  # rows that the device may find in vain


@dataclass(frozen=True, slots=True)
class DeviceState:
    """What of a partition is on the device.

    Attributes:
        rows: The rows; None before there are any.
        end: Live slots before it are all there, and those from it on are not.
        deleted: How many rows of the partition were deleted before the device was last refreshed.
        stale: A block that is to be compacted, by number.
    """

    rows: DeviceView | None = None
    end: int = 0
    deleted: int = 0
    stale: int | None = None

    def needs_refresh(self, deleted: int) -> bool:
        """Return whether the device finds too many of so many deleted rows of the partition."""
        return self.rows is not None and deleted - self.deleted > _MAX_DELETED


NOT_ON_DEVICE = DeviceState()
"""Of a partition that no device searches."""


class DeviceRows:
    """Moves rows of a partition to the device. For the maintenance thread; each change is used once it is returned."""

    def __init__(self, device: SearchDevice) -> None:
        self._matrix = device.matrix()

    def extended(self, before: DeviceState, view: FlatView, rows: int, pacing: Pacing) -> DeviceState:
        """Copy the next rows, at most so many, to the device.

        Raises:
            DeviceSearchError: The device failed, or has too little memory.
            MaintenanceStopped: The index is closing.
        """
        pacing.await_searches()
        end = min(before.end + rows, len(view.live))
        slots = before.end + np.flatnonzero(view.live[before.end : end])
        self._matrix.append(view.vectors[slots], slots, expected=int(np.count_nonzero(view.live[before.end :])))
        return replace(before, rows=self._shown(), end=end)

    def refreshed(self, before: DeviceState, view: FlatView) -> DeviceState:
        """Tell the device which rows are live.

        Raises:
            DeviceSearchError: The device failed, or has too little memory.
        """
        self._matrix.refresh(view.live)
        deleted = len(view.live) - int(np.count_nonzero(view.live))
        return replace(before, rows=self._shown(), deleted=deleted, stale=self._matrix.stale(view.live))

    def compacted(self, before: DeviceState, view: FlatView, pacing: Pacing) -> DeviceState:
        """Compact the stale block.

        Raises:
            DeviceSearchError: The device failed, or has too little memory.
            MaintenanceStopped: The index is closing.
        """
        if before.stale is not None:
            self._matrix.compact(before.stale, view.vectors, view.live, pacing.await_searches)
        return replace(before, rows=self._shown(), stale=self._matrix.stale(view.live))

    def moved(self, before: DeviceState, moved: Slots) -> DeviceState:
        """Return the state where rows have new slots (int64 by the old one, -1 where there is none); see `use`."""
        end = int(np.count_nonzero(moved[: before.end] >= 0))
        rows = self._matrix.moved(moved) if before.rows is not None else None
        # Refreshed soon: many rows may be gone.
        return DeviceState(rows, end, deleted=-_MAX_DELETED - 1)

    def use(self, state: DeviceState) -> None:
        """Go on from a state of `moved`."""
        if state.rows is not None:
            self._matrix.use(state.rows)

    def _shown(self) -> DeviceView | None:
        view = self._matrix.view()
        return view if len(view) else None
