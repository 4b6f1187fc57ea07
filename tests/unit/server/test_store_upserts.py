"""Upserts that wait together: few statements for all, and yet each product is stored, or rejected, by itself."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from lookalike_server.domain.catalog import EmbeddedProduct, IdempotencyKey, IndexChange, StoredImage
from lookalike_server.domain.errors import Code, LookalikeError
from lookalike_server.store.catalog_store import Store
from lookalike_server.store.sqlite import FILE
from lookalike_server.store.upserts import Upsert
from support.store_fixtures import embedded, opened, product, put, vectors


class HeldIndex:
    """Records changes, and holds the first one until it is set free."""

    def __init__(self) -> None:
        self.changes: list[IndexChange] = []
        self.rows: dict[int, float] = {}
        """The first value of each row's vector, by label."""
        self.free = threading.Event()
        self.held = threading.Event()

    def __call__(self, change: IndexChange) -> None:
        """Apply a change as an index does: what is removed must be there, and labels are new."""
        self.held.set()
        assert self.free.wait(timeout=60)
        self.changes.append(change)
        for _, label in change.removed:
            del self.rows[label]
        for _, row in change.added:
            assert row.label > max(self.rows, default=0)
            self.rows[row.label] = float(row.vector[0])


@contextmanager
def held_store(folder: Path) -> Iterator[tuple[Store, HeldIndex]]:
    """Open a store whose writer is held after it has stored p0, so that all that is queued then waits together."""
    index = HeldIndex()
    with opened(folder, on_commit=index) as store:
        first = store.upsert(embedded("p0", 0.5))
        assert index.held.wait(timeout=60)
        try:
            yield store, index
        finally:
            index.free.set()
        first.result(timeout=60)


def test_a_product_that_waits_twice_is_replaced(tmp_path: Path) -> None:
    """Of several upserts and deletes of a product that wait together, the last one counts, for the index too."""
    with held_store(tmp_path) as (store, index):
        together = [store.upsert(embedded("p1", value)) for value in (1.0, 2.0)]
        together += [store.upsert(embedded("p2", 3.0)), store.upsert(embedded("p1", 4.0))]
        deleted = [store.delete("p2"), store.delete("p0")]
        index.free.set()
        assert [each.result(timeout=60) for each in together] == [None] * 4
        assert [each.result(timeout=60) for each in deleted] == [True] * 2
        assert store.vectors("p1")[:, 0].tolist() == [4.0]
        assert store.counts() == {"Shoes": 1}
    assert list(index.rows.values()) == [4.0]


def test_a_rejected_product_fails_alone(tmp_path: Path) -> None:
    """One that would replace a product of a category out of bounds is rejected; those beside it are stored."""
    with opened(tmp_path) as store:
        put(store, "p1", 1.0)
        outcomes = store.upsert_all(
            [(embedded(f"p{number}", 2.0), None) for number in range(3)], frozenset({"Hats"})
        ).result(timeout=60)
        assert [type(outcome) for outcome in outcomes] == [type(None), LookalikeError, type(None)]
        error = outcomes[1]
        assert isinstance(error, LookalikeError)
        assert error.code is Code.PERMISSION_DENIED
        assert [store.vectors(f"p{number}")[:, 0].tolist() for number in range(3)] == [[2.0], [1.0], [2.0]]


def test_repeats_among_others_do_nothing(tmp_path: Path) -> None:
    """Of products stored together, those whose key was used are left as they are; another request's key is an error."""
    keys = [IdempotencyKey("k", f"p{number}", "digest") for number in range(3)]
    with opened(tmp_path) as store:
        store.upsert_all([(embedded("p0", 1.0), keys[0]), (embedded("p1", 1.0), keys[1])]).result(timeout=60)
        again = [(embedded(f"p{number}", 2.0), key) for number, key in enumerate(keys)]
        assert not any(isinstance(each, Exception) for each in store.upsert_all(again).result(timeout=60))
        assert [store.vectors(f"p{number}")[:, 0].tolist() for number in range(3)] == [[1.0], [1.0], [2.0]]
        other = IdempotencyKey("k", "p0", "another")
        outcomes = store.upsert_all([(embedded("p0", 3.0), other), (embedded("p3", 3.0), None)]).result(timeout=60)
        assert isinstance(outcomes[0], LookalikeError)
        assert outcomes[1] is None
        assert [store.vectors(name)[:, 0].tolist() for name in ("p0", "p3")] == [[1.0], [3.0]]


@pytest.mark.parametrize("count", [1, 2, 63, 64, 65, 200])
def test_any_number_is_stored(tmp_path: Path, count: int) -> None:
    """However many products with however many images wait together, each has its own rows, with labels in order."""
    changes: list[IndexChange] = []
    values = {f"p{number:03d}": [number + image / 8 for image in range(1 + number % 3)] for number in range(count)}
    with opened(tmp_path, on_commit=changes.append) as store:
        for _ in range(2):  # and is replaced
            products = [(embedded(name, *own), None) for name, own in values.items()]
            assert store.upsert_all(products).result(timeout=60) == [None] * count
        assert {name: store.vectors(name)[:, 0].tolist() for name in values} == values
        rows = {
            row.label: (row.product_id, row.image_index, float(row.vector[0])) for _, row in store.rows_of(["Shoes"])
        }
    added = [row for change in changes for _, row in change.added]
    assert [row.label for row in added] == list(range(1, len(added) + 1))
    assert rows == {
        row.label: (row.product_id, row.image_index, float(row.vector[0])) for row in added[len(added) // 2 :]
    }
    assert sorted(label for change in changes for _, label in change.removed) == [
        row.label for row in added[: len(added) // 2]
    ]


def test_images_of_products_stored_together(tmp_path: Path) -> None:
    """An image that one product gives up and another one takes in the same transaction stays; one nobody has goes."""
    shared, own = StoredImage("1" * 64, "image/png", b"shared"), StoredImage("2" * 64, "image/png", b"own")

    def with_image(name: str, image: StoredImage | None) -> tuple[EmbeddedProduct, None]:
        return EmbeddedProduct(product(name), vectors(1.0), (image,)), None

    with opened(tmp_path) as store:
        store.upsert_all([with_image("p1", shared), with_image("p2", own)]).result(timeout=60)
        store.upsert_all([with_image("p1", None), with_image("p2", shared)]).result(timeout=60)
        assert (store.image("p1", 0), store.image("p2", 0)) == (None, shared)
    with closing(sqlite3.connect(tmp_path / FILE)) as file:
        assert file.execute("SELECT data FROM images").fetchall() == [(b"shared",)]


def test_a_label_is_never_used_again(tmp_path: Path) -> None:
    """The label of the newest row is not given to another one after that row was deleted and the store reopened."""
    changes: list[IndexChange] = []
    for _ in range(3):
        with opened(tmp_path, on_commit=changes.append) as store:
            put(store, "p1", 1.0)
            store.delete("p1").result(timeout=60)
    assert [row.label for change in changes for _, row in change.added] == [1, 2, 3]


def test_statements_do_not_grow_with_products(tmp_path: Path) -> None:
    """64 products, new or replaced, take as many statements as one: each is a turn of the GIL."""
    with opened(tmp_path):
        pass
    with closing(sqlite3.connect(tmp_path / FILE, isolation_level=None)) as connection:
        statements: list[str] = []
        connection.set_trace_callback(statements.append)
        counts = []
        for count in (1, 1, 64, 64):
            statements.clear()
            Upsert.run(connection, [Upsert(embedded(f"p{n}", 1.0), None, None, 0.0) for n in range(count)])
            counts.append(len([each for each in statements if not each.startswith("--")]))  # but for what cascades
    assert counts == [3, 4, 4, 4]
