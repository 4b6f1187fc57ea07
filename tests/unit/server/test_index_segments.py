"""Segments of a large category: bounded, compacted beside everything else, and their recall measured."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import pytest

from lookalike_server.domain.catalog import IndexKind, IndexRow
from lookalike_server.domain.filters import OneOf
from lookalike_server.domain.inference import Metric
from lookalike_server.domain.search import Hit, IndexQuery, IndexResult
from lookalike_server.index.brute_force import View
from lookalike_server.index.category_index import CategoryIndex
from lookalike_server.index.hnsw import HnswSettings
from lookalike_server.index.partition import Partition
from lookalike_server.index.recall import recall
from lookalike_server.index.segment import PartitionSettings, Segment
from support.fakes import RecordingObserver
from support.index_model import DIM, MakeIndex, Shop, one_image_each, vectors


def test_segments_are_bounded_and_few(make_index: MakeIndex) -> None:
    """New rows join the last segment until it is full; no graph has more rows than a segment may."""
    index = make_index(full_scan_threshold=10, max_segment_rows=50)
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


def test_segment_whose_rows_all_died(make_index: MakeIndex) -> None:
    """Rows that died before their segment was built leave an empty one, and building ends."""
    index = make_index(full_scan_threshold=20, max_segment_rows=50)
    shop = Shop(index, Metric.COSINE)
    shop.put_all(one_image_each(vectors(400, DIM, Metric.COSINE, seed=1)))
    index.settle()
    (partition,) = index._partitions.values()
    end = partition._segments[-1].end
    late = one_image_each(vectors(60, DIM, Metric.COSINE, seed=2), "late")
    with partition._lock:  # nothing public holds the builder back
        for number, (name, image) in enumerate(late.items()):
            partition._add(IndexRow(10_000 + number, name, 0, image[0]))
            partition._remove(10_000 + number)
    while partition.needs_maintenance:
        partition.maintain()
    assert any(segment.graph is None for segment in partition._segments if segment.begin >= end)
    assert len(shop.check(vectors(1, DIM, Metric.COSINE, seed=3), 10, exact=False)) == 10


class Interrupted(Partition):
    """A partition to which something happens while it copies its live rows."""

    meanwhile: Callable[[], None] | None = None

    def _sealed(self, view: View, before: Sequence[Segment]) -> Segment | None:
        if self.meanwhile is not None:
            happen, self.meanwhile = self.meanwhile, None
            happen()
        return super()._sealed(view, before)


def test_compaction_takes_in_what_happens_meanwhile(make_index: MakeIndex) -> None:
    """Rows that come, go and are described while the live ones are copied are right afterwards; the graph stays."""
    index = make_index(full_scan_threshold=50)
    partition = Interrupted(PartitionSettings(DIM, Metric.COSINE, 50, HnswSettings()), lambda: None)
    index._partitions["c"] = partition  # nothing public holds the builder back
    shop = Shop(index, Metric.COSINE)
    rows = vectors(500, DIM, Metric.COSINE, seed=1)
    shop.put_all(one_image_each(rows[:300]), attributes={"color": "red"})
    index.settle()

    def change() -> None:
        shop.put("late", rows[400:402])
        shop.put("too late", rows[402:403])
        shop.remove("too late", "p00299")
        shop.update_attributes("p00298", {"color": "blue"})
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
        shop.check(rows[:1], 20, exact=exact, conditions=(OneOf("color", frozenset({"red"})),))
        assert shop.check(rows[:1], 20, exact=exact, conditions=(OneOf("color", frozenset({"blue"})),)) == ["p00298"]


def test_recall_is_measured(observer: RecordingObserver) -> None:
    """Searches by graph are repeated exactly and their recall is told; exact ones are not, and a category's is kept."""
    index = CategoryIndex(
        PartitionSettings(DIM, Metric.COSINE, 100, HnswSettings(m=2, ef_construction=10, ef_search=10)), observer, 1.0
    )
    shop = Shop(index, Metric.COSINE)
    rows = vectors(3000, DIM, Metric.COSINE, seed=1)
    shop.put_all(one_image_each(rows))
    index.settle()
    questions = [IndexQuery(row[np.newaxis], 10) for row in vectors(12, DIM, Metric.COSINE, seed=2)]
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

    def hits(names: str) -> IndexResult:
        return IndexResult([Hit(name, 0, distances[name]) for name in names], exact=False)

    assert recall(hits(found), hits(exact)) == expected
