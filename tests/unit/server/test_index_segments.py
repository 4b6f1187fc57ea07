"""Segments of a large category: bounded, compacted in the background, and their recall measured."""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import closing, nullcontext

import numpy as np
import pytest

from lookalike_server.domain.catalog import IndexKind, IndexRow
from lookalike_server.domain.filters import OneOf
from lookalike_server.domain.inference import Floats, Metric
from lookalike_server.domain.search import Hit, IndexQuery, IndexResult
from lookalike_server.index.brute_force import FlatIndex, RowsApart
from lookalike_server.index.category_index import CategoryIndex
from lookalike_server.index.graph import HnswSettings
from lookalike_server.index.pacing import MaintenanceStopped, Pacing
from lookalike_server.index.partition import Partition
from lookalike_server.index.recall import recall
from lookalike_server.index.segment import PartitionSettings
from support.fakes import RecordingObserver
from support.index_model import DIM, MakeIndex, Shop, one_image_each, vectors


def test_segments_are_bounded_and_few(make_index: MakeIndex) -> None:
    """New rows are added to the last segment until it is full; no graph has more rows than a segment may have."""
    index = make_index(full_scan_threshold=10, max_segment_rows=50)
    shop = Shop(index, Metric.COSINE)
    rows = vectors(400, DIM, Metric.COSINE, seed=1)
    for start in range(0, 400, 16):
        shop.put_all({f"p{start + i:05}": row[np.newaxis] for i, row in enumerate(rows[start : start + 16])})
        index.wait_until_idle()
    (partition,) = index.partitions.values()
    sizes = [len(segment.graph) for segment in partition.segments]
    assert sizes[:-1] == [50] * (len(sizes) - 1)
    assert 390 <= sum(sizes) <= 400
    assert partition.waiting == 400 - sum(sizes)
    for row in rows[::37]:
        shop.check(row[np.newaxis], 10, exact=False)


def test_rows_that_are_deleted_before_they_are_in_a_graph(make_index: MakeIndex) -> None:
    """They leave no graph, and building ends."""
    index = make_index(full_scan_threshold=20, max_segment_rows=50)
    shop = Shop(index, Metric.COSINE)
    shop.put_all(one_image_each(vectors(400, DIM, Metric.COSINE, seed=1)))
    index.wait_until_idle()
    (partition,) = index.partitions.values()
    before = partition.segments
    late = [
        IndexRow(10_000 + number, f"late{number}", 0, vector)
        for number, vector in enumerate(vectors(60, DIM, Metric.COSINE, seed=2))
    ]
    # Not by the index, which would start building in between.
    partition.change((), late)
    partition.change([row.label for row in late], ())
    while partition.needs_maintenance:
        assert not partition.maintain(Pacing())
    assert partition.segments == before
    assert partition.waiting == 0
    assert len(shop.check(vectors(1, DIM, Metric.COSINE, seed=3), 10, exact=False)) == 10


def test_rows_catch_up(observer: RecordingObserver) -> None:
    """Rows that are too few to be worth it are added to a graph all the same once nothing changes any more."""
    for seconds, left in ((float("inf"), 5), (0.0, 0)):
        settings = PartitionSettings(DIM, Metric.COSINE, 40, HnswSettings(), catch_up_seconds=seconds)
        with closing(CategoryIndex(settings, observer)) as index:
            shop = Shop(index, Metric.COSINE)
            shop.put_all(one_image_each(vectors(50, DIM, Metric.COSINE, seed=1)))
            index.wait_until_idle()
            shop.put_all(one_image_each(vectors(5, DIM, Metric.COSINE, seed=2), "late"))
            shop.check(vectors(1, DIM, Metric.COSINE, seed=3), 10, exact=False)
            index.wait_until_idle()
            assert index.partitions["c"].waiting == left
            shop.check(vectors(1, DIM, Metric.COSINE, seed=3), 10, exact=False)


def test_work_ends_with_the_index(make_index: MakeIndex) -> None:
    """A partition stops in the middle of building a graph when the index closes, and is as it was."""
    index = make_index(full_scan_threshold=10**9)
    Shop(index, Metric.COSINE).put_all(one_image_each(vectors(100, DIM, Metric.COSINE, seed=1)))
    partition = Partition(PartitionSettings(DIM, Metric.COSINE, 10, HnswSettings()), lambda: None)
    partition.change(
        (), [IndexRow(label, f"p{label}", 0, row) for label, row in enumerate(np.eye(40, DIM, dtype="f4"))]
    )
    pacing = Pacing()
    pacing.stop()
    with pytest.raises(MaintenanceStopped):
        partition.maintain(pacing)
    assert (partition.segments, partition.kind, partition.waiting) == ((), IndexKind.FLAT, 40)


def test_few_nodes_are_looked_up_beside_searches() -> None:
    """A step looks all nodes of a small graph up, but beside searches only a few, so that growing never waits long."""
    rows = [IndexRow(label, f"p{label}", 0, row) for label, row in enumerate(vectors(300, DIM, Metric.COSINE, seed=1))]
    looked_up = []
    for searches in (nullcontext(), Pacing()):
        partition = Partition(PartitionSettings(DIM, Metric.COSINE, 10, HnswSettings()), lambda: None)
        partition.change((), rows)
        partition.maintain(Pacing())
        with searches:
            partition.maintain(searches if isinstance(searches, Pacing) else Pacing())
        looked_up.append(int(np.count_nonzero(partition.segments[0].looked_up)))
    assert looked_up == [300, 128]


def test_rows_apart_are_compared_as_they_are_now() -> None:
    """Of rows whose copies are compared, a search finds those that live, whether or not they were copied."""
    rows = FlatIndex(DIM)
    for row in vectors(40, DIM, Metric.COSINE, seed=1):
        rows.append(row)
    copied, gathered = (RowsApart(np.array([3, 5, 7])) for _ in range(2))
    copied.copy(rows.vectors)
    rows.remove(5)
    query = [rows.vectors[np.array([7])]]
    for tail in (38, 40):
        results = [rows.view().compared(query, Metric.COSINE, each, tail) for each in (copied, gathered)]
        for slots, (distances,) in results:
            assert slots.tolist() == [3, 7, *range(tail, 40)]
            assert slots[np.argmin(distances)] == 7
        assert results[0][1][0].tobytes() == results[1][1][0].tobytes()
    assert copied.rows is not None


def test_changes_during_a_compaction(make_index: MakeIndex, monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows that are added, removed and updated while the live ones are copied are correct afterwards."""
    index = make_index(full_scan_threshold=50)
    shop = Shop(index, Metric.COSINE)
    rows = vectors(500, DIM, Metric.COSINE, seed=1)
    shop.put_all(one_image_each(rows[:300]), attributes={"color": "red"})
    index.wait_until_idle()
    changes: list[Callable[[], None]] = []
    removed = threading.Event()

    def change() -> None:
        shop.put("late", rows[400:402])
        shop.put("too late", rows[402:403])
        shop.remove("too late", "p00299")
        shop.update_attributes("p00298", {"color": "blue"})
        assert index.kind("c") is IndexKind.HNSW

    stage = FlatIndex.stage

    def interrupted(rows: FlatIndex, copied: Floats) -> None:
        stage(rows, copied)
        assert removed.wait(60)
        while changes:
            changes.pop()()

    monkeypatch.setattr(FlatIndex, "stage", interrupted)
    changes.append(change)
    shop.remove(*[f"p{number:05}" for number in range(0, 220, 2)])
    removed.set()
    index.wait_until_idle()
    assert "late" in shop.rows
    assert changes == []
    partition = index.partitions["c"]
    assert partition.row_count - partition.deleted_count == 191  # 300 - 110 - 1 and the late one's two
    assert partition.deleted_count <= 2
    for exact in (False, True):
        for row in rows[::41]:
            shop.check(row[np.newaxis], 20, exact=exact)
        shop.check(rows[:1], 20, exact=exact, conditions=(OneOf("color", frozenset({"red"})),))
        assert shop.check(rows[:1], 20, exact=exact, conditions=(OneOf("color", frozenset({"blue"})),)) == ["p00298"]


def test_full_segments_become_one_when_their_rows_are_deleted(make_index: MakeIndex) -> None:
    """Graphs whose rows were mostly deleted are built again, and the last one with them while both fit in one."""
    index = make_index(full_scan_threshold=20, max_segment_rows=60)
    shop = Shop(index, Metric.COSINE)
    rows = vectors(240, DIM, Metric.COSINE, seed=1)
    shop.put_all(one_image_each(rows))
    index.wait_until_idle()
    shop.remove(*[f"p{number:05}" for number in range(240) if number % 6])
    index.wait_until_idle()
    (partition,) = index.partitions.values()
    assert sum(len(segment.graph) for segment in partition.segments) + partition.waiting == 40
    assert len(partition.segments) == 1
    shop.remove(*[f"p{number:05}" for number in range(0, 200, 6)])
    index.wait_until_idle()
    assert index.kind("c") is IndexKind.FLAT
    assert len(shop.check(rows[:1], 100)) == len(shop.rows)


def test_recall_is_measured(observer: RecordingObserver) -> None:
    """Searches by graph are repeated exactly and their recall is reported; exact ones are not repeated."""
    index = CategoryIndex(
        PartitionSettings(DIM, Metric.COSINE, 100, HnswSettings(m=2, ef_construction=10, ef_search=10)), observer, 1.0
    )
    shop = Shop(index, Metric.COSINE)
    rows = vectors(3000, DIM, Metric.COSINE, seed=1)
    shop.put_all(one_image_each(rows))
    index.wait_until_idle()
    queries = [IndexQuery(row[np.newaxis], 10) for row in vectors(12, DIM, Metric.COSINE, seed=2)]
    assert index.recall("c") is None
    graph = index.search(queries, category="c", exact=False)
    exhaustive = index.search(queries, category="c", exact=True)
    index.wait_until_idle()
    expected = [
        sum(hit.product_id in {other.product_id for other in all_.hits} for hit in some.hits) / 10
        for some, all_ in zip(graph, exhaustive, strict=True)
    ]
    measured = [value for _, value in observer.recalls]
    assert {category for category, _ in observer.recalls} == {"c"}
    assert measured[::2] == expected
    assert len(measured) == 24  # with each of them a search by a stored row
    assert sum(expected) < 12  # so poor a graph misses some
    assert index.recall("c") == pytest.approx(sum(measured) / 24, abs=0.3)
    shop.remove(*list(shop.rows))
    assert index.recall("c") is None
    index.close()


@pytest.mark.parametrize(
    ("found", "exact", "expected"),
    [("ab", "ab", 1.0), ("ac", "ab", 0.5), ("", "ab", 0.0), ("", "", 1.0), ("ad", "ab", 1.0)],
)
def test_recall_by_distance(found: str, exact: str, expected: float) -> None:
    """Hits count by their distances: of products at equal distances (b and d) any one counts."""
    distances = {"a": 0.1, "b": 0.2, "c": 0.3, "d": 0.2}

    def result(names: str) -> IndexResult:
        return IndexResult([Hit(name, 0, distances[name]) for name in names], exact=False)

    assert recall(result(found), result(exact)) == expected
