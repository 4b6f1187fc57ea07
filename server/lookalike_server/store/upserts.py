"""Upserts, of which those that wait together share their statements.

Every statement lets go of the GIL and has to get it back, from an event loop that is busy with the next requests. So a
product does not cost a few statements: up to `_MOST_ROWS` products do.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from lookalike_server.domain.catalog import EmbeddedProduct, IdempotencyKey, IndexChange, IndexRow, StoredImage
from lookalike_server.domain.errors import Code, LookalikeError
from lookalike_server.store.checksums import checksum
from lookalike_server.store.statements import (
    COLUMNS,
    NO_CHANGE,
    attributes_text,
    delete_expired_keys,
    delete_unused_images,
    is_repeat,
)
from lookalike_server.store.write_jobs import JoinableOp, WriteResult

_MOST_ROWS = 64
_MOST_BYTES = 1 << 20  # of vectors in a statement, because SQLite copies what it is given

_REPLACED = (
    "SELECT (SELECT max(seq) FROM sqlite_sequence WHERE name = 'embeddings'),"
    " json_group_array(json_array(products.id, category, label, image)) FROM json_each(?)"
    " CROSS JOIN products ON products.id = value LEFT JOIN embeddings ON product_id = products.id"
)
_DELETE = "DELETE FROM embeddings WHERE label IN (SELECT value FROM json_each(?))"
_PRODUCTS = (
    f"INSERT INTO products ({COLUMNS}) VALUES (?, ?, ?, ?, ?)",  # noqa: S608 - a constant
    " ON CONFLICT (id) DO UPDATE SET category = excluded.category, title = excluded.title,"
    " image_uri = excluded.image_uri, attributes = excluded.attributes",
)
_EMBEDDINGS = (
    "INSERT INTO embeddings (label, product_id, image_index, vector, crc32, image, region)"
    " VALUES (?, ?, ?, ?, ?, ?, ?)",
    "",
)
_KEYS = ("INSERT INTO idempotency_keys (key, item, digest, done_at) VALUES (?, ?, ?, ?)", "")


@dataclass(frozen=True, slots=True)
class Upsert(JoinableOp):
    """Stores or replaces a product as a whole.

    Attributes:
        embedded: The product.
        key: With which it is applied once.
        within: The categories whose products may be replaced; None for all.
        now: Seconds since 1970.
    """

    embedded: EmbeddedProduct
    key: IdempotencyKey | None
    within: frozenset[str] | None
    now: float

    @property
    def subject(self) -> str:
        """The product's id."""
        return self.embedded.product.id

    @staticmethod
    def run(connection: Any, ops: Sequence[Upsert]) -> WriteResult:
        """Store or replace these products, all different ones, and return a list of values.

        Raises:
            LookalikeError: PERMISSION_DENIED where one would replace a product that is not `within`, INVALID_ARGUMENT
                where the key of one was used for another request.
        """
        values: list[object] = [True if op.key and is_repeat(connection, op.key) else None for op in ops]
        ops = [op for op, is_done in zip(ops, values, strict=True) if not is_done]
        if not ops:
            return WriteResult(values, NO_CHANGE)
        last_label, removed, replaced = _remove(connection, ops)
        products = [op.embedded.product for op in ops]
        _insert(connection, _PRODUCTS, [(p.id, p.category, p.title, p.image_uri, attributes_text(p)) for p in products])
        added = _add(connection, [op.embedded for op in ops], last_label)
        delete_unused_images(connection, replaced)
        keyed = [(op.key.key, op.key.item, op.key.digest, int(op.now)) for op in ops if op.key]
        if keyed:
            delete_expired_keys(connection, ops[-1].now)
            _insert(connection, _KEYS, keyed)
        change = IndexChange(removed, added, products=[product.id for product in products])
        return WriteResult(values, change, sum(_size(op.embedded) for op in ops))


def _remove(connection: Any, ops: Sequence[Upsert]) -> tuple[int, list[tuple[str, int]], set[str]]:
    """Delete the embeddings of the products that are replaced.

    Returns the last label that was ever used, category and label of each of these embeddings, and their images.
    """
    within = {op.subject: op.within for op in ops}
    last_label, found = connection.execute(_REPLACED, (json.dumps(list(within), ensure_ascii=False),)).fetchone()
    rows = json.loads(found)
    for product_id, category, *_ in rows:
        allowed = within[product_id]
        if allowed is not None and category not in allowed:
            raise LookalikeError(
                Code.PERMISSION_DENIED,
                f"{product_id!r} is a product of a category that this key or token may not touch",
            )
    removed = [(category, label) for _, category, label, _ in rows if label is not None]
    if removed:
        connection.execute(_DELETE, (json.dumps([label for _, label in removed]),))
    return last_label or 0, removed, {image for *_, image in rows if image is not None}


def _add(connection: Any, products: Sequence[EmbeddedProduct], label: int) -> list[tuple[str, IndexRow]]:
    """Insert embeddings and images of products, with labels after this one; return the rows and their categories."""
    added: list[tuple[str, IndexRow]] = []
    inserts: list[tuple[object, ...]] = []
    for embedded in products:
        product = embedded.product
        images = embedded.images or (None,) * len(embedded.vectors)
        for image_index, (vector, image) in enumerate(zip(embedded.vectors, images, strict=True)):
            label += 1
            added.append((product.category, IndexRow(label, product.id, image_index, vector, product.attributes)))
            stored = memoryview(vector.astype("<f4", copy=False)).cast("B")  # SQLite copies it from there
            columns = _image_columns(connection, image) if image else (None, None)
            inserts.append((label, product.id, image_index, stored, checksum(stored), *columns))
    _insert(connection, _EMBEDDINGS, inserts, max(1, _MOST_BYTES // products[0].vectors[0].nbytes))
    return added


def _image_columns(connection: Any, image: StoredImage) -> tuple[str, str | None]:
    """Store an image unless it is stored already, and return what refers to it: its sha256 and the region."""
    connection.execute(
        "INSERT OR IGNORE INTO images (sha256, media_type, data) VALUES (?, ?, ?)",
        (image.sha256, image.media_type, image.data),
    )
    region = image.region
    if region is None:
        return image.sha256, None
    return image.sha256, json.dumps([region.left, region.top, region.right, region.bottom])


def _insert(
    connection: Any, sql: tuple[str, str], rows: Sequence[tuple[object, ...]], at_once: int = _MOST_ROWS
) -> None:
    """Run an INSERT of one row for all of these rows."""
    for part in _parts(rows, min(at_once, _MOST_ROWS)):
        connection.execute(_for_rows(*sql, len(part)), [value for row in part for value in row])


def _parts(rows: Sequence[tuple[object, ...]], at_once: int) -> Iterator[Sequence[tuple[object, ...]]]:
    """Cut rows into parts whose lengths are powers of two, so that few statements have to be prepared."""
    begin = 0
    while begin < len(rows):
        length = 1 << (min(at_once, len(rows) - begin).bit_length() - 1)
        yield rows[begin : begin + length]
        begin += length


@lru_cache(64)
def _for_rows(insert: str, on_conflict: str, count: int) -> str:
    """Return an INSERT of one row as one of `count` rows."""
    head, _, row = insert.partition(" VALUES ")
    return f"{head} VALUES {', '.join([row] * count)}{on_conflict}"


def _size(embedded: EmbeddedProduct) -> int:
    return embedded.vectors.nbytes + sum(len(image.data) for image in embedded.images if image is not None)
