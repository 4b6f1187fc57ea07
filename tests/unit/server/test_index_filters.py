"""Filters: a search finds the nearest products that meet the conditions, and k of them if k exist."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lookalike_server.domain.filters import Between, Condition, NoneOf, OneOf
from lookalike_server.domain.inference import Metric
from lookalike_server.domain.search import IndexQuery
from lookalike_server.index.attributes import AttributeColumns
from lookalike_server.index.category_index import CategoryIndex
from lookalike_server.index.device import SearchDevice
from lookalike_server.index.graph import HnswSettings
from lookalike_server.index.segment import PartitionSettings
from support.fakes import RecordingObserver
from support.index_model import Shop, vectors
from support.search_devices import shared_device

DIM = 7
COLORS = ("red", "blue", "green", "")
PRICES = ("5", "7.50", "+12", "1e1", ".5", "-3", "cheap", "nan", "inf", "1_0", " 4", "")


def index(
    full_scan_threshold: int, observer: RecordingObserver | None = None, device: SearchDevice | None = None
) -> CategoryIndex:
    """Make an index that builds graphs above this many rows, or has a device search them."""
    settings_ = PartitionSettings(DIM, Metric.COSINE, full_scan_threshold, HnswSettings(ef_search=400), device=device)
    return CategoryIndex(settings_, observer or RecordingObserver())


@pytest.fixture(params=["flat", "graph", "device"])
def shop(request: pytest.FixtureRequest) -> Iterator[Shop]:
    """300 products: every third is red, every hundredth gold, and the price is the number."""
    device = shared_device(DIM) if request.param == "device" else None
    made = index(10**9 if request.param == "flat" else 40, device=device)
    shop = Shop(made, Metric.COSINE)
    for number, row in enumerate(vectors(300, DIM, Metric.COSINE, seed=1)):
        color = "gold" if number % 100 == 0 else COLORS[number % 3]
        shop.put_all({f"p{number:03}": row[np.newaxis]}, attributes={"color": color, "price": str(number)})
    made.wait_until_idle()
    yield shop
    made.close()


QUERY = vectors(1, DIM, Metric.COSINE, seed=2)

CONDITIONS: dict[str, tuple[tuple[Condition, ...], int]] = {
    "few": ((OneOf("color", frozenset({"gold"})),), 3),
    "many": ((NoneOf("color", frozenset({"gold"})),), 297),
    "some of several": ((OneOf("color", frozenset({"gold", "blue", "no such color"})),), 102),
    "a range": ((Between("price", 100, 149.5),), 50),
    "open ranges": ((Between("price", 290, math.inf),), 10),
    "all must hold": ((OneOf("color", frozenset({"gold"})), Between("price", 150, 250)), 1),
    "no such value": ((OneOf("color", frozenset({"purple"})),), 0),
    "no such attribute": ((OneOf("size", frozenset({""})),), 0),
    "none of an unknown attribute": ((NoneOf("size", frozenset({""})),), 300),
}


@pytest.mark.parametrize("name", CONDITIONS)
@pytest.mark.parametrize("k", [1, 10, 1000])
@pytest.mark.parametrize("exact", [False, True])
def test_k_results_if_k_exist(shop: Shop, name: str, k: int, exact: bool) -> None:
    """However few or many products meet the conditions, the nearest k of them are found."""
    conditions, count = CONDITIONS[name]
    assert len(shop.check(QUERY, k, conditions=conditions, exact=exact)) == min(k, count)
    assert len(shop.check(QUERY, k, category=None, conditions=conditions, exact=exact)) == min(k, count)


def test_attributes_change_without_vectors(shop: Shop) -> None:
    """A product whose attributes are updated is found by the new ones, and keeps its labels."""
    gold = (OneOf("color", frozenset({"gold"})),)
    before = {product_id: rows[0][1].label for product_id, rows in shop.rows.items()}
    shop.update_attributes("p007", {"color": "gold"})
    shop.update_attributes("p100", {"size": "M"})
    assert sorted(shop.check(QUERY, 10, conditions=gold)) == ["p000", "p007", "p200"]
    assert shop.check(QUERY, 10, conditions=(OneOf("size", frozenset({"M"})),)) == ["p100"]
    assert shop.check(QUERY, 10, conditions=(Between("price", 100, 100),)) == []
    assert {product_id: rows[0][1].label for product_id, rows in shop.rows.items()} == before


def test_exactness_of_filtered_searches() -> None:
    """If many rows meet the conditions the graph is searched, and the result is not exact; if few do, it is."""
    made = index(full_scan_threshold=40)
    shop = Shop(made, Metric.COSINE)
    rows = vectors(2000, DIM, Metric.COSINE, seed=3)
    for color, part in (("red", rows[:1500]), ("blue", rows[1500:1980]), ("gold", rows[1980:])):
        shop.put_all({f"{color}{i:04}": row[np.newaxis] for i, row in enumerate(part)}, attributes={"color": color})
    made.wait_until_idle()

    def exact(color: str) -> bool:
        conditions = (OneOf("color", frozenset({color})),)
        return made.search([IndexQuery(QUERY, 5)], category="c", exact=False, conditions=conditions)[0].exact

    assert [exact(color) for color in ("red", "blue", "gold")] == [False, False, True]
    made.close()


def test_fallback_if_the_graph_finds_too_few() -> None:
    """If only rows far from the query meet the conditions, the graph finds none of them, and all rows are compared."""
    observer = RecordingObserver()
    made = index(full_scan_threshold=40, observer=observer)
    shop = Shop(made, Metric.COSINE)
    near = vectors(1, DIM, Metric.COSINE, seed=4)
    rows = vectors(1000, DIM, Metric.COSINE, seed=5)
    alike = near + 0.05 * rows[:700]
    shop.put_all(
        {f"near{i:04}": row[np.newaxis] for i, row in enumerate(alike / np.linalg.norm(alike, axis=1)[:, None])}
    )
    far = -near + 0.05 * rows[700:]
    shop.put_all(
        {f"far{i:04}": row[np.newaxis] for i, row in enumerate(far / np.linalg.norm(far, axis=1)[:, None])},
        attributes={"color": "red"},
    )
    made.wait_until_idle()
    conditions = (OneOf("color", frozenset({"red"})),)
    assert len(shop.check(near, 10, conditions=conditions, exact=False)) == 10
    assert observer.fallbacks
    made.close()


_PRODUCTS = st.sampled_from([f"p{number}" for number in range(12)])
_ATTRIBUTES = st.fixed_dictionaries(
    {}, optional={"color": st.sampled_from(COLORS), "price": st.sampled_from(PRICES), "size": st.just("M")}
)
_STEPS = st.one_of(
    st.tuples(st.just("put"), _PRODUCTS, st.sampled_from("ab"), st.integers(1, 3), _ATTRIBUTES),
    st.tuples(st.just("update_attributes"), _PRODUCTS, _ATTRIBUTES),
    st.tuples(st.just("remove"), _PRODUCTS),
)
_TEXTS = st.frozensets(st.sampled_from((*COLORS, *PRICES)), min_size=1, max_size=4)
_BOUNDS = st.tuples(st.integers(-5, 15), st.integers(0, 10))
_NAMES = st.sampled_from(["color", "price", "size", "nothing"])
_CONDITIONS = st.lists(
    st.one_of(
        st.builds(OneOf, _NAMES, _TEXTS),
        st.builds(NoneOf, _NAMES, _TEXTS),
        st.builds(lambda name, bounds: Between(name, bounds[0], bounds[0] + bounds[1]), _NAMES, _BOUNDS),
    ),
    min_size=1,
    max_size=3,
)


@settings(
    derandomize=True,
    database=None,
    max_examples=80,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)
@given(st.lists(_STEPS, max_size=50), _CONDITIONS)
@pytest.mark.parametrize(("full_scan_threshold", "device"), [(4, False), (4, True), (10**9, False)])
def test_any_history(
    full_scan_threshold: int, device: bool, steps: list[tuple[object, ...]], conditions: list[Condition]
) -> None:
    """After any changes the results equal those of a list with the same changes."""
    pool = vectors(12, DIM, Metric.COSINE, seed=6)
    made = index(full_scan_threshold, device=shared_device(DIM) if device else None)
    shop = Shop(made, Metric.COSINE)
    changes: dict[str, Callable[..., None]] = {
        "put": lambda name, category, images, attributes: shop.put_all({name: pool[:images]}, category, attributes),
        "update_attributes": shop.update_attributes,
        "remove": shop.remove,
    }
    for name, *arguments in steps:
        changes[str(name)](*arguments)
    for category in (None, "a", "b"):
        shop.check(QUERY, 5, category=category, conditions=conditions)
    made.close()


def test_unused_values_and_columns_are_dropped() -> None:
    """A value that changes all day has one code at a time, and an attribute that no row has any more has no column."""
    columns = AttributeColumns()
    columns.put(0, {"color": "red"})
    for price in range(10_000):
        columns.put(1, {"price": str(price)})
    assert columns.of(1) == {"price": "9999"}
    assert repr(columns) == "AttributeColumns(rows=2, codes={'color': 1, 'price': 1})"
    columns.drop(1)
    assert repr(columns) == "AttributeColumns(rows=1, codes={'color': 1})"
    assert columns.matching((OneOf("color", frozenset({"red"})),), 3).tolist() == [True, False, False]
