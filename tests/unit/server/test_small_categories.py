"""Small categories share matrices: moves across the limit and between matrices, deletes, filters, and ties."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from lookalike_server.domain.filters import Condition, NoneOf, OneOf
from lookalike_server.domain.inference import Metric
from lookalike_server.domain.search import IndexQuery
from support.index_model import DIM, MakeIndex, Shop, one_image_each, vectors

ROWS = vectors(1200, DIM, Metric.COSINE, seed=1)
RED = OneOf("color", frozenset({"red"}))


def fill(shop: Shop, count: int, first: int = 0) -> None:
    """Store products pN with the vector ROWS[N], each in a category of its own, every third of them red."""
    for number in range(first, first + count):
        color = "red" if number % 3 == 0 else "blue"
        shop.put_all({f"p{number:04}": ROWS[number : number + 1]}, f"category {number}", {"color": color})


def test_categories_share_a_matrix(make_index: MakeIndex) -> None:
    """Hundreds of categories are one matrix, in which each is searched by itself and all are searched together."""
    index = make_index(full_scan_threshold=1000)
    shop = Shop(index, Metric.COSINE)
    fill(shop, 300)
    assert [(len(shard), shard.row_count) for shard in index.small_categories.shards] == [(300, 300)]
    assert dict(index.partitions) == {}
    for number in range(0, 300, 17):
        query = ROWS[number : number + 1]
        assert shop.check(query, 5, category=f"category {number}") == [f"p{number:04}"]
        for exact in (False, True):
            assert shop.check(query, 20, category=None, exact=exact)[0] == f"p{number:04}"
            shop.check(query, 20, category=None, exact=exact, exclude=f"p{number:04}")


def test_filters(make_index: MakeIndex) -> None:
    """Conditions choose among the rows of one category, and of all, in every matrix."""
    index = make_index(full_scan_threshold=1000, max_shard_rows=64)
    shop = Shop(index, Metric.COSINE)
    fill(shop, 200)
    shop.put_all(one_image_each(ROWS[300:310], "red"), "mixed", {"color": "red"})
    shop.put_all(one_image_each(ROWS[310:315], "bare"), "mixed")
    shop.update_attributes("p0004", {"color": "red"})
    assert len(index.small_categories.shards) > 3
    not_red, not_blue = (NoneOf("color", frozenset({color})) for color in ("red", "blue"))
    filters: list[list[Condition]] = [[RED], [not_red], [RED, not_blue]]
    for conditions in filters:
        for category in (None, "mixed", "category 3", "category 4"):
            shop.check(ROWS[4:5], 30, category=category, conditions=conditions)
    assert shop.check(ROWS[4:5], 1, category=None, conditions=[RED]) == ["p0004"]


def test_ties_across_matrices(make_index: MakeIndex) -> None:
    """Equal products come in the order of their ids, in whatever matrix or partition they are."""
    index = make_index(full_scan_threshold=1000, max_shard_rows=40)
    shop = Shop(index, Metric.COSINE)
    order = np.random.default_rng(3).permutation(120)
    for number in order.tolist():
        shop.put(f"same{number:03}", ROWS[:1], f"category {number}")
    shop.put_all({f"same{number:03}": ROWS[:1] for number in range(120, 150)}, "large")
    assert len(index.small_categories.shards) > 2
    assert list(index.partitions) == ["large"]
    for k in (1, 7, 119, 140):
        assert shop.check(ROWS[:1], k, category=None) == [f"same{number:03}" for number in range(k)]


def test_a_category_that_outgrows_its_matrix(make_index: MakeIndex) -> None:
    """It becomes a partition with its first row above the limit, with all its rows and attributes."""
    index = make_index(full_scan_threshold=10)
    shop = Shop(index, Metric.COSINE)
    fill(shop, 20, first=100)
    for number in range(11):
        assert ("c" in index.partitions, "c" in index.small_categories) == (False, number > 0)
        shop.put_all({f"p{number:04}": ROWS[number : number + 1]}, "c", {"color": "red" if number < 9 else "blue"})
        shop.check(ROWS[:1], 30)
    assert ("c" in index.partitions, "c" in index.small_categories) == (True, False)
    index.wait_until_idle()
    for category in ("c", None):
        shop.check(ROWS[5:6], 40, category=category)
        shop.check(ROWS[5:6], 40, category=category, conditions=[RED])
    shop.remove(*[f"p{number:04}" for number in range(8)])
    assert "c" in index.partitions  # it stays one, so that nothing moves back and forth
    shop.check(ROWS[5:6], 40, category=None)
    shop.remove(*[f"p{number:04}" for number in range(8, 11)])
    shop.put("p0000", ROWS[:1])
    assert "c" in index.small_categories
    assert shop.check(ROWS[:1], 2) == ["p0000"]


def test_a_large_category_at_once(make_index: MakeIndex) -> None:
    """A change that brings more rows than a small category may have makes a partition."""
    index = make_index(full_scan_threshold=10)
    shop = Shop(index, Metric.COSINE)
    shop.put_all(one_image_each(ROWS[:11]))
    assert list(index.partitions) == ["c"]
    assert len(shop.check(ROWS[:1], 20)) == 11


def test_a_full_matrix(make_index: MakeIndex) -> None:
    """A category that grows in a full matrix moves to another one; no matrix has more rows than it may."""
    index = make_index(full_scan_threshold=1000, max_shard_rows=64)
    shop = Shop(index, Metric.COSINE)
    fill(shop, 150)
    for number in range(150):
        # Eight images each, so that every category grows to sixteen rows, the most that a small one may have here.
        shop.put(f"more{number}", ROWS[number : number + 8], f"category {number}")
        if number % 10 == 0:
            shop.check(ROWS[number : number + 1], 9, category=f"category {number}")
            shop.check(ROWS[number : number + 1], 9, category=None)
    index.wait_until_idle()
    assert dict(index.partitions) == {}
    assert all(shard.row_count <= 64 for shard in index.small_categories.shards)
    assert len(shop.check(ROWS[:1], 1000, category=None)) == 300


def test_deleted_rows_are_freed(make_index: MakeIndex) -> None:
    """However often products are replaced, few deleted rows stay, and matrices without rows are dropped."""
    index = make_index(full_scan_threshold=8, max_shard_rows=100)
    shop = Shop(index, Metric.COSINE)
    for turn in range(5):
        for number in range(100):
            shop.put(f"p{number:04}", ROWS[turn * 100 + number][np.newaxis], f"category {number}")
    index.wait_until_idle()
    shards = index.small_categories.shards
    assert sum(shard.row_count - shard.deleted_count for shard in shards) == 100
    assert all(shard.deleted_count <= 20 for shard in shards)
    assert len(shop.check(ROWS[:1], 1000, category=None)) == 100
    shop.remove(*list(shop.rows))
    assert index.small_categories.shards == ()


def test_a_search_keeps_what_it_began_with(make_index: MakeIndex) -> None:
    """A snapshot does not change when its rows are deleted, moved to another matrix, or outgrow it."""
    index = make_index(full_scan_threshold=8, max_shard_rows=64)
    shop = Shop(index, Metric.COSINE)
    fill(shop, 50)
    small = index.small_categories
    query = IndexQuery(ROWS[:1], 50)
    one = small.snapshot("category 7", [RED, NoneOf("color", frozenset({"green"}))])
    another = small.snapshot("category 9", [RED])
    everything = small.snapshots(())
    assert one is not None
    assert another is not None
    before = [snapshot.search([query], exact=False) for snapshot in (one, another, *everything)]
    fill(shop, 50)
    shop.put_all(one_image_each(ROWS[600:620], "new"), "category 9")
    shop.remove("p0007", "p0009", *[f"p{number:04}" for number in range(20, 40)])
    index.wait_until_idle()
    assert [snapshot.search([query], exact=False) for snapshot in (one, another, *everything)] == before
    assert small.snapshot("category 7", ()) is None


def test_very_long_vectors_share_no_matrix(make_index: MakeIndex) -> None:
    """Where copying a row takes milliseconds, every category is a partition."""
    index = make_index(full_scan_threshold=1000, dim=1 << 20)
    shop = Shop(index, Metric.COSINE)
    for number, row in enumerate(vectors(2, 1 << 20, Metric.COSINE, seed=1)):
        shop.put(f"p{number}", row[np.newaxis], f"category {number}")
    assert sorted(index.partitions) == ["category 0", "category 1"]


@pytest.mark.slow
def test_searches_of_everything_beside_moves(make_index: MakeIndex) -> None:
    """While products and categories move between matrices and partitions, a search of all finds each product once."""
    index = make_index(full_scan_threshold=6, max_shard_rows=48)
    shop = Shop(index, Metric.COSINE)
    for number in range(60):
        shop.put(f"p{number:04}", ROWS[number : number + 1], f"category {number // 3}")
    everything = sorted(shop.rows)
    ended = threading.Event()

    def search(seed: int) -> int:
        """Search again and again until all changes are made."""
        done = 0
        while not ended.is_set():
            query = IndexQuery(ROWS[seed + done % 50][np.newaxis], 100)
            (result,) = index.search([query], category=None, exact=done % 2 == 0)
            assert sorted(hit.product_id for hit in result.hits) == everything
            done += 1
        return done

    with ThreadPoolExecutor(2) as pool:
        searches = [pool.submit(search, seed) for seed in (100, 200)]
        try:
            # Products gather in few categories, which outgrow the limit, and part again.
            for turn in range(1, 9):
                for number in range(60):
                    shop.put(
                        f"p{number:04}", ROWS[turn * 60 + number][np.newaxis], f"category {number * turn // 7 % 20}"
                    )
        finally:
            ended.set()
        assert all(search.result(60) > 0 for search in searches)
    index.wait_until_idle()
    assert shop.check(ROWS[:1], 100, category=None)
