"""The images that rows belong to, in columns: a collection of garbage does not look into numbers and strings.

With an object for each of 100,000 rows it would hold the GIL for 15 milliseconds.
"""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from typing import overload

import numpy as np
import numpy.typing as npt

from lookalike_server.domain.catalog import IndexRow
from lookalike_server.index.row_storage import Slots
from lookalike_server.index.snapshot import RowOwner


class OwnerColumns(Sequence[RowOwner]):
    """The image of each row, by slot. One thread appends; what others have seen does not change."""

    def __init__(self) -> None:
        self._labels = array("q")
        self._product_ids: list[str] = []
        self._image_indexes = array("i")

    def __len__(self) -> int:
        return len(self._image_indexes)

    @overload
    def __getitem__(self, index: int) -> RowOwner: ...

    @overload
    def __getitem__(self, index: slice) -> list[RowOwner]: ...

    def __getitem__(self, index: int | slice) -> RowOwner | list[RowOwner]:
        if isinstance(index, slice):
            return [self[slot] for slot in range(*index.indices(len(self)))]
        return RowOwner(self._labels[index], self._product_ids[index], self._image_indexes[index])

    def labels(self, slots: Slots) -> Slots:
        """Return the labels of some rows, int64 [n]; not while another thread appends."""
        return np.frombuffer(self._labels, dtype=np.int64)[slots]

    def columns(self, count: int) -> tuple[Slots, Sequence[str], npt.NDArray[np.int32]]:
        """Return copies of the first `count` labels (int64), product ids and image indexes; not during `append`."""
        indexes = np.frombuffer(self._image_indexes, dtype=np.intc)[:count].astype(np.int32)
        return np.frombuffer(self._labels, dtype=np.int64)[:count].copy(), self._product_ids[:count], indexes

    def extend(self, labels: Slots, product_ids: Sequence[str], image_indexes: npt.NDArray[np.int32]) -> None:
        """Add the images of the next rows, as `columns` returns them."""
        self._labels.frombytes(labels.astype(np.int64).tobytes())
        self._product_ids.extend(product_ids)
        self._image_indexes.frombytes(image_indexes.astype(np.intc).tobytes())

    def label(self, slot: int) -> int:
        """Return the label of a row."""
        return self._labels[slot]

    def append_all(self, rows: Sequence[IndexRow]) -> None:
        """Add the images of the next rows."""
        self._labels.extend([row.label for row in rows])
        self._product_ids.extend([row.product_id for row in rows])
        self._image_indexes.extend([row.image_index for row in rows])

    def append(self, owner: RowOwner) -> None:
        """Add the image of the next row."""
        self._labels.append(owner.label)
        self._product_ids.append(owner.product_id)
        self._image_indexes.append(owner.image_index)
