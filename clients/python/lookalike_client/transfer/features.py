"""Arrays of features as a source of an import: `vectors` [n, dim] and the product's id of each row, `ids` [n].

Rows of the same id, next to each other or not, are images of one product in their order. Vectors are memory-mapped, so
that only what a batch holds is read; of the ids what it takes to find the rows of each stays in memory.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from itertools import islice
from pathlib import Path

import numpy as np

from lookalike_client.transfer.catalog_csv import CatalogError, FailedRow
from lookalike_client.transfer.feature_metadata import Facts
from lookalike_client.transfer.import_batches import Batch, Prepared, fill_batches
from lookalike_client.transfer.npy_file import name_at, open_array, open_names

MAX_IMAGES = 8
"""Images that a product may have; the API promises this number."""


class Features:
    """Two arrays that have been found to belong together, and what is known of their products.

    Args:
        vectors: float16, float32 or float64 of shape [n, dim], made with the server's model.
        ids: Strings, UTF-8 bytes or integers of shape [n].
        facts: What is known of the products.

    Raises:
        CatalogError: A file cannot be read, holds something else, is empty, or is not as long as the others.
    """

    unit = "products"

    def __init__(self, vectors: Path, ids: Path, facts: Facts) -> None:
        self.path = vectors
        self._vectors = _open_vectors(vectors)
        self._ids = open_names(ids)
        self._facts = facts
        self._check_lengths(ids)
        # a stable order: the rows of a product stay as they stand in the file
        _, first, inverse, counts = np.unique(self._ids, return_index=True, return_inverse=True, return_counts=True)
        self._rows = np.argsort(inverse, kind="stable")
        self._ends = np.cumsum(counts)
        self._products = np.argsort(first)

    def __repr__(self) -> str:
        return f"<Features {self.path}: {len(self._products)} products, {len(self._vectors)} vectors of {self.dim}>"

    @property
    def dim(self) -> int:
        """Numbers in a vector."""
        return int(self._vectors.shape[1])

    def check_dim(self, model: str, dim: int) -> None:
        """Make sure that the vectors are as long as those of a model.

        Raises:
            CatalogError: They are not.
        """
        if self.dim != dim:
            raise CatalogError(
                f"{self.path} holds vectors of {self.dim} numbers, and the embeddings of the server's model {model}"
                f" have {dim}: only vectors made with that very model can be compared with its own"
            )

    def ids(self) -> Iterator[str]:
        """The id of each product that has one which can be read, in the order in which they first appear."""
        for rows in self._grouped():
            try:
                yield name_at(self._ids, rows[0])
            except ValueError:  # such a row fails when it is sent
                continue

    def count(self, limit: int | None) -> int:
        """Products, or `limit` if there are more."""
        return len(self._products) if limit is None else min(limit, len(self._products))

    def batches(self, *, size: int, limit: int | None, existing: set[str]) -> Iterator[Batch]:
        """Batches of at most `size` of the first `limit` products; `existing` ids are left out, and emptied."""
        return fill_batches(islice(self._grouped(), limit), partial(self._add, existing), size)

    def _grouped(self) -> Iterator[list[int]]:
        """The rows of each product, products in the order in which they first appear."""
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
            known = self._facts.of(product_id, rows)
            vectors = self._read(rows)
        except ValueError as error:
            batch.failed.append(FailedRow(rows[0], product_id, str(error)))
            return
        batch.payload_bytes += vectors.nbytes
        batch.ready.append(Prepared(rows[0], replace(known, vectors=list(vectors))))

    def _read(self, rows: list[int]) -> np.ndarray[tuple[int, int], np.dtype[np.float32]]:
        """The vectors of these rows, float32 [rows, dim]."""
        with np.errstate(over="ignore"):
            values = np.asarray(self._vectors[rows], dtype=np.float32)
        for row, vector in zip(rows, values, strict=True):
            finite = np.isfinite(vector)
            if not finite.all():
                place = int(np.argmin(finite))
                found = self._vectors[row, place]
                raise ValueError(f"row {row} of {self.path.name} has {found} at {place}, which is no finite float32")
            if not vector.any():
                raise ValueError(f"row {row} of {self.path.name} is all zeros, which looks like nothing")
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
        if self._facts.rows is not None and self._facts.rows[1] != rows:
            path, found = self._facts.rows
            raise CatalogError(f"{self.path} has {rows:,} rows and {path} has {found:,} entries; each row needs one")


def _open_vectors(path: Path) -> np.ndarray[tuple[int, int], np.dtype[np.floating]]:
    vectors = open_array(path, 'array.astype("float32")')
    if vectors.dtype.kind != "f" or vectors.dtype.itemsize > 8:
        raise CatalogError(f'{path} holds {vectors.dtype}; save floats, as array.astype("float32") does')
    if vectors.ndim != 2:
        raise CatalogError(f"{path} is of shape {list(vectors.shape)}; vectors are of shape [n, dim]")
    return vectors
