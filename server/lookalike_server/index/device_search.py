"""The search of rows on a device, whose answers are proven exact.

The device's scores are rounded, with a known bound (see `Candidates`). Of its candidates those are measured again, by
the function that every search uses, which the bound does not rule out. An answer is exact if no row beyond the
candidates can be as near as its last product. Where that is not proven, as where hundreds of rows are equally near, the
scores of all rows are compared with the bound instead.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from lookalike_server.domain.inference import Floats
from lookalike_server.index.brute_force import FlatView
from lookalike_server.index.device import DeviceView, Mask
from lookalike_server.index.row_storage import Slots

_COUNTS = (64, 256, 1024)  # of candidates; few values, because each is another shape for the device
_SPARE = 32  # candidates that may be deleted rows, or as near as the last one by their scores


class Nearest(NamedTuple):
    """Rows on the device that can be among the nearest to a query.

    Attributes:
        slots: int64 [n], live ones.
        others: The least distance that any other live row there can have which may be among the nearest as well.
    """

    slots: Slots
    others: float


class DeviceSearch:
    """A search for several queries; each has vectors, and a row is as near to it as to the nearest of them."""

    def __init__(
        self, rows: DeviceView, view: FlatView, queries: Sequence[Floats], needed: int, *, filtered: bool
    ) -> None:
        """Have the device find candidates.

        Args:
            rows: The rows on the device.
            view: All rows, of which the live ones are searched.
            queries: The vectors of each, float32 [m, dim].
            needed: How many rows to find for each query.
            filtered: Whether conditions exclude rows from the view.

        Raises:
            DeviceSearchError: The device failed.
        """
        self._rows = rows
        self._live = view.live
        self._allowed = view.live if filtered else None
        self._queries = queries
        self._needed = needed
        self._begins = np.cumsum([0, *map(len, queries)])
        count = next((count for count in _COUNTS if count >= needed + _SPARE), _COUNTS[-1])
        self._candidates = candidates = rows.candidates(np.concatenate(queries), count, self._allowed)
        # For all queries at once, because every call of NumPy's takes microseconds.
        self._there = self._exist(candidates.scores, candidates.slots)
        numbers = np.arange(len(candidates.scores))
        least = candidates.least_distance(numbers[:, np.newaxis], candidates.scores)
        found = np.cumsum(self._there, axis=1)
        last = candidates.scores[numbers, np.argmax(found == needed, axis=1)]
        greatest = candidates.greatest_distance(numbers, last)
        reach = np.minimum.reduceat(np.where(found[:, -1] >= needed, greatest, np.inf), self._begins[:-1])
        self._near = self._there & (least <= np.repeat(reach, np.diff(self._begins))[:, np.newaxis])
        self._others = np.minimum.reduceat(least[:, -1], self._begins[:-1]).tolist()

    def nearest(self, query: int) -> Nearest:
        """Return those of the candidates of a query, by number, that the bound does not rule out."""
        numbers = slice(*self._begins[query : query + 2])
        slots = self._candidates.slots[numbers][self._near[numbers]]
        return Nearest(slots if len(self._queries[query]) == 1 else np.unique(slots), self._others[query])

    def nearest_of_all(self, query: int, distance: float) -> Slots:
        """Return all live rows that the bound does not rule out, by the scores of all: int64 [n].

        Args:
            query: Its number.
            distance: Rows that are farther need not be found.

        Raises:
            DeviceSearchError: The device failed.
        """
        needed, candidates = self._needed, self._candidates
        found: list[tuple[int, Floats, Slots]] = []
        for number, vector in enumerate(self._queries[query], int(self._begins[query])):
            scores, slots = self._rows.scores(vector, self._allowed)
            there = self._exist(scores, slots)
            scores, slots = scores[there], slots[there]
            found.append((number, scores, slots))
            if len(scores) >= needed:
                last = np.partition(scores, len(scores) - needed)[len(scores) - needed]
                # As many rows as are needed are not farther than this.
                distance = min(distance, float(candidates.greatest_distance(number, last)))
        near = [slots[candidates.least_distance(number, scores) <= distance] for number, scores, slots in found]
        return np.unique(np.concatenate(near))

    def _exist(self, scores: Floats, slots: Slots) -> Mask:
        """Return which of some scored rows exist, are allowed, and are live."""
        there: Mask = (slots >= 0) & (scores > -np.inf)
        there &= self._live[slots]
        return there
