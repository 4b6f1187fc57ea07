"""The rows of one category: their vectors, whose images they are, and their attributes, by slot; deleted ones too."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import compress

import numpy as np
import numpy.typing as npt

from lookalike_server.domain.catalog import IndexRow
from lookalike_server.index.brute_force import FlatIndex
from lookalike_server.index.lazy_attributes import LazyAttributes
from lookalike_server.index.owners import OwnerColumns
from lookalike_server.index.row_blocks import RowBlocks
from lookalike_server.index.row_files import RowColumns
from lookalike_server.index.row_storage import Slots
from lookalike_server.index.snapshot import RowOwner


class ProductCounts:
    """How many live rows each product has."""

    def __init__(self) -> None:
        self._rows: dict[str, int] = {}
        self.most = 1

    def __len__(self) -> int:
        """Count the products."""
        return len(self._rows)

    def add(self, product_id: str) -> None:
        """Count a row."""
        count = self._rows[product_id] = self._rows.get(product_id, 0) + 1
        if count > self.most:
            self.most = count

    def add_all(self, product_ids: Sequence[str], live: npt.NDArray[np.bool_]) -> None:
        """Count the rows that are live (bool [n]), of products without any."""
        self._rows.update(Counter(compress(product_ids, live.tolist())))
        self.most = max(self._rows.values(), default=1)

    def remove(self, product_id: str) -> None:
        """Count a row less."""
        self._rows[product_id] -= 1
        if not self._rows[product_id]:
            del self._rows[product_id]


class PartitionRows:
    """Changed under the partition's lock.

    Attributes:
        vectors: The vectors, and which rows are live.
        owners: The image of each row.
        attributes: The attributes of each row.
        slots: The live rows, by label.
        products: How many live rows each product has.
        copy: Some of the rows, which a compaction makes at present; what is removed or updated is so there too.
    """

    def __init__(self, dim: int, memory: RowBlocks, products: ProductCounts | None = None) -> None:
        """Begin with no row.

        Args:
            dim: Dimensions of a vector.
            memory: Where vectors are.
            products: Of rows that these will be a copy of.
        """
        self._memory = memory
        self.vectors = FlatIndex(dim, memory)
        self.owners = OwnerColumns()
        self.attributes = LazyAttributes()
        self.slots: dict[int, int] = {}
        self.products = products if products is not None else ProductCounts()
        self.copy: PartitionRows | None = None

    def without_rows(self, capacity: int) -> PartitionRows:
        """Return a place for a copy of so many of the rows."""
        copy = PartitionRows(self.vectors.vectors.shape[1], self._memory, self.products)
        copy.vectors.reserve(capacity)
        return copy

    def restore(self, saved: RowColumns, live: npt.NDArray[np.bool_]) -> None:
        """Use saved rows, of which these are live (bool [n]), without their attributes; there are no others yet."""
        self.vectors = FlatIndex.of(saved.vectors, live, self._memory)
        self.owners.extend(saved.labels, saved.product_ids, saved.image_indexes)
        slots = np.flatnonzero(live)
        self.slots = dict(zip(saved.labels[slots].tolist(), slots.tolist(), strict=True))
        self.products.add_all(saved.product_ids, live)

    def columns(self) -> RowColumns:
        """Return all rows, with deleted ones, to write them to a file."""
        vectors = self.vectors.vectors
        return RowColumns(*self.owners.columns(len(vectors)), vectors)

    def append(self, row: IndexRow) -> None:
        """Add a row without its attributes."""
        self.slots[row.label] = self.vectors.append(row.vector)
        self.owners.append(RowOwner(row.label, row.product_id, row.image_index))
        self.products.add(row.product_id)

    def extend(self, rows: Sequence[IndexRow]) -> None:
        """Add rows with their attributes; in less time than `append` for each."""
        self.owners.append_all(rows)
        for slot, row in enumerate(rows, self.vectors.append_all([row.vector for row in rows])):
            self.slots[row.label] = slot
            self.attributes.put(slot, row.attributes)
            self.products.add(row.product_id)

    def remove(self, label: int) -> None:
        """Remove a row."""
        if self.copy is not None and label in self.copy.slots:
            self.copy.drop(label)
        self.products.remove(self.owners[self.drop(label)].product_id)

    def drop(self, label: int) -> int:
        """Remove a row that stays counted, and return its slot."""
        slot = self.slots.pop(label)
        self.vectors.remove(slot)
        self.attributes.drop(slot)
        return slot

    def update(self, label: int, attributes: Mapping[str, str]) -> None:
        """Set the attributes of a row; any others are dropped."""
        self.attributes.put(self.slots[label], attributes)
        if self.copy is not None and label in self.copy.slots:
            self.copy.update(label, attributes)

    def slots_of(self, labels: Slots) -> Slots:
        """Return the slots of live rows by label, int64 [n]; -1 where there is none."""
        return np.array([self.slots.get(label, -1) for label in labels.tolist()])
