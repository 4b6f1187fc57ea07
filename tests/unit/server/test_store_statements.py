"""Attributes, images and named writes in a real SQLite file."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import pytest

from lookalike_server.domain.catalog import EmbeddedProduct, IdempotencyKey, IndexChange, StoredImage
from lookalike_server.domain.errors import LookalikeError
from lookalike_server.domain.inference import Region
from lookalike_server.store.sqlite import Store
from lookalike_server.store.statements import REMEMBERED
from support.store_fixtures import MODEL, ignore, opened, product, put, vectors

SHARED = StoredImage("1" * 64, "image/jpeg", b"shared", Region(0.0, 0.0, 0.5, 0.5))
OWN = StoredImage("2" * 64, "image/png", b"own")


def put_images(store: Store, product_id: str, *images: StoredImage | None) -> None:
    """Store a product with an embedding for each image."""
    embedded = EmbeddedProduct(product(product_id), vectors(*range(1, len(images) + 1)), images)
    store.upsert(embedded).result(timeout=60)


def kept(store: Store) -> set[bytes]:
    """The data of every image in the file."""
    return {data for (data,) in store._read("SELECT data FROM images")}


def test_index_is_told_of_attributes(tmp_path: Path) -> None:
    """A description reaches the index with every label of the product, and a new start reads the same."""
    told: list[IndexChange] = []
    with opened(tmp_path, on_commit=told.append) as store:
        put(store, "p1", 1.0, 2.0, color="red", price="9")
        assert store.update_attributes("p1", {"price": "8"}, ["color"]).result(timeout=60) is True
        assert store.update_attributes("nobody", {"price": "8"}, []).result(timeout=60) is False
        labels = [(at, row.label, {"price": "8"}) for at, row in told[0].added]
        assert (list(told[1].described), list(told[1].added), list(told[1].removed)) == (labels, [], [])
        assert (list(told[2].described), store.products(["p1"])["p1"].attributes) == ([], {"price": "8"})
        assert [dict(row.attributes) for row in store.rows("Shoes")] == [{"price": "8"}] * 2


def test_images_are_kept_once_and_as_long_as_needed(tmp_path: Path) -> None:
    """Two products share an image's bytes; they go with the last of them, and a replaced image goes at once."""
    with opened(tmp_path) as store:
        put_images(store, "p1", SHARED, OWN, None)
        put_images(store, "p2", SHARED)
        assert kept(store) == {b"shared", b"own"}
        assert store.image("p1", 1) == OWN
        assert store.image("p1", 2) is None
        assert store.image("p1", 3) is None
        put_images(store, "p1", SHARED)
        assert kept(store) == {b"shared"}
        store.delete("p1").result(timeout=60)
        assert kept(store) == {b"shared"}
        put_images(store, "p2", OWN)
        assert kept(store) == {b"own"}
        store.delete("p2").result(timeout=60)
        assert kept(store) == set()


def test_what_was_not_there_leaves_no_name(tmp_path: Path) -> None:
    """A change of an unknown product is tried again when it is repeated, and done once the product is there."""
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


def test_a_failing_write_leaves_no_name(tmp_path: Path) -> None:
    """What was not done under a name is done when it comes again."""
    name = IdempotencyKey("r", "p1", "digest")
    with opened(tmp_path) as store:
        put(store, "p1")
        many = {f"key {number}": "" for number in range(65)}
        with pytest.raises(LookalikeError, match="at most 64"):
            store.update_attributes("p1", many, [], name).result(timeout=60)
        assert store.done(name) is False
        assert store.update_attributes("p1", {"x": "y"}, [], name).result(timeout=60) is True
        assert store.done(name) is True
        with pytest.raises(LookalikeError, match="name of another request"):
            store.done(IdempotencyKey("r", "p1", "another digest"))


def test_names_are_forgotten_after_a_day(tmp_path: Path) -> None:
    """Names are kept for a day from their write, and leave the file with a later one."""
    for moment, names in ((1e6, {"a"}), (1e6 + REMEMBERED, {"a", "b"}), (1e6 + REMEMBERED + 1, {"b", "c"})):
        store = Store(tmp_path, MODEL, ignore, wall_clock=partial(float, moment))
        named = IdempotencyKey(max(names), "p1", "digest")
        store.upsert(EmbeddedProduct(product("p1"), vectors(1.0)), named).result(timeout=60)
        assert {name for (name,) in store._read("SELECT request_id FROM idempotency_keys")} == names
        store.close()
