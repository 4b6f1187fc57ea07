"""What is particular to the embedded index: rows beside a graph, falling back, loading, changes beside searches."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from brute_force import Shop, prepared, vectors
from fakes import RecordingObserver
from lookalike_server.domain import Floats, Hit, Hits, IndexChange, IndexKind, IndexRow, Metric, Question
from lookalike_server.filters import OneOf
from lookalike_server.index.flat import View, measure
from lookalike_server.index.hnsw import HnswSettings
from lookalike_server.index.partition import Partition, PartitionSettings
from lookalike_server.index.partitioned import PartitionedIndex
from lookalike_server.index.recall import recall

DIM = 16

Make = Callable[..., PartitionedIndex]


@pytest.fixture
def observer() -> RecordingObserver:
    """What the indexes of a test report."""
    return RecordingObserver()


@pytest.fixture
def make(observer: RecordingObserver) -> Iterator[Make]:
    """Makes indexes and closes them."""
    made = []

    def build(
        flat_limit: int,
        metric: Metric = Metric.COSINE,
        dim: int = DIM,
        hnsw: HnswSettings | None = None,
        segment_rows: int = 16_384,
    ) -> PartitionedIndex:
        settings = PartitionSettings(dim, metric, flat_limit, hnsw or HnswSettings(), segment_rows)
        index = PartitionedIndex(settings, observer)
        made.append(index)
        return index

    yield build
    for index in made:
        index.close()


def one_photo_each(rows: Floats, prefix: str = "p") -> dict[str, Floats]:
    """A product for every row."""
    return {f"{prefix}{number:05}": row[np.newaxis] for number, row in enumerate(rows)}


def test_graph_beyond_the_flat_limit(make: Make) -> None:
    """A category is flat up to the limit and has a graph from the next row on, whatever its neighbours have."""
    index = make(flat_limit=50)
    shop = Shop(index, Metric.COSINE)
    shop.put_all(one_photo_each(vectors(50, DIM, Metric.COSINE, seed=1)), "c")
    shop.put_all(one_photo_each(vectors(51, DIM, Metric.COSINE, seed=2), "q"), "d")
    index.settle()
    assert (index.kind("c"), index.kind("d")) == (IndexKind.FLAT, IndexKind.HNSW)
    shop.put("one more", vectors(1, DIM, Metric.COSINE, seed=3), "c")
    index.settle()
    assert index.kind("c") is IndexKind.HNSW


def test_rows_beside_the_graph(make: Make, observer: RecordingObserver) -> None:
    """Rows that came after the graph was built are found beside it, and rows in it that went are not."""
    index = make(flat_limit=100)
    shop = Shop(index, Metric.COSINE)
    rows = vectors(200, DIM, Metric.COSINE, seed=1)
    shop.put_all(one_photo_each(rows[:150]))
    index.settle()
    shop.put_all(one_photo_each(rows[150:], "late"))
    shop.remove(*[f"p{number:05}" for number in range(20)])
    for row in rows:
        found = index.search([Question(row[np.newaxis], 10)], category="c", exact=False)[0]
        assert not found.exact
        assert [(hit.product_id, hit.image_index) for hit in found.hits] == [
            each[:2] for each in shop.nearest(row[np.newaxis], 10)
        ]
    assert observer.fallbacks == []


def test_loaded_at_start(make: Make, observer: RecordingObserver) -> None:
    """Loading takes in the rows of every category, which are searched before graphs are built; changes come on top."""
    index = make(flat_limit=1000)
    rows = vectors(2600, DIM, Metric.COSINE, seed=1)
    labelled = [
        ("large" if label % 13 else "small", IndexRow(label, f"p{label:05}", 0, row)) for label, row in enumerate(rows)
    ]
    assert index.load(iter(labelled)) == 2600
    category, row = labelled[-1]
    (hit,) = index.search([Question(row.vector[np.newaxis], 1)], category=category, exact=False)[0].hits
    assert hit.product_id == row.product_id
    index.settle()
    assert (index.kind("large"), index.kind("small")) == (IndexKind.HNSW, IndexKind.FLAT)
    for category, row in labelled[::100]:
        (hit,) = index.search([Question(row.vector[np.newaxis], 1)], category=category, exact=False)[0].hits
        assert (hit.product_id, hit.image_index) == (row.product_id, 0)
    index.apply(IndexChange([("large", 1)], ()))
    (hit,) = index.search([Question(rows[1:2], 1)], category="large", exact=False)[0].hits
    assert hit.product_id != "p00001"
    assert observer.fallbacks == []


def test_segments_are_bounded_and_few(make: Make) -> None:
    """New rows join the last segment until it is full; no graph has more rows than a segment may."""
    index = make(flat_limit=10, segment_rows=50)
    shop = Shop(index, Metric.COSINE)
    rows = vectors(400, DIM, Metric.COSINE, seed=1)
    for start in range(0, 400, 16):
        shop.put_all({f"p{start + i:05}": row[np.newaxis] for i, row in enumerate(rows[start : start + 16])})
        index.settle()
    (partition,) = index._partitions.values()  # nothing public shows it
    bounds = [(segment.begin, segment.end) for segment in partition._segments]
    assert [end for _, end in bounds[:-1]] == [begin for begin, _ in bounds[1:]]
    assert all(end - begin <= 50 for begin, end in bounds)
    assert len(bounds) <= 400 // 40
    assert partition._rows.count - bounds[-1][1] <= 10
    for row in rows[::37]:
        shop.check(row[np.newaxis], 10, exact=False)


def test_segment_whose_rows_all_died(make: Make) -> None:
    """Rows that died before their segment was built leave an empty one, and building ends."""
    index = make(flat_limit=20, segment_rows=50)
    shop = Shop(index, Metric.COSINE)
    shop.put_all(one_photo_each(vectors(400, DIM, Metric.COSINE, seed=1)))
    index.settle()
    (partition,) = index._partitions.values()
    end = partition._segments[-1].end
    late = one_photo_each(vectors(60, DIM, Metric.COSINE, seed=2), "late")
    with partition._lock:  # nothing public holds the builder back
        for number, (name, photo) in enumerate(late.items()):
            partition._add(IndexRow(10_000 + number, name, 0, photo[0]))
            partition._remove(10_000 + number)
    while partition.wants_care:
        partition.care()
    assert any(segment.graph is None for segment in partition._segments if segment.begin >= end)
    assert len(shop.check(vectors(1, DIM, Metric.COSINE, seed=3), 10, exact=False)) == 10


def test_recall_is_measured(observer: RecordingObserver) -> None:
    """Searches by graph are repeated exactly and their recall is told; exact ones are not, and a category's is kept."""
    index = PartitionedIndex(
        PartitionSettings(DIM, Metric.COSINE, 100, HnswSettings(m=2, ef_construction=10, ef_search=10)), observer, 1.0
    )
    shop = Shop(index, Metric.COSINE)
    rows = vectors(3000, DIM, Metric.COSINE, seed=1)
    shop.put_all(one_photo_each(rows))
    index.settle()
    questions = [Question(row[np.newaxis], 10) for row in vectors(12, DIM, Metric.COSINE, seed=2)]
    assert index.recall("c") is None
    graph = index.search(questions, category="c", exact=False)
    every = index.search(questions, category="c", exact=True)
    index.settle()
    right = [
        sum(hit.product_id in {other.product_id for other in all_.hits} for hit in some.hits) / 10
        for some, all_ in zip(graph, every, strict=True)
    ]
    assert observer.recalls == [("c", value) for value in right]
    assert sum(right) < 12  # so poor a graph misses some
    assert index.recall("c") == pytest.approx(sum(right) / 12, abs=0.3)
    shop.remove(*list(shop.rows))
    assert index.recall("c") is None
    index.close()


@pytest.mark.parametrize(
    ("found", "exact", "expected"),
    [("ab", "ab", 1.0), ("ac", "ab", 0.5), ("", "ab", 0.0), ("", "", 1.0), ("ad", "ab", 1.0)],
)
def test_recall_by_distance(found: str, exact: str, expected: float) -> None:
    """What is found counts by its distance: of products equally far away (b and d) any will do."""
    distances = {"a": 0.1, "b": 0.2, "c": 0.3, "d": 0.2}

    def hits(names: str) -> Hits:
        return Hits([Hit(name, 0, distances[name]) for name in names], exact=False)

    assert recall(hits(found), hits(exact)) == expected


class Interrupted(Partition):
    """A partition to which something happens while it copies its live rows."""

    meanwhile: Callable[[], None] | None = None

    def _sealed(self, view: View, begin: int) -> Any:
        if self.meanwhile is not None:
            happen, self.meanwhile = self.meanwhile, None
            happen()
        return super()._sealed(view, begin)


def test_compaction_takes_in_what_happens_meanwhile(make: Make) -> None:
    """Rows that come, go and are described while the live ones are copied are right afterwards; the graph stays."""
    index = make(flat_limit=50)
    partition = Interrupted(PartitionSettings(DIM, Metric.COSINE, 50, HnswSettings()), lambda: None)
    index._partitions["c"] = partition  # nothing public holds the builder back
    shop = Shop(index, Metric.COSINE)
    rows = vectors(500, DIM, Metric.COSINE, seed=1)
    shop.put_all(one_photo_each(rows[:300]), attributes={"colour": "red"})
    index.settle()

    def change() -> None:
        shop.put("late", rows[400:402])
        shop.put("too late", rows[402:403])
        shop.remove("too late", "p00299")
        shop.describe("p00298", {"colour": "blue"})
        assert index.kind("c") is IndexKind.HNSW

    partition.meanwhile = change
    shop.remove(*[f"p{number:05}" for number in range(0, 140, 2)])
    index.settle()
    assert "late" in shop.rows
    assert partition._rows.count - partition._rows.dead == 231  # 300 - 70 - 1 and the late one's two
    assert partition._rows.dead <= 2
    for exact in (False, True):
        for row in rows[::41]:
            shop.check(row[np.newaxis], 20, exact=exact)
        shop.check(rows[:1], 20, exact=exact, conditions=(OneOf("colour", frozenset({"red"})),))
        assert shop.check(rows[:1], 20, exact=exact, conditions=(OneOf("colour", frozenset({"blue"})),)) == ["p00298"]


def test_loading_nothing(make: Make) -> None:
    """An empty catalogue loads."""
    assert make(flat_limit=1).load(iter(())) == 0


@pytest.mark.parametrize("metric", Metric, ids=lambda metric: metric.value)
def test_exact_where_the_graph_gives_too_little(make: Make, observer: RecordingObserver, metric: Metric) -> None:
    """When a graph reaches too few of its rows, the exact search answers instead, says so, and it is reported.

    With two links a node, hundreds of rows that are the same leave some that nothing leads to.
    """
    index = make(flat_limit=10, metric=metric, hnsw=HnswSettings(m=2, ef_construction=10, ef_search=10))
    shop = Shop(index, metric)
    same = vectors(1, DIM, metric, seed=1)
    shop.put_all(one_photo_each(np.repeat(same, 500, axis=0)))
    index.settle()
    assert index.kind("c") is IndexKind.HNSW
    assert not index.search([Question(same, 1)], category="c", exact=False)[0].exact
    assert observer.fallbacks == []
    found = index.search([Question(same, 500)], category="c", exact=False)[0]
    assert found.exact
    assert [hit.product_id for hit in found.hits] == sorted(shop.rows)
    assert observer.fallbacks == ["c"]
    index.search([Question(same, 500)], category="c", exact=True)[0]
    assert observer.fallbacks == ["c"]


@pytest.mark.parametrize("metric", Metric, ids=lambda metric: metric.value)
def test_recall(make: Make, observer: RecordingObserver, metric: Metric) -> None:
    """With the default settings at least 95 of 100 of the ten nearest of 5,000 clustered products are found."""
    dim = 64
    chance = np.random.default_rng(1)
    centres = chance.normal(size=(50, dim))
    looks = prepared(centres[chance.integers(50, size=5100)] + chance.normal(size=(5100, dim)), metric)
    index = make(flat_limit=1000, metric=metric, dim=dim)
    index.load(("c", IndexRow(label, f"p{label:05}", 0, row)) for label, row in enumerate(looks[:5000]))
    index.settle()
    assert index.kind("c") is IndexKind.HNSW
    right = 0
    for query in looks[5000:]:
        graph, every = (
            index.search([Question(query[np.newaxis], 10)], category="c", exact=exact)[0] for exact in (False, True)
        )
        assert (graph.exact, every.exact) == (False, True)
        assert len(graph.hits) == len(every.hits) == 10
        wide = looks[:5000].astype(np.float64)
        distances = (
            1 - wide @ query.astype(np.float64)
            if metric is Metric.COSINE
            else np.linalg.norm(wide - query.astype(np.float64), axis=1)
        )
        nearest = {f"p{slot:05}" for slot in np.argsort(distances)[:10].tolist()}
        assert {hit.product_id for hit in every.hits} == nearest
        right += len(nearest & {hit.product_id for hit in graph.hits})
    assert right >= 950
    assert observer.fallbacks == []


def test_kept_small_while_products_change(make: Make, observer: RecordingObserver) -> None:
    """A category whose products are replaced again and again stays right, through many copies without the dead."""
    index = make(flat_limit=30)
    shop = Shop(index, Metric.COSINE)
    looks = vectors(400, DIM, Metric.COSINE, seed=1)
    for number, row in enumerate(looks):
        shop.put(f"p{number % 40:02}", row[np.newaxis])
    index.settle()
    assert len(shop.check(looks[:1], 1000)) == 40
    assert len(shop.check(looks[:1], 40, exact=False)) == 40


@pytest.mark.parametrize("metric", Metric, ids=lambda metric: metric.value)
def test_nearly_the_same(make: Make, metric: Metric) -> None:
    """Of very many products that look nearly the same the nearest are found, though float32 cannot tell them apart."""
    index = make(flat_limit=10**9, metric=metric)
    shop = Shop(index, metric)
    chance = np.random.default_rng(1)
    looks = prepared(10 * chance.normal(size=DIM) + 1e-3 * chance.normal(size=(301, DIM)), metric)
    shop.put_all(one_photo_each(looks[1:]))
    for k in (1, 5, 20):
        shop.check(looks[:1], k)


def test_emptied_categories_are_forgotten(make: Make) -> None:
    """Categories that come and go leave nothing behind."""
    index = make(flat_limit=10**9)
    shop = Shop(index, Metric.COSINE)
    for number, row in enumerate(vectors(20, DIM, Metric.COSINE, seed=1)):
        shop.put("p", row[np.newaxis], f"category {number}")
        assert len(index._partitions) == 1  # nothing public shows it
    shop.remove("p")
    assert len(index._partitions) == 0


@settings(derandomize=True, deadline=None, database=None, max_examples=100)
@given(st.integers(1, 70), st.integers(1, 20), st.integers(0, 2**32 - 1))
def test_same_distance_at_any_place(dim: int, places: int, seed: int) -> None:
    """Rows that are the same have the same distance to the last bit, alone or beside any others."""
    for metric in Metric:
        rows = vectors(places, dim, metric, seed)
        query = vectors(1, dim, metric, seed + 1)
        alone = np.concatenate([measure(row[np.newaxis], query, metric) for row in rows])
        np.testing.assert_array_equal(measure(rows, query, metric), alone)
        np.testing.assert_array_equal(measure(rows[::-1], query, metric), alone[::-1])


@pytest.fixture
def eager_switching() -> Iterator[None]:
    """Python changes threads a thousand times as often."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(5e-6)
    yield
    sys.setswitchinterval(before)


@pytest.mark.usefixtures("eager_switching")
@pytest.mark.parametrize("flat_limit", [20, 10**9], ids=["hnsw", "flat"])
def test_searches_beside_changes(make: Make, flat_limit: int) -> None:
    """While one thread changes the catalogue, others always find k products, none that was gone before they asked."""
    index = make(flat_limit)
    shop = Shop(index, Metric.COSINE)
    looks = vectors(1500, DIM, Metric.COSINE, seed=1)
    shop.put_all(one_photo_each(looks[:60], "stays"))
    gone: list[str] = []  # ids are not used again
    together = threading.Barrier(4)
    ended = threading.Event()
    faults: list[BaseException] = []

    def change() -> None:
        """Store products, replace, move and delete each of them."""
        for number, row in enumerate(looks[60:]):
            shop.put(f"n{number}", row[np.newaxis], "cd"[number % 2])
            shop.put(f"n{number}", np.stack([row, -row]), "cd"[number % 3 % 2])
            if number >= 10:
                shop.remove(f"n{number - 10}")
                gone.append(f"n{number - 10}")

    def search(seed: int) -> None:
        """Ask one question after another until all changes are made."""
        questions = vectors(64, DIM, Metric.COSINE, seed)
        number = 0
        while not ended.is_set():
            query = questions[number % 64][np.newaxis]
            number += 1
            before = set(gone)
            (found,) = index.search(
                [Question(query, 50, "stays00000")], category=("c", None)[number % 2], exact=number % 3 == 0
            )
            ids = [hit.product_id for hit in found.hits]
            assert len(ids) == len(set(ids)) == 50
            assert "stays00000" not in ids
            assert before.isdisjoint(ids)
            assert [hit.distance for hit in found.hits] == sorted(hit.distance for hit in found.hits)

    def run(act: Callable[..., None], *arguments: int) -> None:
        together.wait(timeout=60)
        try:
            act(*arguments)
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
    index.settle()
    assert len(shop.check(looks[:1], 1000, category=None)) == 70
