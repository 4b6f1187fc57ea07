"""The contract of every `VectorIndex`: one suite over each engine and metric, compared with brute force.

A new engine needs one line in `ENGINES`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lookalike_server.domain.catalog import IndexKind
from lookalike_server.domain.inference import Floats, Metric
from lookalike_server.domain.protocols import VectorIndex
from lookalike_server.domain.search import IndexQuery
from lookalike_server.index.category_index import CategoryIndex
from lookalike_server.index.device import SearchDevice
from lookalike_server.index.graph import HnswSettings
from lookalike_server.index.segment import PartitionSettings
from support.fakes import RecordingObserver
from support.index_model import Shop, prepared, vectors
from support.search_devices import shared_device

DIM = 7  # odd, so that rows lie at every alignment


@dataclass(frozen=True)
class Engine:
    """An index to test, with what tests need besides the contract.

    Attributes:
        index: The index.
        wait_until_idle: Waits for all background work.
        kind: How it then searches a category of more than ten rows.
        close: Closes the index.
    """

    index: VectorIndex
    wait_until_idle: Callable[[], None]
    kind: IndexKind
    close: Callable[[], None] = field(repr=False)


def flat(metric: Metric) -> Engine:
    """Make an index that compares every row, with a matrix for each category of more than one."""
    return category_index(metric, full_scan_threshold=10**9, kind=IndexKind.FLAT, max_shard_rows=4)


def hnsw(metric: Metric) -> Engine:
    """Make an index with a graph from the eleventh row on, and more candidates than rows."""
    return category_index(metric, full_scan_threshold=10, kind=IndexKind.HNSW)


def hnswlib(metric: Metric) -> Engine:
    """Make such an index by the other library of graphs."""
    return category_index(metric, full_scan_threshold=10, kind=IndexKind.HNSW, library="hnswlib")


def segments(metric: Metric) -> Engine:
    """Make an index with a graph for every twenty rows."""
    return category_index(metric, full_scan_threshold=10, kind=IndexKind.HNSW, max_segment_rows=20)


def device(metric: Metric) -> Engine:
    """Make an index whose rows a device compares from the eleventh on; it leaves euclidean distances to graphs."""
    kind = IndexKind.FLAT if metric is Metric.COSINE else IndexKind.HNSW
    return category_index(metric, full_scan_threshold=10, kind=kind, search_device=shared_device(DIM))


def shards(metric: Metric) -> Engine:
    """Make an index whose categories share matrices, up to a few rows more than those of the full shop."""
    return category_index(metric, full_scan_threshold=10**9, kind=IndexKind.FLAT, max_shard_rows=640)


def category_index(
    metric: Metric,
    full_scan_threshold: int,
    kind: IndexKind,
    max_segment_rows: int = 10**9,
    max_shard_rows: int = 65_536,
    library: str = "faiss",
    search_device: SearchDevice | None = None,
) -> Engine:
    """Make the `CategoryIndex`."""
    graphs = HnswSettings(m=16, ef_construction=200, ef_search=400, library=library)
    settings = PartitionSettings(
        DIM,
        metric,
        full_scan_threshold,
        graphs,
        max_segment_rows=max_segment_rows,
        max_shard_rows=max_shard_rows,
        device=search_device,
    )
    index = CategoryIndex(settings, RecordingObserver())
    return Engine(index, index.wait_until_idle, kind, index.close)


ENGINES = (flat, hnsw, hnswlib, segments, device, shards)


@pytest.fixture(params=Metric, ids=lambda metric: metric.value)
def metric(request: pytest.FixtureRequest) -> Metric:
    """Return each metric."""
    assert isinstance(request.param, Metric)
    return request.param


@pytest.fixture(params=ENGINES, ids=lambda make: make.__name__)
def make(request: pytest.FixtureRequest) -> Callable[[Metric], Engine]:
    """Return the function that makes an engine."""
    chosen: Callable[[Metric], Engine] = request.param
    return chosen


@pytest.fixture
def engine(make: Callable[[Metric], Engine], metric: Metric) -> Iterator[Engine]:
    """Return each engine, empty."""
    made = make(metric)
    yield made
    made.close()


@pytest.fixture
def shop(engine: Engine, metric: Metric) -> Shop:
    """Return an empty shop over the engine."""
    return Shop(engine.index, metric)


@pytest.fixture
def full(shop: Shop, engine: Engine, metric: Metric) -> Shop:
    """Return a shop of 60 products with one to four images each in one category, with its graphs built."""
    rows = iter(vectors(150, DIM, metric, seed=1))
    shop.put_all({f"p{number:02}": np.stack([next(rows) for _ in range(1 + number % 4)]) for number in range(60)})
    engine.wait_until_idle()
    return shop


def queries(metric: Metric, number: int = 1, seed: int = 2) -> Floats:
    """Return random queries."""
    return vectors(number, DIM, metric, seed)


@pytest.mark.parametrize("exact", [False, True])
@pytest.mark.parametrize("k", [1, 2, 10, 59, 60])
def test_nearest_products(full: Shop, metric: Metric, k: int, exact: bool) -> None:
    """The k nearest products are found, nearest first, each once by its nearest image, with exact distances."""
    for query in queries(metric, 10):
        assert len(full.check(query[np.newaxis], k, exact=exact)) == k


@pytest.mark.parametrize("exact", [False, True])
def test_k_above_the_number_of_products(full: Shop, metric: Metric, exact: bool) -> None:
    """If there are fewer than k products, all of them are found."""
    assert len(full.check(queries(metric), 1000, exact=exact)) == 60


def test_unknown_category(full: Shop, engine: Engine, metric: Metric) -> None:
    """An unknown category has no hits, and the result is exact."""
    found = engine.index.search([IndexQuery(queries(metric), 10)], category="nowhere", exact=False)[0]
    assert (list(found.hits), found.exact) == ([], True)


def test_empty_index(engine: Engine, metric: Metric) -> None:
    """An empty index has no hits, and the result is exact."""
    found = engine.index.search([IndexQuery(queries(metric), 10)], category=None, exact=False)[0]
    assert (list(found.hits), found.exact) == ([], True)


def test_kind(full: Shop, engine: Engine) -> None:
    """An index reports how it searches a category; an unknown one is flat."""
    assert engine.index.kind("c") is engine.kind
    assert engine.index.kind("nowhere") is IndexKind.FLAT


def test_exactness(full: Shop, engine: Engine, metric: Metric) -> None:
    """A result says whether every row was compared, which `exact` demands."""
    for exact in (False, True):
        for category in ("c", None):
            found = engine.index.search([IndexQuery(queries(metric), 5)], category=category, exact=exact)[0]
            assert found.exact == (exact or engine.kind is IndexKind.FLAT)


@pytest.mark.parametrize("exact", [False, True])
def test_excluded_product(full: Shop, metric: Metric, exact: bool) -> None:
    """An excluded product is not found, and there are still k results."""
    query = queries(metric)
    nearest, *others = full.check(query, 11, exact=exact)
    assert full.check(query, 10, exclude=nearest, exact=exact) == others
    assert full.check(query, 11, exclude="no such product", exact=exact) == [nearest, *others]
    assert len(full.check(query, 60, exclude=nearest, exact=exact)) == 59


@pytest.mark.parametrize("exact", [False, True])
def test_the_vectors_of_a_product_find_it_once(full: Shop, engine: Engine, metric: Metric, exact: bool) -> None:
    """Each vector of a product finds it once, at a distance of exactly 0."""
    for product_id, rows in full.rows.items():
        for _, row in rows:
            first, *_ = full.check(row.vector[np.newaxis], 3, exact=exact)
            assert first == product_id
            found = engine.index.search([IndexQuery(row.vector[np.newaxis], 1)], category="c", exact=exact)[0]
            assert found.hits[0].distance == 0.0


@pytest.mark.parametrize("exact", [False, True])
def test_several_vectors_are_one_query(full: Shop, metric: Metric, exact: bool) -> None:
    """The distance of a product is that to the nearest vector of the query."""
    ids = ["p07", "p23", "p41"]
    together = np.stack([full.rows[product_id][0][1].vector for product_id in ids])
    assert set(full.check(together, 3, exact=exact)) == set(ids)
    assert len(full.check(together, 20, exact=exact)) == 20


@pytest.mark.parametrize("k", [1, 2, 7, 49, 50, 51, 80])
def test_ties_by_product_id(full: Shop, engine: Engine, metric: Metric, k: int) -> None:
    """Of 50 equal products, k are found in the order of their ids, whatever order they were added in."""
    same = queries(metric, seed=5)
    ids = [f"same{number:02}" for number in np.random.default_rng(3).permutation(50)]
    for product_id in ids:
        full.put(product_id, same)
    engine.wait_until_idle()
    assert full.check(same, k)[:50] == sorted(ids)[:k]
    assert {*full.check(same, k, exact=False)[:50]} <= {*ids}


def test_ties_across_categories(shop: Shop, engine: Engine, metric: Metric) -> None:
    """Equal products have bitwise equal distances, however large their categories are."""
    same = vectors(1, DIM, metric, seed=5)
    for number, size in enumerate([1, 2, 3, 5, 8, 13, 21]):
        others = vectors(size, DIM, metric, seed=10 + number)
        shop.put_all({f"other{number}-{i}": row[np.newaxis] for i, row in enumerate(others)}, f"category {number}")
        shop.put(f"same{9 - number}", same, f"category {number}")
    engine.wait_until_idle()
    query = queries(metric)
    found = engine.index.search([IndexQuery(query, 100)], category=None, exact=True)[0]
    assert len({hit.distance for hit in found.hits if hit.product_id.startswith("same")}) == 1
    assert shop.check(same, 7, category=None) == [f"same{number}" for number in range(3, 10)]


@pytest.mark.parametrize("exact", [False, True])
def test_visible_at_once(full: Shop, metric: Metric, exact: bool) -> None:
    """The next search finds what was added, and not what was removed."""
    for number in range(30):
        vector = vectors(1, DIM, metric, seed=100 + number)
        full.put(f"new{number}", vector)
        assert full.check(vector, 1, exact=exact) == [f"new{number}"]
        full.remove(f"p{number:02}")
        assert f"p{number:02}" not in full.check(vector, 1000, exact=exact)


@pytest.mark.parametrize("exact", [False, True])
def test_replaced(full: Shop, metric: Metric, exact: bool) -> None:
    """A replaced product is found by its new vectors only, although they are fewer."""
    old = full.rows["p07"][0][1].vector[np.newaxis]
    new = vectors(1, DIM, metric, seed=9)
    assert len(full.rows["p07"]) == 4
    full.put("p07", new)
    assert full.check(new, 1, exact=exact) == ["p07"]
    assert full.check(old, 1, exact=exact) != ["p07"]


@pytest.mark.parametrize("exact", [False, True])
def test_moved(full: Shop, engine: Engine, metric: Metric, exact: bool) -> None:
    """A product that moved to another category is found there only."""
    vector = full.rows["p08"][0][1].vector[np.newaxis]
    full.put("p08", vector, "elsewhere")
    assert full.check(vector, 1, category="elsewhere", exact=exact) == ["p08"]
    assert full.check(vector, 1, category=None, exact=exact) == ["p08"]
    assert "p08" not in full.check(vector, 1000, category="c", exact=exact)
    full.put("p08", vector)
    assert full.check(vector, 1000, category="elsewhere", exact=exact) == []


@pytest.mark.parametrize("exact", [False, True])
def test_all_categories(full: Shop, engine: Engine, metric: Metric, exact: bool) -> None:
    """Without a category the nearest of all products are found."""
    for number, category in enumerate(("a", "b", "d")):
        rows = vectors(15, DIM, metric, seed=20 + number)
        full.put_all({f"{category}{i}": row[np.newaxis] for i, row in enumerate(rows)}, category)
    engine.wait_until_idle()
    for query in queries(metric, 5):
        nearest = full.check(query[np.newaxis], 20, category=None, exact=exact)
        full.check(query[np.newaxis], 20, category=None, exclude=nearest[0], exact=exact)
        full.check(query[np.newaxis], 1000, category=None, exact=exact)


@pytest.mark.parametrize("exact", [False, True])
def test_most_products_deleted(full: Shop, engine: Engine, metric: Metric, exact: bool) -> None:
    """However many products are deleted, one by one, the others are found."""
    for number in range(55):
        full.remove(f"p{number:02}")
        assert len(full.check(queries(metric), 10, exact=exact)) == min(10, 59 - number)
    engine.wait_until_idle()
    assert full.check(queries(metric), 1000, exact=exact)


def test_everything_deleted(full: Shop, engine: Engine, metric: Metric) -> None:
    """A category whose last product is deleted is unknown, and can be filled again."""
    full.remove(*list(full.rows))
    engine.wait_until_idle()
    for category in ("c", None):
        assert full.check(queries(metric), 5, category=category) == []
    assert engine.index.kind("c") is IndexKind.FLAT
    full.put("p00", queries(metric))
    assert full.check(queries(metric), 5, exact=False) == ["p00"]


@pytest.mark.parametrize("exact", [False, True])
def test_zero_vector(full: Shop, engine: Engine, metric: Metric, exact: bool) -> None:
    """An embedding of zeros is a row like any other: its cosine distance is 1 from everything, itself included."""
    zero = np.zeros((1, DIM), np.float32)
    full.put("zero", zero)
    engine.wait_until_idle()
    assert "zero" in full.check(queries(metric), 1000, exact=exact)
    first, *_ = full.check(zero, 1000, exact=exact)
    assert first == ("p00" if metric is Metric.COSINE else "zero")


def test_large_and_small_values(engine: Engine, metric: Metric) -> None:
    """Distances are correct from 1e-25 to 1e25, whose squares float32 cannot represent."""
    values = vectors(40, DIM, Metric.COSINE, seed=4).astype(np.float64) * np.logspace(-25, 25, 40)[:, np.newaxis]
    shop = Shop(engine.index, metric)
    rows = prepared(values, metric)
    shop.put_all({f"p{number:02}": row[np.newaxis] for number, row in enumerate(rows)})
    engine.wait_until_idle()
    for row in rows[::7]:
        found = engine.index.search([IndexQuery(row[np.newaxis], 10)], category="c", exact=True)[0]
        expected = shop.nearest(row[np.newaxis], 10)
        np.testing.assert_allclose(
            [hit.distance for hit in found.hits], [far for *_, far in expected], rtol=1e-6, atol=1e-6
        )


def test_distances_are_float32(full: Shop, engine: Engine, metric: Metric) -> None:
    """A distance loses nothing in a response, so distances that a caller sees as equal are ties."""
    found = engine.index.search([IndexQuery(queries(metric), 60)], category="c", exact=True)[0]
    assert [hit.distance for hit in found.hits] == [float(np.float32(hit.distance)) for hit in found.hits]


_CATEGORIES = st.sampled_from("abc")
_PRODUCTS = st.sampled_from([f"p{number}" for number in range(16)])
_CHOICES = st.integers(0, 11)  # few, so that many products are equal
_STEPS = st.one_of(
    st.tuples(st.just("put"), _PRODUCTS, _CATEGORIES, st.lists(_CHOICES, min_size=1, max_size=3)),
    st.tuples(st.just("put"), _PRODUCTS, st.just("a"), st.lists(_CHOICES, min_size=1, max_size=3)),
    st.tuples(st.just("remove"), _PRODUCTS),
    st.tuples(st.just("wait")),
)


@settings(
    derandomize=True,
    database=None,
    max_examples=40,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)
@given(st.lists(_STEPS, min_size=10, max_size=60), st.lists(_CHOICES, min_size=1, max_size=3), st.integers(1, 20))
def test_any_history(
    make: Callable[[Metric], Engine], metric: Metric, steps: list[tuple[object, ...]], choices: list[int], k: int
) -> None:
    """After any sequence of changes the results equal those of a list with the same changes."""
    pool = vectors(12, DIM, metric, seed=6)
    engine = make(metric)
    shop = Shop(engine.index, metric)
    for step in steps:
        match step:
            case ("put", str(product_id), str(category), list(images)):
                shop.put(product_id, pool[images], category)
            case ("remove", str(product_id)):
                shop.remove(product_id)
            case _:
                engine.wait_until_idle()
    for exact in (False, True):
        shop.check(pool[choices], k, category=None, exclude="p3", exact=exact)
        for name in "abc":
            shop.check(pool[choices], k, category=name, exclude="p3", exact=exact)
    engine.close()
