"""Products in memory: they save reads, stay within their bytes, and are never older than an acknowledged write."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from lookalike_server.domain.catalog import IndexChange, Product
from lookalike_server.store.catalog_store import Store
from lookalike_server.store.product_cache import ProductCache
from support.store_fixtures import MODEL, ignore, opened, product, put

CAPACITY = 1 << 20


@pytest.fixture
def cached(tmp_path: Path) -> Iterator[Store]:
    """Return a new catalog with a cache."""
    store = Store(tmp_path, MODEL, ignore, product_cache_bytes=CAPACITY)
    yield store
    store.close()


class Counting:
    """Reads products that do not exist anywhere, and records which were read."""

    def __init__(self) -> None:
        self.ids: list[str] = []

    def __call__(self, ids: Sequence[str]) -> dict[str, Product]:
        """Read products by id; those that begin with "no" are unknown."""
        self.ids += ids
        return {each: product(each) for each in ids if not each.startswith("no")}


def test_products_are_read_once() -> None:
    """Only what is not in memory is read; unknown products are looked for each time."""
    cache, read = ProductCache(CAPACITY), Counting()
    assert cache.get(["p1", "none", "p2"], read) == {"p1": product("p1"), "p2": product("p2")}
    assert cache.get(["p2", "none", "p3", "p1"], read) == {each: product(each) for each in ("p1", "p2", "p3")}
    assert read.ids == ["p1", "none", "p2", "none", "p3"]


def test_without_a_capacity_every_product_is_read() -> None:
    """With 0 bytes nothing is kept."""
    cache, read = ProductCache(0), Counting()
    for _ in range(2):
        assert cache.get(["p1"], read) == {"p1": product("p1")}
    assert read.ids == ["p1", "p1"]


def test_the_least_recently_used_are_dropped() -> None:
    """However many products are read, what is kept is bounded, and is what was used last."""
    cache, read = ProductCache(50_000), Counting()
    for number in range(1000):
        cache.get(["p0", f"p{number}"], read)
    assert 20 < len(cache) < 100  # a product takes more than 500 bytes
    read.ids.clear()
    cache.get(["p0", "p999", "p500"], read)
    assert read.ids == ["p500"]


def test_forgotten_products_leave_room() -> None:
    """What a commit drops takes none of the bytes any more."""
    cache, read = ProductCache(50_000), Counting()
    cache.get([f"p{number}" for number in range(1000)], read)
    kept = len(cache)
    cache.forget(f"p{number}" for number in range(1000))
    assert len(cache) == 0
    cache.get([f"p{number}" for number in range(1000)], read)
    assert len(cache) == kept


@pytest.mark.parametrize("informed", [True, False], ids=["a commit", "control: one that the cache does not learn of"])
def test_a_commit_between_a_read_and_its_end(tmp_path: Path, informed: bool) -> None:
    """A product that was read before a commit changed it is not kept after the commit."""
    cache = ProductCache(CAPACITY)

    def on_commit(change: IndexChange) -> None:
        if informed:
            cache.forget(change.products)

    with opened(tmp_path, on_commit=on_commit) as store:
        put(store, "p1", color="red")

        def interrupted(ids: Sequence[str]) -> dict[str, Product]:
            products = store.products(ids)
            put(store, "p1", color="blue")
            return products

        assert cache.get(["p1"], interrupted) == {"p1": product("p1", color="red")}
        after = cache.get(["p1"], store.products)
        assert after == {"p1": product("p1", color="blue" if informed else "red")}


def test_every_kind_of_write_is_seen(cached: Store) -> None:
    """Once a write is acknowledged, the product is read as it is: replaced, moved, with other attributes, deleted."""
    put(cached, "p1", color="red")
    assert cached.products(["p1"]) == {"p1": product("p1", color="red")}
    put(cached, "p1", 2.0, 3.0, color="blue")
    assert cached.products(["p1"]) == {"p1": product("p1", color="blue")}
    put(cached, "p1", category="Hats", color="blue")
    assert cached.products(["p1"]) == {"p1": product("p1", "Hats", color="blue")}
    cached.update_attributes("p1", {"size": "38"}, ["color"]).result(60)
    assert cached.products(["p1"]) == {"p1": product("p1", "Hats", size="38")}
    cached.delete("p1").result(60)
    assert cached.products(["p1"]) == {}
    put(cached, "p1", color="green")
    assert cached.products(["p1"]) == {"p1": product("p1", color="green")}


def test_the_index_never_finds_an_old_product(tmp_path: Path) -> None:
    """By the time the index learns of a commit, the product is no longer in memory as it was before."""
    seen: list[dict[str, Product]] = []
    store = Store(tmp_path, MODEL, lambda _: seen.append(store.products(["p1"])), product_cache_bytes=CAPACITY)
    try:
        put(store, "p1", color="red")
        store.products(["p1"])  # into memory
        put(store, "p1", color="blue")
        store.products(["p1"])
        store.delete("p1").result(60)
    finally:
        store.close()
    assert seen == [{"p1": product("p1", color="red")}, {"p1": product("p1", color="blue")}, {}]


def test_readers_beside_a_writer(cached: Store) -> None:
    """Whatever readers do meanwhile, they see no version older than the one acknowledged before they asked."""
    acknowledged = 0
    writing = True

    def stale_reads() -> list[str]:
        stale = []
        while writing:
            newest = acknowledged
            seen = cached.products(["p1"])["p1"].attributes["version"]
            if int(seen) < newest:
                stale.append(f"{seen} after {newest}")
        return stale

    put(cached, "p1", version="0")
    with ThreadPoolExecutor(3) as readers:
        reading = [readers.submit(stale_reads) for _ in range(3)]
        for version in range(1, 300):
            cached.update_attributes("p1", {"version": str(version)}, ()).result(60)
            acknowledged = version
        writing = False
        assert [each.result() for each in reading] == [[], [], []]
