"""Graphs over projected vectors: smaller, with correct results."""

from __future__ import annotations

import numpy as np
import pytest

from lookalike_server.domain.catalog import IndexKind
from lookalike_server.domain.inference import Floats, Metric
from lookalike_server.domain.search import IndexQuery
from lookalike_server.index.hnsw import HnswSettings
from lookalike_server.index.projection import fit_projection
from support.fakes import RecordingObserver
from support.index_model import MakeIndex, Shop, one_image_each, prepared, vectors

DIM = 128
PROJECTED = 16
CANDIDATES = 75


def of_rank(rank: int, count: int, metric: Metric, seed: int) -> Floats:
    """Return float32 [count, DIM] in a subspace of `rank` dimensions, the same for the same seed."""
    chance = np.random.default_rng(seed)
    basis = np.linalg.qr(chance.normal(size=(DIM, rank)))[0]
    return prepared(chance.normal(size=(count, rank)) @ basis.T, metric)


@pytest.mark.parametrize("metric", Metric, ids=lambda metric: metric.value)
@pytest.mark.parametrize(("rank", "dim"), [(8, 16), (24, 32), (DIM, None)])
def test_as_many_dimensions_as_the_rows_need(metric: Metric, rank: int, dim: int | None) -> None:
    """Rows of low rank are projected to few dimensions, others to more, and rows of full rank not at all."""
    rows = of_rank(rank, 1500, metric, seed=rank)
    projection = fit_projection(rows, np.arange(1500), metric, PROJECTED, CANDIDATES)
    if dim is None:
        assert projection is None
    else:
        assert projection is not None
        # Directions without any variance are left out.
        assert projection.basis.shape == (DIM, min(dim, rank))
        np.testing.assert_allclose(projection.basis.T @ projection.basis, np.eye(min(dim, rank)), atol=1e-3)
        assert projection.preserves_neighbors(rows, np.arange(1500), metric, CANDIDATES)
        assert not projection.preserves_neighbors(
            of_rank(rank, 1500, metric, seed=99), np.arange(1500), metric, CANDIDATES
        )


def test_equal_rows() -> None:
    """A thousand equal rows give one direction, without a NaN."""
    rows = np.repeat(vectors(1, DIM, Metric.COSINE, seed=1), 1000, axis=0)
    projection = fit_projection(rows, np.arange(1000), Metric.COSINE, PROJECTED, 1000)
    assert projection is not None
    assert projection.basis.shape == (DIM, 1)
    assert np.isfinite(projection.basis).all()


@pytest.mark.parametrize("metric", Metric, ids=lambda metric: metric.value)
def test_searches_by_projected_graphs(make_index: MakeIndex, observer: RecordingObserver, metric: Metric) -> None:
    """Distances are exact, and nearly all of the ten nearest are found, also among rows that were added later."""
    index = make_index(full_scan_threshold=400, metric=metric, dim=DIM, hnsw=HnswSettings(numbers=PROJECTED))
    shop = Shop(index, metric)
    points = of_rank(12, 3000, metric, seed=1)
    for begin in range(0, 2800, 700):
        shop.put_all(one_image_each(points[begin : begin + 700], prefix=f"{begin}-"))
        index.wait_until_idle()
    assert index.kind("c") is IndexKind.HNSW
    assert [len(segment.graph or ()) for segment in index.partitions["c"].segments] == [2800]
    shared_count = 0
    for query in points[2800:]:
        (found,) = index.search([IndexQuery(query[np.newaxis], 10)], category="c", exact=False)
        (exact,) = index.search([IndexQuery(query[np.newaxis], 10)], category="c", exact=True)
        assert (found.exact, exact.exact) == (False, True)
        distances = {hit.product_id: hit.distance for hit in exact.hits}
        shared = [hit for hit in found.hits if hit.product_id in distances]
        assert all(hit.distance == distances[hit.product_id] for hit in shared)
        shared_count += len(shared)
    assert shared_count >= 0.99 * 2000
    assert observer.fallbacks == []


def test_added_rows_of_another_subspace(make_index: MakeIndex) -> None:
    """A graph whose projection does not preserve the neighbors of added rows is rebuilt with a new one."""
    index = make_index(full_scan_threshold=400, dim=DIM, hnsw=HnswSettings(numbers=PROJECTED))
    shop = Shop(index, Metric.COSINE)
    shop.put_all(one_image_each(of_rank(8, 800, Metric.COSINE, seed=1)))
    index.wait_until_idle()
    (segment,) = index.partitions["c"].segments
    assert segment.graph is not None
    before = segment.graph.projection
    strange = of_rank(8, 800, Metric.COSINE, seed=2)
    shop.put_all(one_image_each(strange, prefix="s"))
    index.wait_until_idle()
    (segment,) = index.partitions["c"].segments
    assert segment.graph is not None
    assert len(segment.graph) == 1600
    assert segment.graph.projection is not before
    for query in strange[::80]:
        shop.check(query[np.newaxis], 10, exact=False)
