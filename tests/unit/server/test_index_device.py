"""Large categories that a device searches: every answer is exact, and the same as that of comparing every row."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator

import numpy as np
import pytest

from lookalike_server.device_search import matrix
from lookalike_server.device_search.rounding import RowErrors
from lookalike_server.domain import events
from lookalike_server.domain.catalog import IndexKind
from lookalike_server.domain.filters import Between, NoneOf, OneOf
from lookalike_server.domain.inference import Floats, Metric
from lookalike_server.domain.search import IndexQuery
from lookalike_server.index.category_index import CategoryIndex
from lookalike_server.index.device import DeviceSearchError, SearchDevice
from lookalike_server.index.graph import HnswSettings
from lookalike_server.index.segment import PartitionSettings
from support.fakes import RecordingObserver
from support.index_model import Shop, one_image_each, prepared
from support.search_devices import host_device, shared_device

DIM = 16
THRESHOLD = 20  # rows, above which a device searches

MakeDeviceIndex = Callable[..., CategoryIndex]


@pytest.fixture
def make_index(observer: RecordingObserver) -> Iterator[MakeDeviceIndex]:
    """Return a function that makes indexes with a device, which are closed after the test."""
    made = []

    def build(device: SearchDevice | None = None, **settings: float) -> CategoryIndex:
        index = CategoryIndex(
            PartitionSettings(
                DIM,
                Metric.COSINE,
                THRESHOLD,
                HnswSettings(),
                device=device or shared_device(DIM),
                **settings,  # type: ignore[arg-type]
            ),
            observer,
        )
        made.append(index)
        return index

    yield build
    for index in made:
        index.close()


def near(count: int, spread: float, seed: int = 1) -> Floats:
    """Return vectors around one, whose distances to each other are about the square of the spread."""
    chance = np.random.default_rng(seed)
    return prepared(chance.normal(size=(1, DIM)) + spread * chance.normal(size=(count, DIM)), Metric.COSINE)


def answers(index: CategoryIndex, queries: Floats, k: int = 10) -> list[list[tuple[str, int, float]]]:
    """Search for all queries at once, and return the hits of each; every answer must be exact."""
    results = index.search([IndexQuery(query[np.newaxis], k) for query in queries], category="c", exact=False)
    assert all(each.exact for each in results)
    return [[(hit.product_id, hit.image_index, hit.distance) for hit in each.hits] for each in results]


def compared(products: dict[str, Floats], queries: Floats, k: int = 10) -> list[list[tuple[str, int, float]]]:
    """Return what an index answers that compares every row."""
    index = CategoryIndex(PartitionSettings(DIM, Metric.COSINE, 10**9, HnswSettings()), RecordingObserver())
    Shop(index, Metric.COSINE).put_all(products)
    found = answers(index, queries, k)
    index.close()
    return found


@pytest.mark.parametrize("spread", [1.0, 0.1, 0.02, 0.005, 0.0001], ids=str)
@pytest.mark.parametrize("queries", [1, 3, 70])
def test_the_same_as_comparing_every_row(make_index: MakeDeviceIndex, spread: float, queries: int) -> None:
    """However near the rows are to each other, down to less than half precision tells apart, the answers are the same.

    In order, with equal distances.
    """
    products = one_image_each(near(600, spread))
    index = make_index()
    Shop(index, Metric.COSINE).put_all(products)
    index.wait_until_idle()
    asked = near(queries, spread, seed=1)
    assert answers(index, asked) == compared(products, asked)
    assert index.partitions["c"].waiting == 0


def test_without_the_bound_answers_are_wrong(make_index: MakeDeviceIndex, monkeypatch: pytest.MonkeyPatch) -> None:
    """The control: with a bound of zero, answers that are not exact are said to be."""
    products = one_image_each(near(600, 0.02))
    index = make_index()
    Shop(index, Metric.COSINE).put_all(products)
    index.wait_until_idle()
    asked = near(20, 0.02)
    right = compared(products, asked)
    assert answers(index, asked) == right
    monkeypatch.setattr(matrix, "ROUNDING", 0.0)
    monkeypatch.setattr(RowErrors, "of_queries", lambda _, queries, __: np.zeros(len(queries)))
    assert answers(index, asked) != right


@pytest.mark.parametrize("k", [1, 10, 99, 100, 250])
def test_more_equal_rows_than_candidates(make_index: MakeDeviceIndex, k: int) -> None:
    """Of hundreds of identical rows the first come by product id, and no other is missed behind them."""
    index = make_index()
    shop = Shop(index, Metric.COSINE)
    same, others = near(1, 1.0), near(150, 1.0, seed=2)
    products = one_image_each(np.repeat(same, 200, axis=0), "same") | one_image_each(others)
    order = np.random.default_rng(3).permutation(list(products)).tolist()
    shop.put_all({product_id: products[product_id] for product_id in order})
    index.wait_until_idle()
    for query in (same, near(1, 0.3, seed=4)):
        shop.check(query, k, exact=False)
    assert answers(index, same, 10)[0][0][0] == "same00000"


def test_products_of_many_images(make_index: MakeDeviceIndex) -> None:
    """Where the nearest candidates are all of one product, the others are found too."""
    index = make_index()
    shop = Shop(index, Metric.COSINE)
    shop.put("many", near(120, 0.05))
    shop.put_all({f"p{number:02}": near(1 + number % 3, 1.0, seed=10 + number) for number in range(40)})
    index.wait_until_idle()
    query = near(1, 0.05)
    assert shop.check(query, 5, exact=False)[0] == "many"
    assert "many" not in shop.check(query, 5, exclude="many", exact=False)
    shop.check(np.concatenate([query, near(2, 1.0, seed=11)]), 7, exact=False)


def test_new_and_deleted_rows(make_index: MakeDeviceIndex) -> None:
    """Rows are found from the moment they are added, and not from when they are deleted, wherever they are."""
    index = make_index()
    shop = Shop(index, Metric.COSINE)
    shop.put_all(one_image_each(near(300, 1.0)))
    index.wait_until_idle()
    query = near(1, 1.0, seed=2)
    for number in range(60):
        first, *_ = shop.check(query, 12, exact=False)
        shop.remove(first)
        shop.put(f"new{number}", near(1, 1.0, seed=100 + number))
    index.wait_until_idle()
    shop.check(query, 12, exact=False)
    partition = index.partitions["c"]
    assert (partition.kind, len(partition.segments)) == (IndexKind.FLAT, 0)
    assert not index.is_cheap("c")


def test_compaction(make_index: MakeDeviceIndex) -> None:
    """After most products are deleted, their memory is free, there and on the device, and the others are found."""
    device, memory = host_device(DIM)
    idle = memory.allocated
    index = make_index(device)
    shop = Shop(index, Metric.COSINE)
    shop.put_all(one_image_each(near(1500, 1.0)))
    index.wait_until_idle()
    full = memory.allocated - idle
    shop.remove(*[f"p{number:05}" for number in range(1500) if number % 5])
    index.wait_until_idle()
    assert index.partitions["c"].row_count < 500
    shop.check(near(1, 1.0, seed=2), 20, exact=False)
    shop.put_all(one_image_each(near(100, 1.0, seed=3), "new"))
    index.wait_until_idle()
    shop.check(near(1, 1.0, seed=2), 20, exact=False)
    assert memory.allocated - idle < full / 2


def test_memory_of_a_category_that_goes(make_index: MakeDeviceIndex) -> None:
    """A category without products has nothing on the device."""
    device, memory = host_device(DIM)
    index = make_index(device)
    shop = Shop(index, Metric.COSINE)
    shop.put_all(one_image_each(near(300, 1.0)))
    index.wait_until_idle()
    used = memory.allocated
    shop.put_all(one_image_each(near(300, 1.0), "other"), "d")
    index.wait_until_idle()
    assert memory.allocated > used
    shop.remove(*[product_id for product_id in list(shop.rows) if product_id.startswith("other")])
    index.wait_until_idle()
    assert memory.allocated == used


def test_filters(make_index: MakeDeviceIndex) -> None:
    """Conditions are masks on the device; few products that meet them are compared without it."""
    index = make_index()
    shop = Shop(index, Metric.COSINE)
    for number, row in enumerate(near(500, 1.0)):
        color = "gold" if number % 50 == 0 else ("red", "blue")[number % 2]
        shop.put_all({f"p{number:03}": row[np.newaxis]}, attributes={"color": color, "price": str(number)})
    index.wait_until_idle()
    shop.remove("p001", "p003")
    for conditions in (
        (OneOf("color", frozenset({"red"})),),
        (OneOf("color", frozenset({"gold"})),),
        (NoneOf("color", frozenset({"gold"})), Between("price", 100, 300)),
        (OneOf("color", frozenset({"green"})),),
    ):
        for k in (5, 300):
            shop.check(near(1, 1.0, seed=2), k, conditions=conditions, exact=False)


def test_too_little_memory(make_index: MakeDeviceIndex, observer: RecordingObserver) -> None:
    """A category that does not fit is searched by graphs, which one event says; others stay on the device."""
    device, _ = host_device(DIM, limit=200_000)
    index = make_index(device)
    shop = Shop(index, Metric.COSINE)
    shop.put_all(one_image_each(near(200, 1.0)))
    index.wait_until_idle()
    shop.put_all(one_image_each(near(6000, 1.0, seed=2), "large"), "d")
    index.wait_until_idle()
    (failed,) = observer.of(events.DeviceSearchFailed)
    assert (failed.category, "are not free" in str(failed.error)) == ("d", True)
    assert (index.kind("c"), index.kind("d")) == (IndexKind.FLAT, IndexKind.HNSW)
    assert index.partitions["c"].waiting == 0
    shop.check(near(1, 1.0, seed=3), 10, exact=False)
    shop.check(near(1, 1.0, seed=3), 10, category="d", exact=False)


def test_a_device_that_fails(
    make_index: MakeDeviceIndex, observer: RecordingObserver, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The search in which the device fails is answered exactly all the same, and graphs are built."""
    index = make_index()
    shop = Shop(index, Metric.COSINE)
    shop.put_all(one_image_each(near(300, 1.0)))
    index.wait_until_idle()

    def fail(*_: object) -> None:
        raise DeviceSearchError("unplugged")

    monkeypatch.setattr(matrix.MatrixView, "candidates", fail)
    query = near(1, 1.0, seed=2)
    shop.check(query, 10, exact=False)
    index.wait_until_idle()
    assert index.kind("c") is IndexKind.HNSW
    shop.check(query, 10, exact=False)
    assert [str(event.error) for event in observer.of(events.DeviceSearchFailed)] == ["unplugged"]
    assert observer.maintenance_faults == []


def test_searches_during_changes(make_index: MakeDeviceIndex) -> None:
    """While products are added, replaced and deleted, every search finds what is there all the time."""
    index = make_index(max_waiting_rows=64)
    shop = Shop(index, Metric.COSINE)
    stays = near(40, 1.0)
    shop.put_all(one_image_each(stays, "stays"))
    ended = threading.Event()
    missing: list[str] = []  # what was found instead

    def search() -> None:
        while not ended.is_set():
            for number, row in enumerate(stays[:8]):
                (result,) = index.search([IndexQuery(row[np.newaxis], 1)], category="c", exact=False)
                if not result.exact or result.hits[0].product_id != f"stays{number:05}":
                    missing.append(result.hits[0].product_id)

    searchers = [threading.Thread(target=search) for _ in range(2)]
    for each in searchers:
        each.start()
    try:
        for step in range(12):
            shop.put_all(one_image_each(near(60, 1.0, seed=10 + step), f"s{step}-"))
            if step >= 2:
                shop.remove(*[product_id for product_id in shop.rows if product_id.startswith(f"s{step - 2}-")])
        index.wait_until_idle()
    finally:
        ended.set()
        for each in searchers:
            each.join()
    assert missing == []
    shop.check(near(1, 1.0, seed=9), 30, exact=False)
