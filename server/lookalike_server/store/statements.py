"""The write operations but upserts, which run inside the writer's transaction: SQL, and changes for the index.

A write with an idempotency key is applied once: the key is stored in the same transaction, and a repeat does nothing
and returns the same result.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from lookalike_server.domain.catalog import (
    MAX_ATTRIBUTES,
    IdempotencyKey,
    IndexChange,
    Product,
    SegmentFile,
)
from lookalike_server.domain.errors import invalid
from lookalike_server.store.damage import DamagedFileError
from lookalike_server.store.write_jobs import WriteOp, WriteResult

COLUMNS = "id, category, title, image_uri, attributes"
KEY_LIFETIME = 24 * 3600
"""Seconds after which an idempotency key may be forgotten; the API promises this number."""

NO_CHANGE = IndexChange()

_ENCODER = json.JSONEncoder(ensure_ascii=False, sort_keys=True)


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
        delete_expired_keys(connection, now)
        connection.execute(
            "INSERT INTO idempotency_keys (key, item, digest, done_at) VALUES (?, ?, ?, ?)",
            (key.key, key.item, key.digest, int(now)),
        )
        return result

    return run_once


def delete_expired_keys(connection: Any, now: float) -> None:
    """Forget the keys that may be forgotten; `now` is in seconds since 1970."""
    connection.execute("DELETE FROM idempotency_keys WHERE done_at < ?", (int(now) - KEY_LIFETIME,))


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


def add_checksums(checksums: Sequence[tuple[int, int]]) -> WriteOp:
    """Store checksums, each with the label of an embedding, where there is none yet and the embedding still is."""

    def op(connection: Any) -> WriteResult:
        # What a label identifies never changes, so the vector is the one that was read.
        connection.executemany("UPDATE embeddings SET crc32 = ? WHERE label = ? AND crc32 IS NULL", checksums)
        return WriteResult(None, NO_CHANGE)

    return op


def delete(product_id: str, within: frozenset[str] | None = None) -> WriteOp:
    """Delete a product; the value says whether it existed, `within` those categories."""

    def op(connection: Any) -> WriteResult:
        if not _is_within(connection, product_id, within):
            return WriteResult(False, NO_CHANGE)
        removed, images = _embeddings_of(connection, product_id)
        deleted = connection.execute("DELETE FROM products WHERE id = ?", (product_id,)).rowcount
        delete_unused_images(connection, images)
        return WriteResult(deleted > 0, IndexChange(removed, products=[product_id]))

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
        connection.execute("UPDATE products SET attributes = ? WHERE id = ?", (_ENCODER.encode(after), product_id))
        updated = [(category, label, after) for category, label in _embeddings_of(connection, product_id)[0]]
        return WriteResult(True, IndexChange(updated=updated, products=[product_id]))

    return op


def _is_within(connection: Any, product_id: str, within: frozenset[str] | None) -> bool:
    """Return whether a product is of one of these categories, if it exists; None is all of them."""
    if within is None:
        return True
    row = connection.execute("SELECT category FROM products WHERE id = ?", (product_id,)).fetchone()
    return row is None or row[0] in within


def attributes_text(product: Product) -> str:
    """Return a product's attributes as they are stored: JSON, sorted by name."""
    return _ENCODER.encode(dict(product.attributes))


def product_of(row: Sequence[object]) -> Product:
    """Return the product of a row of `COLUMNS`; raises DamagedFileError."""
    product_id, category, title, image_uri, attributes = map(str, row)
    try:
        return Product(product_id, category, title, image_uri, json.loads(attributes))
    except ValueError as error:
        raise DamagedFileError(f"the attributes of {product_id!r} are not JSON") from error


def _embeddings_of(connection: Any, product_id: str) -> tuple[list[tuple[str, int]], set[str]]:
    """Return the category and label of each embedding of a product, and the sha256 of each of its images."""
    rows = connection.execute(
        "SELECT category, label, image FROM embeddings JOIN products ON id = product_id WHERE product_id = ?",
        (product_id,),
    ).fetchall()
    return [(category, label) for category, label, _ in rows], {image for *_, image in rows if image is not None}


def delete_unused_images(connection: Any, images: set[str]) -> None:
    """Delete those of the images that no embedding refers to any more."""
    for digest in images:
        connection.execute(
            "DELETE FROM images WHERE sha256 = ?1 AND NOT EXISTS (SELECT 1 FROM embeddings WHERE image = ?1)",
            (digest,),
        )
