"""The rows on a device: what it finds, the bound of what it rounds, and its memory; on ONNX Runtime's CPU provider."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tools.device_search_graph import PATH, graph

from lookalike_server.device_search.matrix import Matrix, MatrixView
from lookalike_server.device_search.memory import HostMemory
from lookalike_server.device_search.opening import OnnxSearchDevice, forbid_half_sums
from lookalike_server.device_search.runs import MAX_QUERIES, Halves, Operand, Positions, Runs
from lookalike_server.domain.inference import Floats, Metric
from lookalike_server.index.brute_force import measure
from lookalike_server.index.device import DeviceSearchError
from lookalike_server.inference.onnx_session import import_onnxruntime
from support.index_model import prepared, vectors
from support.search_devices import BLOCK_ROWS, CHUNK_ROWS, host_device, shared_device

DIM = 24


def unit(count: int, dim: int = DIM, seed: int = 1) -> Floats:
    """Return random vectors of length 1."""
    return vectors(count, dim, Metric.COSINE, seed)


def filled(rows: Floats, pieces: int = 7) -> Matrix:
    """Return a matrix with these rows, each at the slot of its number, added in pieces."""
    matrix = shared_device(rows.shape[1]).matrix()
    for slots in np.array_split(np.arange(len(rows)), pieces):
        matrix.append(rows[slots], slots)
    return matrix


def distances(rows: Floats, queries: Floats) -> np.ndarray[tuple[int, ...], np.dtype[np.float64]]:
    """Return the distances that searches report: float64 [q, n]."""
    return np.stack([measure(rows, query[np.newaxis], Metric.COSINE) for query in queries])


def check_bound(view: MatrixView, rows: Floats, queries: Floats, count: int = 16) -> float:
    """Check that all distances are within the bound, and return the largest share of it that is used."""
    candidates = view.candidates(queries, count)
    share = 0.0
    for number, exact in enumerate(distances(rows, queries)):
        scores, slots = view.scores(queries[number])
        margin = candidates.errors[number] + candidates.rounding * np.abs(scores)
        off = np.abs(scores + exact[slots])
        assert (off <= margin).all()
        share = max(share, float((off / margin).max()))
        others = np.delete(exact, candidates.slots[number][candidates.slots[number] >= 0])
        assert (others >= candidates.least_distance(number, candidates.scores[number, -1])).all()
    return share


def test_the_graph_is_the_one_that_the_tool_writes() -> None:
    """The file in the package is fresh."""
    assert PATH.read_bytes() == graph()


@pytest.mark.parametrize("count", [1, 2, 5, 16, 17, MAX_QUERIES, MAX_QUERIES + 3])
def test_candidates(count: int) -> None:
    """The candidates of each query are the nearest rows of all blocks, whatever the number of queries."""
    rows, queries = unit(3 * BLOCK_ROWS + 40), unit(count, seed=2)
    candidates = filled(rows).view().candidates(queries, 12)
    assert candidates.scores.shape == candidates.slots.shape == (count, 12)
    assert (np.diff(candidates.scores, axis=1) <= 0).all()
    for exact, slots in zip(distances(rows, queries), candidates.slots, strict=True):
        np.testing.assert_allclose(np.sort(exact[slots]), np.sort(exact)[:12], atol=2e-3)


@pytest.mark.parametrize("dim", [1, 7, 24, 300])
@pytest.mark.parametrize("seed", range(3))
def test_bound_of_random_vectors(dim: int, seed: int) -> None:
    """No distance is farther from its score than the bound."""
    rows = unit(200, dim, seed)
    check_bound(filled(rows).view(), rows, np.concatenate([unit(3, dim, seed + 10), rows[:2]]))


def one_way(dim: int) -> tuple[Floats, Floats]:
    """Return a row whose every term is as far from a half as possible, to the side that the query adds up."""
    terms = (dim - 1) // 2 * 2
    half = float(np.nextafter(np.float16(terms**-0.5), np.float16(0)))
    away = 0.499 * float(np.spacing(np.float16(half)))
    signs = np.repeat([1.0, -1.0], terms // 2)
    rest = np.zeros(dim - terms)
    rest[0] = (1 - terms * half**2) ** 0.5
    row = np.concatenate([half + away * signs, rest])
    return prepared(row[np.newaxis], Metric.COSINE), np.concatenate([half * signs, rest])[np.newaxis].astype(np.float32)


def cancelling(dim: int) -> tuple[Floats, Floats]:
    """Return rows whose dot products are small differences of large sums."""
    values = np.random.default_rng(2).normal(size=(30, dim // 2))
    rows = np.concatenate([values, values], axis=1)
    return prepared(rows, Metric.COSINE), prepared(np.concatenate([values, -values], axis=1)[:3], Metric.COSINE)


def subnormal(dim: int) -> tuple[Floats, Floats]:
    """Return rows of one large term and many that are subnormal, or nothing, in half precision."""
    rows = 10.0 ** np.random.default_rng(3).uniform(-9, -4, size=(30, dim))
    rows[:, 0] = 1
    return prepared(rows, Metric.COSINE), prepared(rows[:3, ::-1].copy(), Metric.COSINE)


def zeros(dim: int) -> tuple[Floats, Floats]:
    """Return rows of zeros beside others, and such a query."""
    rows = unit(10, dim)
    rows[::2] = 0
    return rows, rows[:2]


@pytest.mark.parametrize("make", [one_way, cancelling, subnormal, zeros], ids=lambda make: make.__name__)
@pytest.mark.parametrize("dim", [16, 256])
def test_bound_of_hard_vectors(make: Callable[[int], tuple[Floats, Floats]], dim: int) -> None:
    """Nor where every term is rounded the same way, sums cancel, or terms are subnormal."""
    rows, queries = make(dim)
    check_bound(filled(rows, 1).view(), rows, queries)


def test_the_bound_is_not_far_from_what_occurs() -> None:
    """Vectors that are rounded as badly as possible use a third of the bound, so it is not merely large."""
    rows, queries = one_way(11)
    assert check_bound(filled(rows, 1).view(), rows, queries) > 1 / 3


@settings(derandomize=True, database=None, max_examples=60, deadline=None)
@given(st.lists(st.floats(-1, 1, width=32), min_size=8, max_size=40), st.integers(1, 8))
def test_bound_of_any_vectors(values: list[float], dim: int) -> None:
    """Nor with any other vectors."""
    numbers = np.array(values[: len(values) // dim * dim], dtype=np.float64).reshape(-1, dim)
    rows = prepared(numbers, Metric.COSINE)
    check_bound(filled(rows, 1).view(), rows, rows[:4])


class HalfSums(Runs):
    """Runs on a device that rounds every partial sum to half precision."""

    def best(self, queries: Halves, operands: Sequence[Operand], count: int) -> list[tuple[Floats, Positions]]:
        """Add an error that such sums have."""
        return [(scores * np.float32(1.01), positions) for scores, positions in super().best(queries, operands, count)]


def test_a_device_that_sums_in_half_precision() -> None:
    """A device whose sums are less exact than the bound assumes is not used."""
    memory = HostMemory()
    runs = HalfSums(import_onnxruntime(), ("CPUExecutionProvider", {}), memory, threads=1, chunk_rows=CHUNK_ROWS)
    with pytest.raises(DeviceSearchError, match="does not sum in float32"):
        OnnxSearchDevice(runs, memory, 256)


def test_the_environment_that_asks_for_half_sums(monkeypatch: pytest.MonkeyPatch) -> None:
    """The variable by which ONNX Runtime sums in half precision is set if it is not, and rejected if it says so."""
    monkeypatch.delenv("ORT_CUDA_GEMM_OPTIONS", raising=False)
    forbid_half_sums()
    forbid_half_sums()
    monkeypatch.setenv("ORT_CUDA_GEMM_OPTIONS", "1")
    with pytest.raises(DeviceSearchError, match="ORT_CUDA_GEMM_OPTIONS=1 in the environment"):
        forbid_half_sums()


def test_without_a_gpu() -> None:
    """A build of ONNX Runtime without CUDA is named, with what to install."""
    with pytest.raises(DeviceSearchError, match=r"this build of ONNX Runtime lacks CUDAExecutionProvider"):
        OnnxSearchDevice.cuda(import_onnxruntime(), DIM)


def test_views_stay_as_they_are() -> None:
    """A view shows what was there when it was taken, whatever is added, moved or compacted afterwards."""
    rows = unit(2 * BLOCK_ROWS + 30)
    matrix = shared_device(DIM).matrix()
    matrix.append(rows[:50], np.arange(50))
    view = matrix.view()
    before = view.candidates(rows[:3], 60)
    matrix.append(rows[50:], np.arange(50, len(rows)))
    matrix.use(matrix.moved(np.arange(len(rows))[::-1].copy()))
    live = np.zeros(len(rows), dtype=np.bool_)
    matrix.refresh(live)
    after = view.candidates(rows[:3], 60)
    np.testing.assert_array_equal(np.sort(before.slots[:, :50]), np.sort(after.slots[:, :50]))
    assert set(after.slots.ravel().tolist()) == {*range(50), -1}
    assert (matrix.view().candidates(rows[:3], 60).scores == -np.inf).all()


def test_memory_that_nobody_wrote_is_not_compared() -> None:
    """The memory of a new block is NaN; only what a run compares is written first."""
    rows = unit(CHUNK_ROWS + 1)
    matrix = shared_device(DIM).matrix()
    matrix.append(rows, np.arange(len(rows)), expected=BLOCK_ROWS)
    scores, slots = matrix.view().scores(rows[0])
    assert slots.tolist() == list(range(len(rows)))
    assert np.isfinite(scores).all()


def test_masks() -> None:
    """Of the rows that are allowed, and no others, the nearest come back; where they are too few, all."""
    rows, query = unit(2 * BLOCK_ROWS), unit(1, seed=2)
    view = filled(rows).view()
    allowed = np.zeros(len(rows), dtype=np.bool_)
    allowed[[3, 70, 140, 200]] = True
    candidates = view.candidates(query, 6, allowed)
    assert set(candidates.slots[0, :4].tolist()) == {3, 70, 140, 200}
    assert candidates.scores[0, 4:].tolist() == [-np.inf] * 2
    assert candidates.least_distance(0, candidates.scores[0, -1]) == np.inf
    scores, slots = view.scores(query[0], allowed)
    assert set(slots[scores > -np.inf].tolist()) == {3, 70, 140, 200}


def test_moved_and_compacted() -> None:
    """Rows keep their vectors when their slots change, and blocks of deleted rows are given back."""
    rows = unit(3 * BLOCK_ROWS)
    matrix = shared_device(DIM).matrix()
    matrix.append(rows, np.arange(len(rows)), expected=len(rows))
    everything = matrix.nbytes
    live = np.arange(len(rows)) % 3 == 0
    live[:BLOCK_ROWS] = False
    kept = np.flatnonzero(live)
    moved = np.full(len(rows), -1)
    moved[kept] = np.arange(len(kept))
    matrix.use(matrix.moved(moved))
    packed = rows[kept]
    still = np.ones(len(kept), dtype=np.bool_)
    while (number := matrix.stale(still)) is not None:
        matrix.compact(number, packed, still, lambda: None)
    assert matrix.nbytes < everything / 2
    check_bound(matrix.view(), packed, packed[:3])
    assert matrix.view().candidates(packed[:5], 1).slots.ravel().tolist() == [0, 1, 2, 3, 4]
    matrix.append(rows[1:2], np.array([len(kept)]))
    assert matrix.view().candidates(rows[1:2], 1).slots.tolist() == [[len(kept)]]


def test_too_little_memory() -> None:
    """What does not fit is an error that says so, and what is there goes on; memory is freed with the matrix."""
    device, memory = host_device(DIM, limit=200_000)
    idle = memory.allocated
    matrix = device.matrix()
    rows = unit(BLOCK_ROWS)
    matrix.append(rows, np.arange(BLOCK_ROWS))
    with pytest.raises(DeviceSearchError, match="bytes are not free"):
        matrix.append(np.tile(rows, (100, 1)), np.arange(100 * BLOCK_ROWS))
    assert matrix.view().candidates(rows[:1], 1).slots.item() % BLOCK_ROWS == 0
    assert matrix.nbytes > 0
    del matrix
    assert memory.allocated == idle
