"""Read-only queries about the catalog: products, images, facets, and the rows that the index is built from.

Vectors are stored as little-endian float32.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Collection, Generator, Iterator, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np

from lookalike_server.domain.catalog import (
    PAGE_BYTES,
    AttributeFacet,
    EmbeddedProduct,
    IdempotencyKey,
    IndexRow,
    Labels,
    Page,
    Product,
    SegmentFile,
    StoredImage,
)
from lookalike_server.domain.errors import vectors_damaged
from lookalike_server.domain.inference import Floats
from lookalike_server.store.checksums import is_intact
from lookalike_server.store.damage import Damage, DamagedFileError
from lookalike_server.store.sqlite import FILE_ERRORS, Connection, connect
from lookalike_server.store.statements import COLUMNS, is_repeat, product_of

TOP_VALUES = 100
"""Values of an attribute that `attribute_facets` lists; the API promises this number."""


class CatalogReader:
    """Reads a catalog file that exists. Every method blocks and may run in any thread, each with its own connection."""

    def __init__(self, path: Path, dim: int, damage: Damage) -> None:
        self.path = path
        self.dim = dim
        self.damage = damage
        self._local = threading.local()
        self._readers: list[Connection] = []

    def products(self, ids: Sequence[str]) -> dict[str, Product]:
        """Read products by id; unknown ids are missing from the result."""
        rows = self._read(
            f"SELECT {COLUMNS} FROM products WHERE id IN (SELECT value FROM json_each(?))",  # noqa: S608 - constant
            (json.dumps(list(ids)),),
        )
        return {product.id: product for product in map(product_of, rows)}

    def vectors(self, product_id: str) -> Floats:
        """Read the embeddings of a product: float32 [images, dim], by image index; no rows if it does not exist.

        One that is damaged is NaN.
        """
        rows = self._read(
            "SELECT vector, crc32 FROM embeddings WHERE product_id = ? ORDER BY image_index", (product_id,)
        )
        nan = np.full(self.dim, np.nan, dtype=np.float32)
        vectors = [_vector(blob) if is_intact(blob, crc32, self.dim) else nan for blob, crc32 in rows]
        return np.array(vectors, dtype=np.float32).reshape(-1, self.dim)

    def done(self, idempotency_key: IdempotencyKey) -> bool:
        """Return whether the write with this key was committed already.

        Raises:
            LookalikeError: INVALID_ARGUMENT if the key was used for another request.
        """
        try:
            return is_repeat(self._connection_of_thread(), idempotency_key)
        except FILE_ERRORS as error:
            self.damage.raise_if_damage(error)
            raise

    def image(self, product_id: str, image_index: int) -> StoredImage | None:
        """Read an image of a product as it was sent; None if it was not stored."""
        for sha256, media_type, data in self._read(
            "SELECT sha256, media_type, data FROM embeddings JOIN images ON sha256 = image"
            " WHERE product_id = ? AND image_index = ?",
            (product_id, image_index),
        ):
            return StoredImage(sha256, media_type, data)
        return None

    def page(self, category: str | None, after: str, size: int) -> Page:
        """Read `size` products with ids greater than `after`, of one category or of all (None).

        Fewer where they have more than `PAGE_BYTES` characters, so that one page never needs much memory.
        """
        sql = f"SELECT {COLUMNS} FROM products WHERE id > ?"  # noqa: S608 - a constant
        arguments: list[object] = [after]
        if category is not None:
            sql += " AND category = ?"
            arguments.append(category)
        found: list[Product] = []
        room = PAGE_BYTES
        # Closed, so that no snapshot stays open where it is not read to its end.
        with closing(self._read(f"{sql} ORDER BY id LIMIT ?", (*arguments, size + 1))) as rows:
            for row in rows:
                room -= sum(map(len, row))
                if len(found) == size or (found and room < 0):
                    return Page(found, next_after=found[-1].id)
                found.append(product_of(row))
        return Page(found, next_after=None)

    def embedded(self, category: str | None, after: str, size: int) -> list[EmbeddedProduct]:
        """Read `size` products with ids greater than `after`, of one category or of all (None), with their embeddings.

        One statement, so that no product is seen half changed, and read to its end, so that no snapshot stays open.
        Fewer where the next one has a damaged embedding.

        Raises:
            LookalikeError: DATA_LOSS where the first one has.
        """
        chosen = f"SELECT {COLUMNS} FROM products WHERE id > ?"  # noqa: S608 - a constant
        arguments: list[object] = [after]
        if category is not None:
            chosen += " AND category = ?"
            arguments.append(category)
        rows = self._read(
            f"WITH chosen AS ({chosen} ORDER BY id LIMIT ?) SELECT {COLUMNS}, vector, crc32"  # noqa: S608 - constants
            " FROM chosen JOIN embeddings ON product_id = id ORDER BY id, image_index",
            (*arguments, size),
        )
        images: dict[str, list[tuple[Any, ...]]] = {}
        for row in rows:
            images.setdefault(row[0], []).append(row)
        products: list[EmbeddedProduct] = []
        for product_id, own in images.items():
            if not all(is_intact(vector, crc32, self.dim) for *_, vector, crc32 in own):
                if not products:
                    raise vectors_damaged(product_id)
                break  # it is the first of the next page
            products.append(EmbeddedProduct(product_of(own[0][:-2]), np.stack([_vector(row[-2]) for row in own])))
        return products

    def counts(self) -> dict[str, int]:
        """Count the products of each category, by name."""
        return dict(self._read("SELECT category, count(*) FROM products GROUP BY category ORDER BY category"))

    def attribute_facets(self) -> dict[str, list[AttributeFacet]]:
        """Count the values of every attribute in every category; reads the whole catalog."""
        rows = self._read(
            "SELECT category, key, value, count(*) FROM products, json_each(attributes)"
            " GROUP BY category, key, value ORDER BY category, key, count(*) DESC, value"
        )
        values: dict[tuple[str, str], list[tuple[str, int]]] = {}
        for category, name, value, count in rows:
            values.setdefault((category, name), []).append((value, count))
        facets: dict[str, list[AttributeFacet]] = {}
        for (category, name), counted in values.items():
            facets.setdefault(category, []).append(AttributeFacet(name, len(counted), counted[:TOP_VALUES]))
        return facets

    def row_counts(self) -> dict[str, int]:
        """Count the embeddings of each category."""
        return dict(
            self._read(
                "SELECT category, count(*) FROM products JOIN embeddings ON product_id = products.id GROUP BY category"
            )
        )

    def labels(self, category: str) -> Labels:
        """Read the labels of a category's embeddings, int64 [n]."""
        labels: list[int] = []
        for found, text in self._read(
            "SELECT category, json_group_array(label) FROM products JOIN embeddings ON product_id = products.id"
            " WHERE category = ? GROUP BY category",
            (category,),
        ):
            self._check_category(found, (category,))
            labels = json.loads(text)
        return np.array(labels, dtype=np.int64)

    def rows_with(self, labels: Labels) -> Iterator[IndexRow]:
        """Read the embeddings that have these labels (int64 [n]), without attributes."""
        for label, product_id, image_index, blob in self._read(
            "SELECT label, product_id, image_index, vector FROM embeddings"
            " WHERE label IN (SELECT value FROM json_each(?))",
            (json.dumps(labels.tolist()),),
        ):
            yield IndexRow(label, product_id, image_index, _vector(blob))

    def attributes(self, category: str) -> Iterator[tuple[int, Mapping[str, str]]]:
        """Read the attributes of a category's embeddings, each with its label."""
        for found, label, attributes in self._read(
            "SELECT category, label, attributes FROM products JOIN embeddings ON product_id = products.id"
            " WHERE category = ?",
            (category,),
        ):
            self._check_category(found, (category,))
            yield label, json.loads(attributes)

    def rows_of(self, categories: Sequence[str]) -> Iterator[tuple[str, IndexRow]]:
        """Read the embeddings of some categories, each with its category, in any order."""
        wanted = set(categories)
        for category, label, product_id, image_index, blob, attributes in self._read(
            "SELECT category, label, product_id, image_index, vector, attributes FROM products"
            " JOIN embeddings ON product_id = products.id WHERE category IN (SELECT value FROM json_each(?))",
            (json.dumps(categories),),
        ):
            self._check_category(category, wanted)
            yield category, IndexRow(label, product_id, image_index, _vector(blob), json.loads(attributes))

    def segments(self) -> dict[str, list[SegmentFile]]:
        """Read which index files can be trusted, by category (see `SegmentManifest`)."""
        files: dict[str, list[SegmentFile]] = {}
        for category, *file in self._read("SELECT category, file, size, sha256 FROM segments ORDER BY category, id"):
            files.setdefault(category, []).append(SegmentFile(*file))
        return files

    def _check_category(self, found: str, wanted: Collection[str]) -> None:
        if found not in wanted:
            self.damage.raise_if_damage(DamagedFileError(f"the index by category leads to a row of {found!r} instead"))

    def close(self) -> None:
        """Close the connections of all threads."""
        for reader in self._readers:
            reader.close()

    def _read(self, sql: str, arguments: Sequence[object] = ()) -> Generator[tuple[Any, ...]]:
        """Yield the rows of a query.

        Raises:
            ServerError: DATA_LOSS where the file is damaged, at whichever row that shows.
        """
        try:
            with closing(self._connection_of_thread().execute(sql, arguments)) as rows:
                yield from rows
        except FILE_ERRORS as error:
            self.damage.raise_if_damage(error)
            raise

    def _connection_of_thread(self) -> Connection:
        reader: Connection | None = getattr(self._local, "reader", None)
        if reader is None:
            reader = self._local.reader = connect(self.path, "ro")
            self._readers.append(reader)
        return reader


def _vector(blob: bytes) -> Floats:
    return np.frombuffer(blob, dtype="<f4").astype(np.float32, copy=False)
