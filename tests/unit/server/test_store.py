"""The catalog in a real SQLite file: reads return what was written, and the index receives every change."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from lookalike_server.domain.catalog import AttributeFacet, EmbeddedProduct, IndexChange, IndexRow
from lookalike_server.store.catalog_store import Store
from lookalike_server.store.reads import TOP_VALUES
from support.store_fixtures import DIM, opened, product, put, rows, vectors


@pytest.fixture
def changes() -> list[IndexChange]:
    """Return the list of the changes that the index received."""
    return []


@pytest.fixture
def store(tmp_path: Path, changes: list[IndexChange]) -> Iterator[Store]:
    """Return a new catalog."""
    with opened(tmp_path, on_commit=changes.append) as new:
        yield new


def test_empty(store: Store) -> None:
    """Every read of a new catalog returns nothing."""
    assert store.products(["p1"]) == {}
    assert store.vectors("p1").shape == (0, DIM)
    assert (store.page(None, "", 10).products, store.page(None, "", 10).next_after) == ([], None)
    assert (store.counts(), store.attribute_facets(), rows(store)) == ({}, {}, [])


def test_reading_what_was_written(store: Store) -> None:
    """A product is read as it was written, its embeddings bit for bit and in the order of its images."""
    put(store, "p/1 é", 3.0, 0.1, 2.0, category="Schuhe für Damen", color="rot", größe="38")
    assert store.products(["nothing", "p/1 é"]) == {
        "p/1 é": product("p/1 é", "Schuhe für Damen", color="rot", größe="38")
    }
    read = store.vectors("p/1 é")
    assert read.dtype == np.float32
    np.testing.assert_array_equal(read, vectors(3.0, 0.1, 2.0))


def test_many_products_at_once(store: Store) -> None:
    """More ids than SQLite allows as parameters can be read at once; unknown ones are missing."""
    put(store, "p1")
    put(store, "p2")
    assert set(store.products([f"p{number}" for number in range(40_000)])) == {"p1", "p2"}
    assert store.products([]) == {}


def test_replacing(store: Store, changes: list[IndexChange]) -> None:
    """A replaced product has only the new facts, images and category, and new labels."""
    put(store, "p1", 1.0, 2.0, color="red")
    put(store, "p1", 3.0, category="Bags", size="L")
    assert store.products(["p1"]) == {"p1": product("p1", "Bags", size="L")}
    np.testing.assert_array_equal(store.vectors("p1"), vectors(3.0))
    assert store.counts() == {"Bags": 1}
    first, second = changes
    assert [(at, row.image_index) for at, row in first.added] == [("Shoes", 0), ("Shoes", 1)]
    assert list(second.removed) == [(at, row.label) for at, row in first.added]
    assert [(at, row.product_id) for at, row in second.added] == [("Bags", "p1")]
    assert min(row.label for _, row in second.added) > max(row.label for _, row in first.added)


def test_deleting(store: Store, changes: list[IndexChange]) -> None:
    """A deleted product is gone with its embeddings, the index gets its labels, and a second delete returns False."""
    put(store, "p1", 1.0, 2.0)
    put(store, "p2", 3.0)
    assert store.delete("p1").result(timeout=60) is True
    assert store.delete("p1").result(timeout=60) is False
    assert (store.products(["p1"]), len(store.vectors("p1")), store.counts()) == ({}, 0, {"Shoes": 1})
    assert [row[2] for row in rows(store)] == ["p2"]
    assert list(changes[2].removed) == [(at, row.label) for at, row in changes[0].added]
    assert (list(changes[3].removed), list(changes[3].added)) == ([], [])


def test_rows_equal_the_changes(store: Store, changes: list[IndexChange]) -> None:
    """An index loaded from the store equals one that received every change."""
    put(store, "b", 1.0, 2.0)
    put(store, "a", 3.0, category="Bags")
    put(store, "b", 4.0)
    store.delete("a").result(timeout=60)
    put(store, "a", 5.0, 6.0)
    received: dict[int, tuple[str, IndexRow]] = {}
    for change in changes:
        for _, label in change.removed:
            del received[label]
        received |= {row.label: (at, row) for at, row in change.added}
    assert rows(store) == [
        (at, label, row.product_id, row.image_index, row.vector.tolist())
        for label, (at, row) in sorted(received.items())
    ]


def test_pages(store: Store) -> None:
    """Pages by id contain every product of a category, or of all, once; the last one has no successor."""
    ids = [f"p{number:02}" for number in (7, 3, 0, 5, 1, 6, 2, 4)]
    for number, product_id in enumerate(ids):
        put(store, product_id, category=("Shoes", "Bags")[number % 2])
    for category, expected in ((None, sorted(ids)), ("Shoes", sorted(ids[::2])), ("Bags", sorted(ids[1::2]))):
        for size in (1, 3, 4, 8, 100):
            found: list[str] = []
            after: str | None = ""
            while after is not None:
                page = store.page(category, after, size)
                assert 0 < len(page.products) <= size
                found += [each.id for each in page.products]
                after = page.next_after
            assert found == expected
    assert store.page("Hats", "", 5).products == []


def test_counts(store: Store) -> None:
    """Products are counted, not images, by category in the order of names; empty categories are missing."""
    put(store, "p1", 1.0, 2.0, 3.0)
    put(store, "p2", category="Bags")
    put(store, "p3", category="Hats")
    put(store, "p4")
    store.delete("p3").result(timeout=60)
    assert list(store.counts().items()) == [("Bags", 1), ("Shoes", 2)]


def test_attribute_facets(store: Store) -> None:
    """Each attribute of a category has its number of values and the most frequent ones first, ties by value."""
    for product_id, color in (("p1", "red"), ("p2", "blue"), ("p3", "red"), ("p4", "amber")):
        put(store, product_id, color=color, brand="acme")
    put(store, "p5", category="Bags", color="red")
    put(store, "p6", category="Hats")
    assert store.attribute_facets() == {
        "Bags": [AttributeFacet("color", 1, [("red", 1)])],
        "Shoes": [
            AttributeFacet("brand", 1, [("acme", 4)]),
            AttributeFacet("color", 3, [("red", 2), ("amber", 1), ("blue", 1)]),
        ],
    }


def test_attribute_facets_are_limited(store: Store) -> None:
    """Of an attribute with very many values all are counted and a hundred are listed."""
    waiting = [
        store.upsert(EmbeddedProduct(product(f"p{number}", sku=f"s{number:03}"), vectors(1.0))) for number in range(130)
    ]
    for future in waiting:
        future.result(timeout=60)
    ((facet,),) = store.attribute_facets().values()
    assert (facet.name, facet.distinct_values, len(facet.top_values)) == ("sku", 130, TOP_VALUES)
    assert facet.top_values[0] == ("s000", 1)


def test_reads_in_many_threads(store: Store) -> None:
    """Reads in any thread see only whole products while the writer works."""
    put(store, "p1", 0.0, 0.0)

    def read(_: int) -> bool:
        found = store.vectors("p1")[:, 0].tolist()
        return len(found) == 2 and found[0] == found[1]

    with ThreadPoolExecutor(4) as pool:
        consistent = pool.map(read, range(300))
        for number in range(100):
            put(store, "p1", float(number), float(number))
        assert all(consistent)
