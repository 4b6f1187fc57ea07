"""Particulars of the `CategoryIndex`: rows outside a graph, the fallback, recall, and concurrent changes."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Iterator

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lookalike_server.domain.catalog import IndexChange, IndexKind, IndexRow
from lookalike_server.domain.inference import Metric
from lookalike_server.domain.search import IndexQuery
from lookalike_server.index.brute_force import measure
from lookalike_server.index.graph import HnswSettings
from support.fakes import RecordingObserver
from support.index_model import DIM, MakeIndex, Shop, one_image_each, prepared, vectors


def test_graph_above_the_full_scan_threshold(make_index: MakeIndex) -> None:
    """A category is flat up to the threshold and has a graph from the next row on, independent of other categories."""
    index = make_index(full_scan_threshold=50)
    shop = Shop(index, Metric.COSINE)
    shop.put_all(one_image_each(vectors(50, DIM, Metric.COSINE, seed=1)), "c")
    shop.put_all(one_image_each(vectors(51, DIM, Metric.COSINE, seed=2), "q"), "d")
    index.wait_until_idle()
    assert (index.kind("c"), index.kind("d")) == (IndexKind.FLAT, IndexKind.HNSW)
    shop.put("one more", vectors(1, DIM, Metric.COSINE, seed=3), "c")
    index.wait_until_idle()
    assert index.kind("c") is IndexKind.HNSW


def test_rows_outside_the_graph(make_index: MakeIndex, observer: RecordingObserver) -> None:
    """Rows that were added after the graph was built are found, and rows in it that were deleted are not."""
    index = make_index(full_scan_threshold=100)
    shop = Shop(index, Metric.COSINE)
    rows = vectors(200, DIM, Metric.COSINE, seed=1)
    shop.put_all(one_image_each(rows[:150]))
    index.wait_until_idle()
    shop.put_all(one_image_each(rows[150:], "late"))
    shop.remove(*[f"p{number:05}" for number in range(20)])
    for row in rows:
        found = index.search([IndexQuery(row[np.newaxis], 10)], category="c", exact=False)[0]
        assert not found.exact
        assert [(hit.product_id, hit.image_index) for hit in found.hits] == [
            each[:2] for each in shop.nearest(row[np.newaxis], 10)
        ]
    assert observer.fallbacks == []


@pytest.mark.parametrize("library", ["faiss", "hnswlib"])
@pytest.mark.parametrize("metric", Metric, ids=lambda metric: metric.value)
def test_fallback_to_the_exact_search(
    make_index: MakeIndex, observer: RecordingObserver, metric: Metric, library: str
) -> None:
    """When a graph finds too few live rows, the exact search answers, the result is exact, and it is reported."""
    index = make_index(
        full_scan_threshold=10,
        metric=metric,
        hnsw=HnswSettings(ef_search=10, library=library),
    )
    shop = Shop(index, metric)
    near = vectors(1, DIM, metric, seed=1)
    noise = 1e-1 * vectors(400, DIM, metric, seed=2)
    shop.put_all(one_image_each(np.concatenate([prepared(near + noise, metric), vectors(2000, DIM, metric, seed=3)])))
    index.wait_until_idle()
    assert not index.search([IndexQuery(near, 1)], category="c", exact=False)[0].exact
    assert observer.fallbacks == []
    # So few that the graph is not built again without them.
    shop.remove(*[f"p{number:05}" for number in range(400)])
    found = index.search([IndexQuery(near, 10)], category="c", exact=False)[0]
    assert found.exact
    assert [hit.product_id for hit in found.hits] == [each[0] for each in shop.nearest(near, 10)]
    assert observer.fallbacks == ["c"]
    index.search([IndexQuery(near, 10)], category="c", exact=True)[0]
    assert observer.fallbacks == ["c"]


@pytest.mark.parametrize("metric", Metric, ids=lambda metric: metric.value)
def test_recall(make_index: MakeIndex, observer: RecordingObserver, metric: Metric) -> None:
    """With the default settings at least 95% of the ten nearest of 5,000 clustered products are found."""
    dim = 64
    chance = np.random.default_rng(1)
    centers = chance.normal(size=(50, dim))
    points = prepared(centers[chance.integers(50, size=5100)] + chance.normal(size=(5100, dim)), metric)
    index = make_index(full_scan_threshold=1000, metric=metric, dim=dim)
    index.apply(
        IndexChange((), [("c", IndexRow(label, f"p{label:05}", 0, row)) for label, row in enumerate(points[:5000])])
    )
    index.wait_until_idle()
    assert index.kind("c") is IndexKind.HNSW
    found = 0
    for query in points[5000:]:
        graph, exact_result = (
            index.search([IndexQuery(query[np.newaxis], 10)], category="c", exact=exact)[0] for exact in (False, True)
        )
        assert (graph.exact, exact_result.exact) == (False, True)
        assert len(graph.hits) == len(exact_result.hits) == 10
        wide = points[:5000].astype(np.float64)
        distances = (
            1 - wide @ query.astype(np.float64)
            if metric is Metric.COSINE
            else np.linalg.norm(wide - query.astype(np.float64), axis=1)
        )
        nearest = {f"p{slot:05}" for slot in np.argsort(distances)[:10].tolist()}
        assert {hit.product_id for hit in exact_result.hits} == nearest
        found += len(nearest & {hit.product_id for hit in graph.hits})
    assert found >= 950
    assert observer.fallbacks == []


def test_repeated_compactions(make_index: MakeIndex, observer: RecordingObserver) -> None:
    """A category whose products are replaced again and again stays correct through many compactions."""
    index = make_index(full_scan_threshold=30)
    shop = Shop(index, Metric.COSINE)
    points = vectors(400, DIM, Metric.COSINE, seed=1)
    for number, row in enumerate(points):
        shop.put(f"p{number % 40:02}", row[np.newaxis])
    index.wait_until_idle()
    assert len(shop.check(points[:1], 1000)) == 40
    assert len(shop.check(points[:1], 40, exact=False)) == 40


@pytest.mark.parametrize("metric", Metric, ids=lambda metric: metric.value)
def test_nearly_equal_products(make_index: MakeIndex, metric: Metric) -> None:
    """The nearest of many nearly equal products are found, although float32 cannot distinguish them."""
    index = make_index(full_scan_threshold=10**9, metric=metric)
    shop = Shop(index, metric)
    chance = np.random.default_rng(1)
    points = prepared(10 * chance.normal(size=DIM) + 1e-3 * chance.normal(size=(301, DIM)), metric)
    shop.put_all(one_image_each(points[1:]))
    for k in (1, 5, 20):
        shop.check(points[:1], k)


@pytest.mark.parametrize("full_scan_threshold", [1, 10**9], ids=["large", "small"])
def test_empty_categories_are_dropped(make_index: MakeIndex, full_scan_threshold: int) -> None:
    """Categories that come and go leave nothing behind."""
    index = make_index(full_scan_threshold)
    shop = Shop(index, Metric.COSINE)
    for number in range(20):
        shop.put("p", vectors(2, DIM, Metric.COSINE, seed=number), f"category {number}")
        large = list(index.partitions)
        small = [category for shard in index.small_categories.shards for category in shard]
        assert (large, small)[full_scan_threshold > 1] == [f"category {number}"]
        assert len(large) + len(small) == 1
    shop.remove("p")
    assert dict(index.partitions) == {}
    assert index.small_categories.shards == ()


@settings(derandomize=True, database=None, max_examples=100)
@given(st.integers(1, 70), st.integers(1, 20), st.integers(0, 2**32 - 1))
def test_equal_distance_at_any_slot(dim: int, places: int, seed: int) -> None:
    """Equal rows have bitwise equal distances, alone or among any others."""
    for metric in Metric:
        rows = vectors(places, dim, metric, seed)
        query = vectors(1, dim, metric, seed + 1)
        alone = np.concatenate([measure(row[np.newaxis], query, metric) for row in rows])
        np.testing.assert_array_equal(measure(rows, query, metric), alone)
        np.testing.assert_array_equal(measure(rows[::-1], query, metric), alone[::-1])


@pytest.fixture
def eager_switching() -> Iterator[None]:
    """Make Python switch threads a thousand times as often."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(5e-6)
    yield
    sys.setswitchinterval(before)


@pytest.mark.slow
@pytest.mark.usefixtures("eager_switching")
@pytest.mark.parametrize(
    ("full_scan_threshold", "max_shard_rows"), [(20, 4), (10**9, 4), (10**9, 400)], ids=["hnsw", "flat", "shards"]
)
def test_searches_during_changes(make_index: MakeIndex, full_scan_threshold: int, max_shard_rows: int) -> None:
    """While one thread changes the catalog, others always find k products, none of which was deleted before."""
    index = make_index(full_scan_threshold, max_shard_rows=max_shard_rows)
    shop = Shop(index, Metric.COSINE)
    points = vectors(1500, DIM, Metric.COSINE, seed=1)
    shop.put_all(one_image_each(points[:60], "stays"))
    gone: list[str] = []  # ids are not used again
    together = threading.Barrier(4)
    ended = threading.Event()
    faults: list[BaseException] = []

    def change() -> None:
        """Store products, replace, move and delete each of them."""
        for number, row in enumerate(points[60:]):
            shop.put(f"n{number}", row[np.newaxis], "cd"[number % 2])
            shop.put(f"n{number}", np.stack([row, -row]), "cd"[number % 3 % 2])
            if number >= 10:
                shop.remove(f"n{number - 10}")
                gone.append(f"n{number - 10}")

    def search(seed: int) -> None:
        """Search again and again until all changes are made."""
        queries = vectors(64, DIM, Metric.COSINE, seed)
        number = 0
        while not ended.is_set():
            query = queries[number % 64][np.newaxis]
            number += 1
            before = set(gone)
            (found,) = index.search(
                [IndexQuery(query, 50, "stays00000")], category=("c", None)[number % 2], exact=number % 3 == 0
            )
            ids = [hit.product_id for hit in found.hits]
            assert len(ids) == len(set(ids)) == 50
            assert "stays00000" not in ids
            assert before.isdisjoint(ids)
            assert [hit.distance for hit in found.hits] == sorted(hit.distance for hit in found.hits)

    def run(call: Callable[..., None], *arguments: int) -> None:
        together.wait(timeout=60)
        try:
            call(*arguments)
        except BaseException as error:  # noqa: BLE001 - the test shows it
            faults.append(error)
            ended.set()

    searchers = [threading.Thread(target=run, args=(search, seed)) for seed in (2, 3, 4)]
    for thread in searchers:
        thread.start()
    run(change)
    ended.set()
    for thread in searchers:
        thread.join()
    assert faults == []
    index.wait_until_idle()
    assert len(shop.check(points[:1], 1000, category=None)) == 70
