"""The write operations, which run inside the writer's transaction: their SQL, and their changes for the index.

A write with an idempotency key is applied once: the key is stored in the same transaction, and a repeat does nothing
and returns the same result.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from lookalike_server.domain.catalog import (
    MAX_ATTRIBUTES,
    EmbeddedProduct,
    IdempotencyKey,
    IndexChange,
    IndexRow,
    Product,
    SegmentFile,
    StoredImage,
)
from lookalike_server.domain.errors import Code, LookalikeError, invalid
from lookalike_server.store.write_jobs import WriteOp, WriteResult

COLUMNS = "id, category, title, image_uri, attributes"
KEY_LIFETIME = 24 * 3600
"""Seconds after which an idempotency key may be forgotten; the API promises this number."""

NO_CHANGE = IndexChange()


def idempotent(key: IdempotencyKey | None, op: WriteOp, now: float) -> WriteOp:
    """Return the operation, applied at most once for this key; `now` is in seconds since 1970.

    Raises:
        LookalikeError: INVALID_ARGUMENT, from the operation, if the key was used for another request.
    """
    if key is None:
        return op

    def run_once(connection: Any) -> WriteResult:
        if is_repeat(connection, key):
            return WriteResult(True, NO_CHANGE)
        result = op(connection)
        if result.value is False:
            return result  # there was nothing to change; a repeat may find something
        connection.execute("DELETE FROM idempotency_keys WHERE done_at < ?", (int(now) - KEY_LIFETIME,))
        connection.execute(
            "INSERT INTO idempotency_keys (key, item, digest, done_at) VALUES (?, ?, ?, ?)",
            (key.key, key.item, key.digest, int(now)),
        )
        return result

    return run_once


def is_repeat(connection: Any, key: IdempotencyKey) -> bool:
    """Return whether a write with this key was applied already.

    Raises:
        LookalikeError: INVALID_ARGUMENT if the key was used for another request.
    """
    row = connection.execute(
        "SELECT digest FROM idempotency_keys WHERE key = ? AND item = ?", (key.key, key.item)
    ).fetchone()
    if row is not None and row[0] != key.digest:
        raise invalid("idempotency_key", "was used for another request; use a new key for every request")
    return row is not None


def upsert(embedded: EmbeddedProduct, within: frozenset[str] | None = None) -> WriteOp:
    """Store or replace a product as a whole.

    Raises:
        LookalikeError: PERMISSION_DENIED, from the operation, if it would replace one that is not `within`.
    """

    def op(connection: Any) -> WriteResult:
        product = embedded.product
        if not _is_within(connection, product.id, within):
            raise LookalikeError(
                Code.PERMISSION_DENIED,
                f"{product.id!r} is a product of a category that this key or token may not touch",
            )
        removed, replaced = _embeddings_of(connection, product.id)
        if removed:
            connection.execute("DELETE FROM embeddings WHERE product_id = ?", (product.id,))
        connection.execute(
            f"INSERT INTO products ({COLUMNS}) VALUES (?, ?, ?, ?, ?) ON CONFLICT (id) DO UPDATE SET"  # noqa: S608
            " category = excluded.category, title = excluded.title, image_uri = excluded.image_uri,"
            " attributes = excluded.attributes",
            (product.id, product.category, product.title, product.image_uri, _text(product.attributes)),
        )
        images = embedded.images or (None,) * len(embedded.vectors)
        added = []
        for image_index, (vector, image) in enumerate(zip(embedded.vectors, images, strict=True)):
            if image is not None:
                connection.execute(
                    "INSERT OR IGNORE INTO images (sha256, media_type, data) VALUES (?, ?, ?)",
                    (image.sha256, image.media_type, image.data),
                )
            cursor = connection.execute(
                "INSERT INTO embeddings (product_id, image_index, vector, image, region) VALUES (?, ?, ?, ?, ?)",
                (product.id, image_index, np.ascontiguousarray(vector, dtype="<f4"), *_image_columns(image)),
            )
            row = IndexRow(cursor.lastrowid, product.id, image_index, vector, product.attributes)
            added.append((product.category, row))
        _delete_unused_images(connection, replaced)
        size = embedded.vectors.nbytes + sum(len(image.data) for image in images if image is not None)
        return WriteResult(None, IndexChange(removed, added), size)

    return op


def replace_segments(category: str, files: Sequence[SegmentFile]) -> WriteOp:
    """Make these the only index files of a category."""

    def op(connection: Any) -> WriteResult:
        connection.execute("DELETE FROM segments WHERE category = ?", (category,))
        connection.executemany(
            "INSERT INTO segments (category, file, size, sha256) VALUES (?, ?, ?, ?)",
            [(category, file.name, file.size, file.sha256) for file in files],
        )
        return WriteResult(None, NO_CHANGE)

    return op


def delete(product_id: str, within: frozenset[str] | None = None) -> WriteOp:
    """Delete a product; the value says whether it existed, `within` those categories."""

    def op(connection: Any) -> WriteResult:
        if not _is_within(connection, product_id, within):
            return WriteResult(False, NO_CHANGE)
        removed, images = _embeddings_of(connection, product_id)
        deleted = connection.execute("DELETE FROM products WHERE id = ?", (product_id,)).rowcount
        _delete_unused_images(connection, images)
        return WriteResult(deleted > 0, IndexChange(removed))

    return op


def update_attributes(
    product_id: str, attributes: Mapping[str, str], clear: Sequence[str], within: frozenset[str] | None = None
) -> WriteOp:
    """Set attributes and clear others; the value says whether the product exists, `within` those categories.

    Raises:
        LookalikeError: INVALID_ARGUMENT, from the operation, if the product would have too many attributes.
    """

    def op(connection: Any) -> WriteResult:
        row = connection.execute("SELECT attributes FROM products WHERE id = ?", (product_id,)).fetchone()
        if row is None or not _is_within(connection, product_id, within):
            return WriteResult(False, NO_CHANGE)
        before: dict[str, str] = json.loads(row[0])
        after = {name: value for name, value in before.items() if name not in clear} | dict(attributes)
        if len(after) > MAX_ATTRIBUTES:
            raise invalid(
                "attributes",
                f"would become {len(after)}; a product has at most {MAX_ATTRIBUTES}: clear some in the same request",
            )
        connection.execute("UPDATE products SET attributes = ? WHERE id = ?", (_text(after), product_id))
        updated = [(category, label, after) for category, label in _embeddings_of(connection, product_id)[0]]
        return WriteResult(True, IndexChange(updated=updated))

    return op


def _is_within(connection: Any, product_id: str, within: frozenset[str] | None) -> bool:
    """Return whether a product is of one of these categories, if it exists; None is all of them."""
    if within is None:
        return True
    row = connection.execute("SELECT category FROM products WHERE id = ?", (product_id,)).fetchone()
    return row is None or row[0] in within


def product_of(row: Sequence[object]) -> Product:
    """Return the product of a row of `COLUMNS`."""
    product_id, category, title, image_uri, attributes = map(str, row)
    return Product(product_id, category, title, image_uri, json.loads(attributes))


def _embeddings_of(connection: Any, product_id: str) -> tuple[list[tuple[str, int]], set[str]]:
    """Return the category and label of each embedding of a product, and the sha256 of each of its images."""
    rows = connection.execute(
        "SELECT category, label, image FROM embeddings JOIN products ON id = product_id WHERE product_id = ?",
        (product_id,),
    ).fetchall()
    return [(category, label) for category, label, _ in rows], {image for *_, image in rows if image is not None}


def _delete_unused_images(connection: Any, images: set[str]) -> None:
    """Delete those of the images that no embedding refers to any more."""
    for digest in images:
        connection.execute(
            "DELETE FROM images WHERE sha256 = ?1 AND NOT EXISTS (SELECT 1 FROM embeddings WHERE image = ?1)",
            (digest,),
        )


def _image_columns(image: StoredImage | None) -> tuple[str | None, str | None]:
    if image is None:
        return None, None
    region = image.region
    if region is None:
        return image.sha256, None
    return image.sha256, json.dumps([region.left, region.top, region.right, region.bottom])


def _text(attributes: Mapping[str, str]) -> str:
    return json.dumps(dict(attributes), ensure_ascii=False, sort_keys=True)
