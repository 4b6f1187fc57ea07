"""Segments of a large category: bounded, compacted in the background, and their recall measured."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from lookalike_server.domain.catalog import IndexKind, IndexRow
from lookalike_server.domain.filters import OneOf
from lookalike_server.domain.inference import Metric
from lookalike_server.domain.search import Hit, IndexQuery, IndexResult
from lookalike_server.index.category_index import CategoryIndex
from lookalike_server.index.hnsw import HnswSettings
from lookalike_server.index.recall import recall
from lookalike_server.index.segment import PartitionSettings, Segment, build_segment
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
    bounds = [(segment.begin, segment.end) for segment in partition.segments]
    assert [end for _, end in bounds[:-1]] == [begin for begin, _ in bounds[1:]]
    assert all(end - begin <= 50 for begin, end in bounds)
    assert len(bounds) <= 400 // 40
    assert partition.row_count - bounds[-1][1] <= 10
    for row in rows[::37]:
        shop.check(row[np.newaxis], 10, exact=False)


def test_segment_whose_rows_are_all_deleted(make_index: MakeIndex) -> None:
    """Rows that were deleted before their segment was built leave an empty segment, and building ends."""
    index = make_index(full_scan_threshold=20, max_segment_rows=50)
    shop = Shop(index, Metric.COSINE)
    shop.put_all(one_image_each(vectors(400, DIM, Metric.COSINE, seed=1)))
    index.wait_until_idle()
    (partition,) = index.partitions.values()
    end = partition.segments[-1].end
    late = [
        IndexRow(10_000 + number, f"late{number}", 0, vector)
        for number, vector in enumerate(vectors(60, DIM, Metric.COSINE, seed=2))
    ]
    # Not by the index, which would start building in between.
    partition.change((), late)
    partition.change([row.label for row in late], ())
    while partition.needs_maintenance:
        partition.maintain()
    assert any(segment.graph is None for segment in partition.segments if segment.begin >= end)
    assert len(shop.check(vectors(1, DIM, Metric.COSINE, seed=3), 10, exact=False)) == 10


def test_changes_during_a_compaction(make_index: MakeIndex, monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows that are added, removed and updated while the live ones are copied are correct afterwards."""
    index = make_index(full_scan_threshold=50)
    shop = Shop(index, Metric.COSINE)
    rows = vectors(500, DIM, Metric.COSINE, seed=1)
    shop.put_all(one_image_each(rows[:300]), attributes={"color": "red"})
    index.wait_until_idle()
    changes: list[Callable[[], None]] = []

    def change() -> None:
        shop.put("late", rows[400:402])
        shop.put("too late", rows[402:403])
        shop.remove("too late", "p00299")
        shop.update_attributes("p00298", {"color": "blue"})
        assert index.kind("c") is IndexKind.HNSW

    def interrupted(*arguments: Any) -> Segment | None:
        while changes:
            changes.pop()()
        return build_segment(*arguments)

    monkeypatch.setattr("lookalike_server.index.partition.build_segment", interrupted)
    changes.append(change)
    shop.remove(*[f"p{number:05}" for number in range(0, 140, 2)])
    index.wait_until_idle()
    assert "late" in shop.rows
    assert changes == []
    partition = index.partitions["c"]
    assert partition.row_count - partition.deleted_count == 231  # 300 - 70 - 1 and the late one's two
    assert partition.deleted_count <= 2
    for exact in (False, True):
        for row in rows[::41]:
            shop.check(row[np.newaxis], 20, exact=exact)
        shop.check(rows[:1], 20, exact=exact, conditions=(OneOf("color", frozenset({"red"})),))
        assert shop.check(rows[:1], 20, exact=exact, conditions=(OneOf("color", frozenset({"blue"})),)) == ["p00298"]


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
    assert observer.recalls == [("c", value) for value in expected]
    assert sum(expected) < 12  # so poor a graph misses some
    assert index.recall("c") == pytest.approx(sum(expected) / 12, abs=0.3)
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
