"""Attributes, images and idempotency keys in a real SQLite file."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from lookalike_server.domain.catalog import EmbeddedProduct, IdempotencyKey, IndexChange, StoredImage
from lookalike_server.domain.errors import LookalikeError
from lookalike_server.domain.inference import Region
from lookalike_server.store.catalog_store import Store
from lookalike_server.store.sqlite import FILE
from lookalike_server.store.statements import KEY_LIFETIME
from support.store_fixtures import MODEL, ignore, opened, product, put, vectors

SHARED = StoredImage("1" * 64, "image/jpeg", b"shared", Region(0.0, 0.0, 0.5, 0.5))
OWN = StoredImage("2" * 64, "image/png", b"own")


def put_images(store: Store, product_id: str, *images: StoredImage | None) -> None:
    """Store a product with an embedding for each image."""
    embedded = EmbeddedProduct(product(product_id), vectors(*range(1, len(images) + 1)), images)
    store.upsert(embedded).result(timeout=60)


def column(folder: Path, sql: str) -> set[Any]:
    """Return the values of a query with one column."""
    with closing(sqlite3.connect(folder / FILE)) as file:
        return {value for (value,) in file.execute(sql)}


def stored_images(folder: Path) -> set[bytes]:
    """Return the data of every image in the file."""
    return column(folder, "SELECT data FROM images")


def test_the_index_receives_attributes(tmp_path: Path) -> None:
    """Updated attributes reach the index with every label of the product, and reads return them."""
    changes: list[IndexChange] = []
    with opened(tmp_path, on_commit=changes.append) as store:
        put(store, "p1", 1.0, 2.0, color="red", price="9")
        assert store.update_attributes("p1", {"price": "8"}, ["color"]).result(timeout=60) is True
        assert store.update_attributes("nobody", {"price": "8"}, []).result(timeout=60) is False
        labels = [(at, row.label, {"price": "8"}) for at, row in changes[0].added]
        assert (list(changes[1].updated), list(changes[1].added), list(changes[1].removed)) == (labels, [], [])
        assert (list(changes[2].updated), store.products(["p1"])["p1"].attributes) == ([], {"price": "8"})
        assert [dict(row.attributes) for _, row in store.rows_of(["Shoes"])] == [{"price": "8"}] * 2


def test_images_are_stored_once_and_as_long_as_needed(tmp_path: Path) -> None:
    """Two products share an image until the last of them is deleted; a replaced image is deleted at once."""
    with opened(tmp_path) as store:
        put_images(store, "p1", SHARED, OWN, None)
        put_images(store, "p2", SHARED)
        assert stored_images(tmp_path) == {b"shared", b"own"}
        assert store.image("p1", 1) == OWN
        assert store.image("p1", 2) is None
        assert store.image("p1", 3) is None
        put_images(store, "p1", SHARED)
        assert stored_images(tmp_path) == {b"shared"}
        store.delete("p1").result(timeout=60)
        assert stored_images(tmp_path) == {b"shared"}
        put_images(store, "p2", OWN)
        assert stored_images(tmp_path) == {b"own"}
        store.delete("p2").result(timeout=60)
        assert stored_images(tmp_path) == set()


def test_a_change_of_an_unknown_product_stores_no_key(tmp_path: Path) -> None:
    """A repeat of such a change runs again, and is applied once the product exists."""
    with opened(tmp_path) as store:
        for _ in range(2):
            assert (
                store.update_attributes("p1", {"x": "y"}, [], IdempotencyKey("u", "p1", "digest")).result(timeout=60)
                is False
            )
            assert store.delete("p1", IdempotencyKey("d", "p1", "digest")).result(timeout=60) is False
        put(store, "p1")
        assert (
            store.update_attributes("p1", {"x": "y"}, [], IdempotencyKey("u", "p1", "digest")).result(timeout=60)
            is True
        )
        assert store.products(["p1"])["p1"].attributes == {"x": "y"}
        assert store.delete("p1", IdempotencyKey("d", "p1", "digest")).result(timeout=60) is True
        assert store.products(["p1"]) == {}


def test_a_failed_write_stores_no_key(tmp_path: Path) -> None:
    """A repeat of a failed write is applied."""
    key = IdempotencyKey("r", "p1", "digest")
    with opened(tmp_path) as store:
        put(store, "p1")
        many = {f"key {number}": "" for number in range(65)}
        with pytest.raises(LookalikeError, match="at most 64"):
            store.update_attributes("p1", many, [], key).result(timeout=60)
        assert store.done(key) is False
        assert store.update_attributes("p1", {"x": "y"}, [], key).result(timeout=60) is True
        assert store.done(key) is True
        with pytest.raises(LookalikeError, match="was used for another request"):
            store.done(IdempotencyKey("r", "p1", "another digest"))


def test_keys_expire_after_a_day(tmp_path: Path) -> None:
    """Keys are stored for a day, and deleted by a later write."""
    for moment, keys in ((1e6, {"a"}), (1e6 + KEY_LIFETIME, {"a", "b"}), (1e6 + KEY_LIFETIME + 1, {"b", "c"})):
        store = Store(tmp_path, MODEL, ignore, wall_clock=partial(float, moment))
        key = IdempotencyKey(max(keys), "p1", "digest")
        store.upsert(EmbeddedProduct(product("p1"), vectors(1.0)), key).result(timeout=60)
        assert column(tmp_path, "SELECT key FROM idempotency_keys") == keys
        store.close()
