"""What each kind of write does, inside the writer's transaction: statements, and what they mean for the index.

A write that carries the name of its request is done once: what became of it is kept beside it, in the same transaction,
and a repeat is told that instead of doing it again.
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
from lookalike_server.domain.errors import invalid
from lookalike_server.store.write_jobs import Act, Written

COLUMNS = "id, category, title, image_uri, attributes"
REMEMBERED = 24 * 3600
"""Seconds after which a request's name may be forgotten; the API promises them."""

NOTHING = IndexChange()


def once(name: IdempotencyKey | None, act: Act, now: float) -> Act:
    """The same act, done at most once under this name; `now` is in seconds since 1970.

    Raises:
        LookalikeError: INVALID_ARGUMENT when another request had the name.
    """
    if name is None:
        return act

    def act_once(connection: Any) -> Written:
        if repeated(connection, name):
            return Written(True, NOTHING)
        written = act(connection)
        if written.result is False:
            return written  # there was nothing to change; a repeat may find something
        connection.execute("DELETE FROM idempotency_keys WHERE done_at < ?", (int(now) - REMEMBERED,))
        connection.execute(
            "INSERT INTO idempotency_keys (key, item, digest, done_at) VALUES (?, ?, ?, ?)",
            (name.key, name.item, name.digest, int(now)),
        )
        return written

    return act_once


def repeated(connection: Any, name: IdempotencyKey) -> bool:
    """Whether this was done already.

    Raises:
        LookalikeError: INVALID_ARGUMENT when another request had the name.
    """
    row = connection.execute(
        "SELECT digest FROM idempotency_keys WHERE key = ? AND item = ?", (name.key, name.item)
    ).fetchone()
    if row is not None and row[0] != name.digest:
        raise invalid("idempotency_key", "was the name of another request; give every request a name of its own")
    return row is not None


def upsert(embedded: EmbeddedProduct) -> Act:
    """Store or replace a product as a whole."""

    def act(connection: Any) -> Written:
        product = embedded.product
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
                (product.id, image_index, np.ascontiguousarray(vector, dtype="<f4"), *_where_from(image)),
            )
            row = IndexRow(cursor.lastrowid, product.id, image_index, vector, product.attributes)
            added.append((product.category, row))
        _forget(connection, replaced)
        size = embedded.vectors.nbytes + sum(len(image.data) for image in images if image is not None)
        return Written(None, IndexChange(removed, added), size)

    return act


def keep_segments(category: str, files: Sequence[SegmentFile]) -> Act:
    """Name these files of the index as the only ones of a category."""

    def act(connection: Any) -> Written:
        connection.execute("DELETE FROM segments WHERE category = ?", (category,))
        connection.executemany(
            "INSERT INTO segments (category, file, size, sha256) VALUES (?, ?, ?, ?)",
            [(category, file.name, file.size, file.sha256) for file in files],
        )
        return Written(None, NOTHING)

    return act


def delete(product_id: str) -> Act:
    """Remove a product; the result tells whether there was one."""

    def act(connection: Any) -> Written:
        removed, images = _embeddings_of(connection, product_id)
        deleted = connection.execute("DELETE FROM products WHERE id = ?", (product_id,)).rowcount
        _forget(connection, images)
        return Written(deleted > 0, IndexChange(removed))

    return act


def update_attributes(product_id: str, values: Mapping[str, str], cleared: Sequence[str]) -> Act:
    """Give attributes these values and clear others; the result tells whether there is such a product.

    Raises:
        LookalikeError: INVALID_ARGUMENT when the product would have too many attributes.
    """

    def act(connection: Any) -> Written:
        row = connection.execute("SELECT attributes FROM products WHERE id = ?", (product_id,)).fetchone()
        if row is None:
            return Written(False, NOTHING)
        before: dict[str, str] = json.loads(row[0])
        attributes = {key: value for key, value in before.items() if key not in cleared} | dict(values)
        if len(attributes) > MAX_ATTRIBUTES:
            raise invalid("attributes", f"would then be {len(attributes)}; a product has at most {MAX_ATTRIBUTES}")
        connection.execute("UPDATE products SET attributes = ? WHERE id = ?", (_text(attributes), product_id))
        described = [(category, label, attributes) for category, label in _embeddings_of(connection, product_id)[0]]
        return Written(True, IndexChange(described=described))

    return act


def product_of(row: Sequence[object]) -> Product:
    """A product from a row of `COLUMNS`."""
    product_id, category, title, image_uri, attributes = map(str, row)
    return Product(product_id, category, title, image_uri, json.loads(attributes))


def _embeddings_of(connection: Any, product_id: str) -> tuple[list[tuple[str, int]], set[str]]:
    """The category and label of each embedding of a product, and the images they were made of."""
    rows = connection.execute(
        "SELECT category, label, image FROM embeddings JOIN products ON id = product_id WHERE product_id = ?",
        (product_id,),
    ).fetchall()
    return [(category, label) for category, label, _ in rows], {image for *_, image in rows if image is not None}


def _forget(connection: Any, images: set[str]) -> None:
    """Remove those of the images that no product has any more."""
    for digest in images:
        connection.execute(
            "DELETE FROM images WHERE sha256 = ?1 AND NOT EXISTS (SELECT 1 FROM embeddings WHERE image = ?1)",
            (digest,),
        )


def _where_from(image: StoredImage | None) -> tuple[str | None, str | None]:
    if image is None:
        return None, None
    region = image.region
    if region is None:
        return image.sha256, None
    return image.sha256, json.dumps([region.left, region.top, region.right, region.bottom])


def _text(attributes: Mapping[str, str]) -> str:
    return json.dumps(dict(attributes), ensure_ascii=False, sort_keys=True)
