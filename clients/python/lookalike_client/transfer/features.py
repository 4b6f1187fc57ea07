"""Imports from arrays: `vectors` [n, dim], and `ids` [n] with the product's id of each row.

Rows with the same id, adjacent or not, are images of one product in their order. Vectors are memory-mapped, so that
only those of a batch are read; an index of the rows of each id is in memory.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from itertools import islice
from pathlib import Path

import numpy as np

from lookalike_client.transfer.catalog_error import CatalogError, FailedRow
from lookalike_client.transfer.feature_metadata import Metadata
from lookalike_client.transfer.import_batches import Batch, PendingProduct, fill_batches
from lookalike_client.transfer.npy_file import name_at, open_array, open_names

MAX_IMAGES = 8
"""The most images that a product may have, by the API."""


class Features:
    """Two arrays of the same length, and the metadata of their products.

    Args:
        vectors: float16, float32 or float64 of shape [n, dim], from the server's model.
        ids: Strings, UTF-8 bytes or integers of shape [n].
        metadata: The metadata of the products.

    Raises:
        CatalogError: A file cannot be read, has another type or shape, is empty, or differs in length.
    """

    unit = "products"

    def __init__(self, vectors: Path, ids: Path, metadata: Metadata) -> None:
        self.path = vectors
        self._vectors = _open_vectors(vectors)
        self._ids = open_names(ids)
        self._metadata = metadata
        self._check_lengths(ids)
        # stable, so that the rows of a product keep the order of the file
        _, first, inverse, counts = np.unique(self._ids, return_index=True, return_inverse=True, return_counts=True)
        self._rows = np.argsort(inverse, kind="stable")
        self._ends = np.cumsum(counts)
        self._products = np.argsort(first)

    def __repr__(self) -> str:
        sizes = f"{len(self._products)} products, {len(self._vectors)} vectors of dimension {self.dim}"
        return f"<Features {self.path}: {sizes}>"

    @property
    def dim(self) -> int:
        """The dimension of the vectors."""
        return int(self._vectors.shape[1])

    def check_dim(self, model: str, dim: int) -> None:
        """Check that the vectors have the dimension of a model.

        Raises:
            CatalogError: They have another one.
        """
        if self.dim != dim:
            raise CatalogError(
                f"{self.path} has vectors of dimension {self.dim}, but the server's model {model} has dimension {dim}:"
                " import vectors from that exact model, others cannot be compared with its embeddings"
            )

    def ids(self) -> Iterator[str]:
        """Yield the ids of the products, those that are valid, in the order in which they first appear."""
        for rows in self._grouped():
            try:
                yield name_at(self._ids, rows[0])
            except ValueError:  # reported when its batch is read
                continue

    def notes(self) -> list[str]:
        """Return what to say about the metadata."""
        return self._metadata.notes

    def count(self, limit: int | None) -> int:
        """Return the number of products, or `limit` if there are more."""
        return len(self._products) if limit is None else min(limit, len(self._products))

    def batches(self, *, size: int, limit: int | None, existing: set[str]) -> Iterator[Batch]:
        """Yield batches of the first `limit` products; as `Source.batches`."""
        return fill_batches(islice(self._grouped(), limit), partial(self._add, existing), size)

    def _grouped(self) -> Iterator[list[int]]:
        """Yield the rows of each product, products in the order in which they first appear."""
        for product in self._products:
            begin = self._ends[product - 1] if product else 0
            yield self._rows[begin : self._ends[product]].tolist()

    def _add(self, existing: set[str], batch: Batch, rows: list[int]) -> None:
        product_id = ""
        try:
            product_id = name_at(self._ids, rows[0])
            if product_id in existing:
                existing.discard(product_id)
                batch.skipped += 1
                return
            if not product_id:
                raise ValueError("the id is empty")
            if len(rows) > MAX_IMAGES:
                raise ValueError(
                    f"has {len(rows)} rows, the last in row {rows[-1]}; a product has at most {MAX_IMAGES} images"
                )
            product = self._metadata.product(product_id, rows)
            vectors = self._read(rows)
        except ValueError as error:
            batch.failed.append(FailedRow(rows[0], product_id, str(error)))
            return
        batch.payload_bytes += vectors.nbytes
        batch.ready.append(PendingProduct(rows[0], replace(product, vectors=list(vectors))))

    def _read(self, rows: list[int]) -> np.ndarray[tuple[int, int], np.dtype[np.float32]]:
        """Read the vectors of these rows, float32 [rows, dim]."""
        with np.errstate(over="ignore"):
            values = np.asarray(self._vectors[rows], dtype=np.float32)
        for row, vector in zip(rows, values, strict=True):
            finite = np.isfinite(vector)
            if not finite.all():
                place = int(np.argmin(finite))
                value = self._vectors[row, place]
                raise ValueError(f"row {row} of {self.path.name} has {value} at {place}, which is not a finite float32")
            if not vector.any():
                raise ValueError(f"row {row} of {self.path.name} must not be all zeros")
        return values

    def _check_lengths(self, ids: Path) -> None:
        rows = len(self._vectors)
        if rows != len(self._ids):
            hint = f"; is {self.path.name} transposed?" if self.dim == len(self._ids) else ""
            raise CatalogError(
                f"{self.path} has {rows:,} rows and {ids} has {len(self._ids):,} ids; each row needs one{hint}"
            )
        if rows == 0:
            raise CatalogError(f"{self.path} has no rows")
        if self._metadata.rows is not None and self._metadata.rows[1] != rows:
            path, entries = self._metadata.rows
            raise CatalogError(f"{self.path} has {rows:,} rows and {path} has {entries:,} entries; each row needs one")


def _open_vectors(path: Path) -> np.ndarray[tuple[int, int], np.dtype[np.floating]]:
    vectors = open_array(path, 'array.astype("float32")')
    if vectors.dtype.kind != "f" or vectors.dtype.itemsize > 8:
        raise CatalogError(f'{path} has dtype {vectors.dtype}; save floats, for instance array.astype("float32")')
    if vectors.ndim != 2:
        raise CatalogError(f"{path} has shape {list(vectors.shape)}; vectors must have shape [n, dim]")
    return vectors
