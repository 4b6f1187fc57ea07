"""Graphs over projected vectors: smaller, and still right."""

from __future__ import annotations

import numpy as np
import pytest

from lookalike_server.domain.catalog import IndexKind
from lookalike_server.domain.inference import Floats, Metric
from lookalike_server.domain.search import IndexQuery
from lookalike_server.index.hnsw import HnswSettings
from lookalike_server.index.projection import fitting_projection
from support.fakes import RecordingObserver
from support.index_model import MakeIndex, Shop, one_image_each, prepared, vectors

DIM = 128
NUMBERS = 16
CANDIDATES = 75


def of_rank(rank: int, count: int, metric: Metric, seed: int) -> Floats:
    """Embeddings float32 [count, DIM] in a subspace of this many dimensions; the same seed gives the same subspace."""
    chance = np.random.default_rng(seed)
    basis = np.linalg.qr(chance.normal(size=(DIM, rank)))[0]
    return prepared(chance.normal(size=(count, rank)) @ basis.T, metric)


@pytest.mark.parametrize("metric", Metric, ids=lambda metric: metric.value)
@pytest.mark.parametrize(("rank", "numbers"), [(8, 16), (24, 32), (DIM, None)])
def test_as_many_numbers_as_the_rows_need(metric: Metric, rank: int, numbers: int | None) -> None:
    """Rows of few dimensions are projected to few numbers, others to more, and those that need all are left alone."""
    rows = of_rank(rank, 1500, metric, seed=rank)
    projection = fitting_projection(rows, np.arange(1500), metric, NUMBERS, CANDIDATES)
    if numbers is None:
        assert projection is None
    else:
        assert projection is not None
        # Directions in which nothing lies are left out.
        assert projection.basis.shape == (DIM, min(numbers, rank))
        np.testing.assert_allclose(projection.basis.T @ projection.basis, np.eye(min(numbers, rank)), atol=1e-3)
        assert projection.keeps(rows, np.arange(1500), metric, CANDIDATES)
        assert not projection.keeps(of_rank(rank, 1500, metric, seed=99), np.arange(1500), metric, CANDIDATES)


def test_rows_that_are_all_the_same() -> None:
    """One look a thousand times is one direction, without a NaN."""
    rows = np.repeat(vectors(1, DIM, Metric.COSINE, seed=1), 1000, axis=0)
    projection = fitting_projection(rows, np.arange(1000), Metric.COSINE, NUMBERS, 1000)
    assert projection is not None
    assert projection.basis.shape == (DIM, 1)
    assert np.isfinite(projection.basis).all()


@pytest.mark.parametrize("metric", Metric, ids=lambda metric: metric.value)
def test_answers_by_projected_graphs(make_index: MakeIndex, observer: RecordingObserver, metric: Metric) -> None:
    """Their distances are exact, and nearly all of the ten nearest are found, those that joined a graph later too."""
    index = make_index(full_scan_threshold=400, metric=metric, dim=DIM, hnsw=HnswSettings(numbers=NUMBERS))
    shop = Shop(index, metric)
    looks = of_rank(12, 3000, metric, seed=1)
    for begin in range(0, 2800, 700):
        shop.put_all(one_image_each(looks[begin : begin + 700], prefix=f"{begin}-"))
        index.settle()
    assert index.kind("c") is IndexKind.HNSW
    assert [len(segment.graph or ()) for segment in index._partitions["c"]._segments] == [2800]
    right = 0
    for query in looks[2800:]:
        (found,) = index.search([IndexQuery(query[np.newaxis], 10)], category="c", exact=False)
        (every,) = index.search([IndexQuery(query[np.newaxis], 10)], category="c", exact=True)
        assert (found.exact, every.exact) == (False, True)
        distances = {hit.product_id: hit.distance for hit in every.hits}
        shared = [hit for hit in found.hits if hit.product_id in distances]
        assert all(hit.distance == distances[hit.product_id] for hit in shared)
        right += len(shared)
    assert right >= 0.99 * 2000
    assert observer.fallbacks == []


def test_rows_of_another_kind_that_join_a_graph(make_index: MakeIndex) -> None:
    """A graph whose projection does not do for those that join it is rebuilt with one that does."""
    index = make_index(full_scan_threshold=400, dim=DIM, hnsw=HnswSettings(numbers=NUMBERS))
    shop = Shop(index, Metric.COSINE)
    shop.put_all(one_image_each(of_rank(8, 800, Metric.COSINE, seed=1)))
    index.settle()
    (segment,) = index._partitions["c"]._segments
    assert segment.graph is not None
    before = segment.graph.projection
    strange = of_rank(8, 800, Metric.COSINE, seed=2)
    shop.put_all(one_image_each(strange, prefix="s"))
    index.settle()
    (segment,) = index._partitions["c"]._segments
    assert segment.graph is not None
    assert len(segment.graph) == 1600
    assert segment.graph.projection is not before
    for query in strange[::80]:
        shop.check(query[np.newaxis], 10, exact=False)
