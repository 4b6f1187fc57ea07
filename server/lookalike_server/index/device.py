"""What the index expects of a device that searches, such as a GPU: the rows of a large category, all compared at once.

The device compares in half precision and finds candidates, which the index measures again; see `device_search`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

from lookalike_server.domain.inference import Floats
from lookalike_server.index.row_storage import Rows, Slots

Mask = npt.NDArray[np.bool_]


class DeviceSearchError(Exception):
    """The device failed or has too little memory, so searches go on without it. The message is for the log."""


@dataclass(frozen=True, slots=True)
class Candidates:
    """The rows that a device found nearest to each query, by scores: cosine distances, negated and rounded.

    Attributes:
        scores: float32 [q, count], highest first; -inf where fewer rows are allowed. No other row has a higher score
            than the last.
        slots: int64 [q, count], of each score's row; -1 where there is none.
        errors: float64 [q], by how much a row's distance can differ from a score before that was rounded.
        rounding: By how much of a score that can differ from what was rounded.
    """

    scores: Floats
    slots: Slots
    errors: npt.NDArray[np.float64]
    rounding: float

    def least_distance(self, query: int | Slots, score: npt.ArrayLike) -> npt.NDArray[np.float64]:
        """Return the least distance to a query (by number) of a row with this score; of any shape that broadcasts."""
        distance = -np.asarray(score, dtype=np.float64)
        # As a product, because a score may be -inf.
        return np.asarray(distance * (1.0 - np.copysign(self.rounding, distance)) - self.errors[query])

    def greatest_distance(self, query: int | Slots, score: npt.ArrayLike) -> npt.NDArray[np.float64]:
        """Return the greatest distance to a query (by number) of a row with this score."""
        distance = -np.asarray(score, dtype=np.float64)
        return np.asarray(distance * (1.0 + np.copysign(self.rounding, distance)) + self.errors[query])


class DeviceView(Protocol):
    """Rows on the device as they were at one moment. Any thread may search them, if there are any."""

    def __len__(self) -> int:
        """Count the rows, with deleted ones."""

    def candidates(self, queries: Floats, count: int, allowed: Mask | None = None) -> Candidates:
        """Find the rows nearest to each query.

        Args:
            queries: float32 [q, dim].
            count: How many; fewer come back where a run does not select so many.
            allowed: bool by slot, rows to compare; None compares all but those that `refresh` has left out.

        Raises:
            DeviceSearchError: The device failed.
        """

    def scores(self, query: Floats, allowed: Mask | None = None) -> tuple[Floats, Slots]:
        """Return the scores of all rows, float32 [n], and their slots, int64 [n]; as in `Candidates`.

        Args:
            query: float32 [dim].
            allowed: See `candidates`.

        Raises:
            DeviceSearchError: The device failed.
        """


class DeviceMatrix(Protocol):
    """The rows of a category on the device. One thread changes it; views are not affected."""

    @property
    def nbytes(self) -> int:
        """Bytes on the device."""

    def view(self) -> DeviceView:
        """Return the rows as they are now."""

    def append(self, vectors: Floats, slots: Slots, expected: int = 0) -> None:
        """Add rows.

        Args:
            vectors: float32 [n, dim].
            slots: int64 [n], ascending.
            expected: How many come soon, with these, for which memory is reserved.

        Raises:
            DeviceSearchError: The device failed, or has too little memory.
        """

    def refresh(self, live: Mask) -> None:
        """Do not compare rows any more that are not live (bool by slot).

        Raises:
            DeviceSearchError: The device failed, or has too little memory.
        """

    def stale(self, live: Mask) -> int | None:
        """Return the number of a block with many rows that are not live (bool by slot); None where there is none."""

    def compact(self, block: int, vectors: Rows, live: Mask, wait: Callable[[], object]) -> None:
        """Replace a block, by number, by one with its live rows.

        Args:
            block: Of `stale`.
            vectors: All rows by slot.
            live: bool by slot.
            wait: Called before each piece of the work.

        Raises:
            DeviceSearchError: The device failed, or has too little memory.
        """

    def moved(self, moved: Slots) -> DeviceView:
        """Return the rows with their new slots (int64 by the old one, -1 where there is none), and change nothing."""

    def use(self, view: DeviceView) -> None:
        """Go on from a view of `moved`."""


class SearchDevice(Protocol):
    """Has the memory of all matrices."""

    def matrix(self) -> DeviceMatrix:
        """Return a matrix without rows."""
