"""The contract of every `VectorIndex`: one suite over each engine and metric, compared with brute force.

Another engine joins by a line in `ENGINES`.
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
from lookalike_server.index.hnsw import HnswSettings
from lookalike_server.index.segment import PartitionSettings
from support.fakes import RecordingObserver
from support.index_model import Shop, prepared, vectors

DIM = 7  # odd, so that rows lie at every alignment


@dataclass(frozen=True)
class Engine:
    """An index to test, with what a test needs besides the contract.

    Attributes:
        index: The index.
        settle: Waits until it searches as it will while nothing changes.
        kind: How it then searches a category of more than ten rows.
        close: Ends it.
    """

    index: VectorIndex
    settle: Callable[[], None]
    kind: IndexKind
    close: Callable[[], None] = field(repr=False)


def flat(metric: Metric) -> Engine:
    """Every row compared."""
    return partitioned(metric, full_scan_threshold=10**9, kind=IndexKind.FLAT)


def hnsw(metric: Metric) -> Engine:
    """A graph from the eleventh row on, with so many candidates that small categories are searched whole."""
    return partitioned(metric, full_scan_threshold=10, kind=IndexKind.HNSW)


def segments(metric: Metric) -> Engine:
    """A graph for every twenty rows."""
    return partitioned(metric, full_scan_threshold=10, kind=IndexKind.HNSW, max_segment_rows=20)


def partitioned(metric: Metric, full_scan_threshold: int, kind: IndexKind, max_segment_rows: int = 10**9) -> Engine:
    """The embedded index."""
    graphs = HnswSettings(m=16, ef_construction=200, ef_search=400)
    settings = PartitionSettings(DIM, metric, full_scan_threshold, graphs, max_segment_rows)
    index = CategoryIndex(settings, RecordingObserver())
    return Engine(index, index.settle, kind, index.close)


ENGINES = (flat, hnsw, segments)


@pytest.fixture(params=Metric, ids=lambda metric: metric.value)
def metric(request: pytest.FixtureRequest) -> Metric:
    """Each way to measure."""
    assert isinstance(request.param, Metric)
    return request.param


@pytest.fixture(params=ENGINES, ids=lambda make: make.__name__)
def make(request: pytest.FixtureRequest) -> Callable[[Metric], Engine]:
    """Each engine's maker."""
    chosen: Callable[[Metric], Engine] = request.param
    return chosen


@pytest.fixture
def engine(make: Callable[[Metric], Engine], metric: Metric) -> Iterator[Engine]:
    """Each engine, empty."""
    made = make(metric)
    yield made
    made.close()


@pytest.fixture
def shop(engine: Engine, metric: Metric) -> Shop:
    """A shop over it, empty."""
    return Shop(engine.index, metric)


@pytest.fixture
def full(shop: Shop, engine: Engine, metric: Metric) -> Shop:
    """A shop of 60 products with one to four images each in one category, settled."""
    rows = iter(vectors(150, DIM, metric, seed=1))
    shop.put_all({f"p{number:02}": np.stack([next(rows) for _ in range(1 + number % 4)]) for number in range(60)})
    engine.settle()
    return shop


def queries(metric: Metric, number: int = 1, seed: int = 2) -> Floats:
    """Queries about nothing in particular."""
    return vectors(number, DIM, metric, seed)


@pytest.mark.parametrize("exact", [False, True])
@pytest.mark.parametrize("k", [1, 2, 10, 59, 60])
def test_nearest_products(full: Shop, metric: Metric, k: int, exact: bool) -> None:
    """The k nearest products are found, each once by its best image, nearest first, with their true distances."""
    for query in queries(metric, 10):
        assert len(full.check(query[np.newaxis], k, exact=exact)) == k


@pytest.mark.parametrize("exact", [False, True])
def test_more_wanted_than_there_are(full: Shop, metric: Metric, exact: bool) -> None:
    """Where there are fewer than k products, all of them are the answer."""
    assert len(full.check(queries(metric), 1000, exact=exact)) == 60


def test_unknown_category(full: Shop, engine: Engine, metric: Metric) -> None:
    """A category that nothing is in has no hits, for certain."""
    found = engine.index.search([IndexQuery(queries(metric), 10)], category="nowhere", exact=False)[0]
    assert (list(found.hits), found.exact) == ([], True)


def test_empty_index(engine: Engine, metric: Metric) -> None:
    """An empty catalog has no hits, in all categories too."""
    found = engine.index.search([IndexQuery(queries(metric), 10)], category=None, exact=False)[0]
    assert (list(found.hits), found.exact) == ([], True)


def test_kind(full: Shop, engine: Engine) -> None:
    """An index says how it searches a category; one that nothing is in is searched flat."""
    assert engine.index.kind("c") is engine.kind
    assert engine.index.kind("nowhere") is IndexKind.FLAT


def test_exactness_is_told(full: Shop, engine: Engine, metric: Metric) -> None:
    """An answer says whether every row was compared, and it is when that was asked for."""
    for exact in (False, True):
        for category in ("c", None):
            found = engine.index.search([IndexQuery(queries(metric), 5)], category=category, exact=exact)[0]
            assert found.exact == (exact or engine.kind is IndexKind.FLAT)


@pytest.mark.parametrize("exact", [False, True])
def test_excluded_product(full: Shop, metric: Metric, exact: bool) -> None:
    """An excluded product is no answer, and another takes its place so that there are still k."""
    query = queries(metric)
    nearest, *others = full.check(query, 11, exact=exact)
    assert full.check(query, 10, exclude=nearest, exact=exact) == others
    assert full.check(query, 11, exclude="no such product", exact=exact) == [nearest, *others]
    assert len(full.check(query, 60, exclude=nearest, exact=exact)) == 59


@pytest.mark.parametrize("exact", [False, True])
def test_a_products_own_images_find_it_once(full: Shop, engine: Engine, metric: Metric, exact: bool) -> None:
    """Each image of a product finds it, at distance 0 and not nearly, though its others are near too."""
    for product_id, rows in full.rows.items():
        for _, row in rows:
            first, *_ = full.check(row.vector[np.newaxis], 3, exact=exact)
            assert first == product_id
            found = engine.index.search([IndexQuery(row.vector[np.newaxis], 1)], category="c", exact=exact)[0]
            assert found.hits[0].distance == 0.0


@pytest.mark.parametrize("exact", [False, True])
def test_several_questions_are_one(full: Shop, metric: Metric, exact: bool) -> None:
    """Of several queries each product's distance is that to the nearest of them."""
    asked = ["p07", "p23", "p41"]
    together = np.stack([full.rows[product_id][0][1].vector for product_id in asked])
    assert set(full.check(together, 3, exact=exact)) == set(asked)
    assert len(full.check(together, 20, exact=exact)) == 20


@pytest.mark.parametrize("k", [1, 2, 7, 49, 50, 51, 80])
def test_ties_by_product_id(full: Shop, engine: Engine, metric: Metric, k: int) -> None:
    """Of 50 products that look the same, k are found in the order of their ids, whatever order they came in."""
    same = queries(metric, seed=5)
    ids = [f"same{number:02}" for number in np.random.default_rng(3).permutation(50)]
    for product_id in ids:
        full.put(product_id, same)
    engine.settle()
    assert full.check(same, k)[:50] == sorted(ids)[:k]
    assert {*full.check(same, k, exact=False)[:50]} <= {*ids}


def test_ties_across_categories(shop: Shop, engine: Engine, metric: Metric) -> None:
    """Products that look the same are equally far away, to the last bit, however full their categories are."""
    same = vectors(1, DIM, metric, seed=5)
    for number, size in enumerate([1, 2, 3, 5, 8, 13, 21]):
        others = vectors(size, DIM, metric, seed=10 + number)
        shop.put_all({f"other{number}-{i}": row[np.newaxis] for i, row in enumerate(others)}, f"category {number}")
        shop.put(f"same{9 - number}", same, f"category {number}")
    engine.settle()
    query = queries(metric)
    found = engine.index.search([IndexQuery(query, 100)], category=None, exact=True)[0]
    assert len({hit.distance for hit in found.hits if hit.product_id.startswith("same")}) == 1
    assert shop.check(same, 7, category=None) == [f"same{number}" for number in range(3, 10)]


@pytest.mark.parametrize("exact", [False, True])
def test_visible_at_once(full: Shop, metric: Metric, exact: bool) -> None:
    """What was taken in is found by the next search, and what was taken out is not."""
    for number in range(30):
        vector = vectors(1, DIM, metric, seed=100 + number)
        full.put(f"new{number}", vector)
        assert full.check(vector, 1, exact=exact) == [f"new{number}"]
        full.remove(f"p{number:02}")
        assert f"p{number:02}" not in full.check(vector, 1000, exact=exact)


@pytest.mark.parametrize("exact", [False, True])
def test_replaced(full: Shop, metric: Metric, exact: bool) -> None:
    """A product stored again is found by its new images only, though they are fewer."""
    old = full.rows["p07"][0][1].vector[np.newaxis]
    new = vectors(1, DIM, metric, seed=9)
    assert len(full.rows["p07"]) == 4
    full.put("p07", new)
    assert full.check(new, 1, exact=exact) == ["p07"]
    assert full.check(old, 1, exact=exact) != ["p07"]


@pytest.mark.parametrize("exact", [False, True])
def test_moved(full: Shop, engine: Engine, metric: Metric, exact: bool) -> None:
    """A product stored in another category is found there only."""
    vector = full.rows["p08"][0][1].vector[np.newaxis]
    full.put("p08", vector, "elsewhere")
    assert full.check(vector, 1, category="elsewhere", exact=exact) == ["p08"]
    assert full.check(vector, 1, category=None, exact=exact) == ["p08"]
    assert "p08" not in full.check(vector, 1000, category="c", exact=exact)
    full.put("p08", vector)
    assert full.check(vector, 1000, category="elsewhere", exact=exact) == []


@pytest.mark.parametrize("exact", [False, True])
def test_all_categories(full: Shop, engine: Engine, metric: Metric, exact: bool) -> None:
    """Without a category the nearest of all are found."""
    for number, category in enumerate("abd"):
        rows = vectors(15, DIM, metric, seed=20 + number)
        full.put_all({f"{category}{i}": row[np.newaxis] for i, row in enumerate(rows)}, category)
    engine.settle()
    for query in queries(metric, 5):
        nearest = full.check(query[np.newaxis], 20, category=None, exact=exact)
        full.check(query[np.newaxis], 20, category=None, exclude=nearest[0], exact=exact)
        full.check(query[np.newaxis], 1000, category=None, exact=exact)


@pytest.mark.parametrize("exact", [False, True])
def test_most_products_deleted(full: Shop, engine: Engine, metric: Metric, exact: bool) -> None:
    """However many products go, one by one, those that stay are found."""
    for number in range(55):
        full.remove(f"p{number:02}")
        assert len(full.check(queries(metric), 10, exact=exact)) == min(10, 59 - number)
    engine.settle()
    assert full.check(queries(metric), 1000, exact=exact)


def test_everything_deleted(full: Shop, engine: Engine, metric: Metric) -> None:
    """A category whose last product goes is as one that never was, and can be filled again."""
    full.remove(*list(full.rows))
    engine.settle()
    for category in ("c", None):
        assert full.check(queries(metric), 5, category=category) == []
    assert engine.index.kind("c") is IndexKind.FLAT
    full.put("p00", queries(metric))
    assert full.check(queries(metric), 5, exact=False) == ["p00"]


@pytest.mark.parametrize("exact", [False, True])
def test_zero_vector(full: Shop, engine: Engine, metric: Metric, exact: bool) -> None:
    """An embedding of zeros is a row like others: by cosine it is 1 from everything, itself included."""
    zero = np.zeros((1, DIM), np.float32)
    full.put("zero", zero)
    engine.settle()
    assert "zero" in full.check(queries(metric), 1000, exact=exact)
    first, *_ = full.check(zero, 1000, exact=exact)
    assert first == ("p00" if metric is Metric.COSINE else "zero")


def test_large_and_small_numbers(engine: Engine, metric: Metric) -> None:
    """Distances are right from 1e-25 to 1e25, where float32 has no squares."""
    values = vectors(40, DIM, Metric.COSINE, seed=4).astype(np.float64) * np.logspace(-25, 25, 40)[:, np.newaxis]
    shop = Shop(engine.index, metric)
    rows = prepared(values, metric)
    shop.put_all({f"p{number:02}": row[np.newaxis] for number, row in enumerate(rows)})
    engine.settle()
    for row in rows[::7]:
        found = engine.index.search([IndexQuery(row[np.newaxis], 10)], category="c", exact=True)[0]
        right = shop.nearest(row[np.newaxis], 10)
        np.testing.assert_allclose(
            [hit.distance for hit in found.hits], [far for *_, far in right], rtol=1e-6, atol=1e-6
        )


def test_distances_are_those_of_answers(full: Shop, engine: Engine, metric: Metric) -> None:
    """A distance loses nothing on its way to the caller, so what is equal there is a tie here."""
    found = engine.index.search([IndexQuery(queries(metric), 60)], category="c", exact=True)[0]
    assert [hit.distance for hit in found.hits] == [float(np.float32(hit.distance)) for hit in found.hits]


_CATEGORIES = st.sampled_from("abc")
_PRODUCTS = st.sampled_from([f"p{number}" for number in range(16)])
_LOOKS = st.integers(0, 11)  # few, so that many products look the same
_STEPS = st.one_of(
    st.tuples(st.just("put"), _PRODUCTS, _CATEGORIES, st.lists(_LOOKS, min_size=1, max_size=3)),
    st.tuples(st.just("put"), _PRODUCTS, st.just("a"), st.lists(_LOOKS, min_size=1, max_size=3)),
    st.tuples(st.just("remove"), _PRODUCTS),
    st.tuples(st.just("settle")),
)


@settings(
    derandomize=True,
    deadline=None,
    database=None,
    max_examples=40,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(st.lists(_STEPS, min_size=10, max_size=60), st.lists(_LOOKS, min_size=1, max_size=3), st.integers(1, 20))
def test_any_history(
    make: Callable[[Metric], Engine], metric: Metric, steps: list[tuple[object, ...]], looks: list[int], k: int
) -> None:
    """After any sequence of changes the answers are those of a list that took the same changes."""
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
                engine.settle()
    for exact in (False, True):
        shop.check(pool[looks], k, category=None, exclude="p3", exact=exact)
        for name in "abc":
            shop.check(pool[looks], k, category=name, exclude="p3", exact=exact)
    engine.close()
