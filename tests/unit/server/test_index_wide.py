"""The index over very long vectors: the memory that it needs besides the rows themselves is bounded."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable

import numpy as np
import pytest

from lookalike_server.domain.catalog import IndexKind
from lookalike_server.domain.inference import Metric
from lookalike_server.domain.search import IndexQuery
from lookalike_server.index.brute_force import FlatIndex, RowsApart
from lookalike_server.index.row_storage import BLOCK_BYTES, GrowingMatrix
from support.fakes import RecordingObserver
from support.index_model import MakeIndex, Shop, one_image_each, vectors

DIM = 100_352
MIB = 1 << 20


def peak(call: Callable[[], object]) -> int:
    """Return the peak of the bytes that a call allocates."""
    tracemalloc.start()
    try:
        call()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def filled(count: int) -> FlatIndex:
    """Return `count` rows, each filled with its number."""
    rows = FlatIndex(DIM)
    for number in range(count):
        rows.append(np.full(DIM, number, dtype=np.float32))
    return rows


@pytest.mark.parametrize("metric", Metric, ids=lambda metric: metric.value)
def test_memory_of_a_search(metric: Metric) -> None:
    """However many rows are compared and measured, only a few megabytes are copied at once."""
    view = filled(400).view()  # 153 MiB
    query = np.full((1, DIM), 100.2, dtype=np.float32)
    slots = np.arange(400)
    assert peak(lambda: view.nearest([query], 300, metric)) < 32 * MIB
    assert peak(lambda: view.compared([query], metric, RowsApart(slots), len(view.live))) < 32 * MIB
    assert peak(lambda: view.measured(slots, query, metric)) < 64 * MIB
    few = view.only(slots % 3 == 0)
    assert peak(lambda: few.nearest([query], 10, metric)) < 32 * MIB
    if metric is Metric.EUCLIDEAN:
        assert set(view.nearest([query], 3, metric)[0].tolist()) == {99, 100, 101}
        assert few.nearest([query], 1, metric)[0].tolist() == [99]


def test_memory_of_growing() -> None:
    """A matrix that grows row by row is never copied as a whole, and earlier views of it do not change."""
    rows: list[FlatIndex] = []
    assert peak(lambda: rows.append(filled(400))) < 4 * 400 * DIM + 2 * BLOCK_BYTES
    before = rows[0].view()
    assert peak(lambda: rows[0].append(np.zeros(DIM, dtype=np.float32))) < MIB
    assert before.vectors[np.array([0, 166, 167, 399])][:, 7].tolist() == [0, 166, 167, 399]
    assert len(before.vectors) == 400


@pytest.mark.parametrize("count", [1, 3, 4, 5, 17])
def test_blocks_are_one_matrix(count: int) -> None:
    """Rows are where they were stored, in any block, alone, in chunks and as a part."""
    matrix = GrowingMatrix(3, block_bytes=48)  # four rows a block
    expected = np.arange(3 * count, dtype=np.float32).reshape(count, 3)
    for slot, row in enumerate(expected):
        if slot == matrix.capacity:
            matrix.grow()
        matrix[slot] = row
    whole = matrix.until(count)
    order = np.random.default_rng(1).permutation(count)
    np.testing.assert_array_equal(whole[order], expected[order])
    np.testing.assert_array_equal(np.concatenate(list(whole.chunks(24))), expected)
    part = whole.part(count // 2, count)
    np.testing.assert_array_equal(np.concatenate([*part.chunks(), expected[:0]]), expected[count // 2 :])
    np.testing.assert_array_equal(part[np.arange(len(part))], expected[count // 2 :])
    assert whole[order[:0]].shape == (0, 3)


@pytest.mark.slow
@pytest.mark.parametrize("metric", Metric, ids=lambda metric: metric.value)
def test_a_graph_over_very_long_vectors(make_index: MakeIndex, observer: RecordingObserver, metric: Metric) -> None:
    """A graph finds what brute force finds, and none is left where few rows are."""
    index = make_index(full_scan_threshold=70, metric=metric, dim=DIM)
    shop = Shop(index, metric)
    rows = vectors(78, DIM, metric, seed=1)
    shop.put_all(one_image_each(rows[:76]))
    index.wait_until_idle()
    assert index.kind("c") is IndexKind.HNSW
    assert observer.graphs_built == ["c"]
    assert observer.maintenance_faults == []
    partition = index.partitions["c"]
    assert not partition.needs_maintenance
    for query in rows[76:]:
        (found,) = index.search([IndexQuery(query[np.newaxis], 5)], category="c", exact=False)
        assert not found.exact
        # Of vectors of the same length the order is the same by either metric.
        far = np.linalg.norm(rows[:76].astype(np.float64) - query, axis=1)
        assert [hit.product_id for hit in found.hits] == [f"p{each:05}" for each in np.argsort(far)[:5]]
    shop.remove(*[f"p{number:05}" for number in range(40)])
    index.wait_until_idle()
    assert (partition.row_count - partition.deleted_count, index.kind("c")) == (36, IndexKind.FLAT)
