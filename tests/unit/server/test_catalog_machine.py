"""Store, index and retriever against a plain dictionary: any history of writes, restarts and searches."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from lookalike_server.domain.catalog import EmbeddedProduct, Product
from lookalike_server.domain.errors import LookalikeError
from lookalike_server.domain.filters import Condition, NoneOf, OneOf
from lookalike_server.domain.inference import Metric
from lookalike_server.domain.search import EmbeddedQuery, IndexQuery, Query, ResultOptions, SearchResult
from lookalike_server.index.category_index import CategoryIndex
from lookalike_server.index.device import SearchDevice
from lookalike_server.index.graph import HnswSettings
from lookalike_server.index.segment import PartitionSettings
from lookalike_server.search.retriever import Retriever
from lookalike_server.store.catalog_store import Store
from support.fakes import RecordingObserver
from support.index_model import distance, meets, vectors
from support.search_devices import shared_device
from support.store_fixtures import MODEL

DIM = 4
VECTORS = vectors(10, DIM, Metric.COSINE, seed=1)  # few, so that many products are equal
COSINE = replace(MODEL, metric=Metric.COSINE, dim=DIM)

PRODUCTS = st.sampled_from([f"p{number:02}" for number in range(8)])
CATEGORIES = st.sampled_from(["a", "b", "c"])
COLORS = st.sampled_from(["red", "blue"])
CHOICES = st.lists(st.integers(0, 9), min_size=1, max_size=3)
FILTERS: tuple[tuple[Condition, ...], ...] = (
    (),
    (OneOf("color", frozenset({"red"})),),
    (NoneOf("color", frozenset({"red"})),),
)


@dataclass(frozen=True)
class Known:
    """The expected state of a product."""

    category: str
    attributes: dict[str, str]
    choices: tuple[int, ...]


class Catalog(RuleBasedStateMachine):
    """Writes to the store, searches by the retriever, and a dictionary with the expected contents."""

    @staticmethod
    def device() -> SearchDevice | None:
        """Return what searches large categories; graphs do without one."""
        return None

    @initialize()
    def open(self) -> None:
        """Begin with an empty folder."""
        self._folder = tempfile.TemporaryDirectory()
        self._known: dict[str, Known] = {}
        self._start()

    def _start(self) -> None:
        graphs = HnswSettings(ef_search=100)
        settings = PartitionSettings(
            DIM, Metric.COSINE, 4, graphs, max_segment_rows=8, max_shard_rows=16, device=self.device()
        )
        self._index = CategoryIndex(settings, RecordingObserver())
        self._store = Store(Path(self._folder.name), COSINE, self._index.apply, product_cache_bytes=1 << 20)
        self._index.open(self._store, Path(self._folder.name) / "index")
        self._retriever = Retriever(self._index, self._store, Metric.COSINE)

    def _stop(self) -> None:
        self._index.close()
        self._store.close()

    def teardown(self) -> None:
        """Close everything and delete the folder."""
        if hasattr(self, "_folder"):
            self._stop()
            self._folder.cleanup()

    @rule(names=st.sets(PRODUCTS, min_size=1), category=CATEGORIES, color=COLORS, choices=CHOICES)
    def upsert(self, names: set[str], category: str, color: str, choices: list[int]) -> None:
        """Store, replace or move products."""
        for name in sorted(names):
            self._known[name] = Known(category, {"color": color}, tuple(choices))
            product = Product(name, category, "", "", {"color": color})
            self._store.upsert(EmbeddedProduct(product, VECTORS[choices])).result(timeout=60)

    @rule(name=PRODUCTS)
    def delete(self, name: str) -> None:
        """Delete a product, if it exists."""
        assert self._store.delete(name).result(timeout=60) is (self._known.pop(name, None) is not None)

    @rule(name=PRODUCTS, color=COLORS)
    def update_attributes(self, name: str, color: str) -> None:
        """Change a product's attributes, if it exists."""
        known = self._known.get(name)
        assert self._store.update_attributes(name, {"color": color}, ["no such"]).result(timeout=60) is (
            known is not None
        )
        if known is not None:
            self._known[name] = replace(known, attributes={"color": color})

    @rule()
    def restart(self) -> None:
        """Close everything and open it again."""
        self._stop()
        self._start()

    @rule()
    def wait_until_idle(self) -> None:
        """Wait for the graphs."""
        self._index.wait_until_idle()

    @rule(
        choice=st.integers(0, 9),
        category=st.none() | CATEGORIES,
        k=st.integers(1, 20),
        conditions=st.sampled_from(FILTERS),
        collapse=st.booleans(),
    )
    def search(
        self, choice: int, category: str | None, k: int, conditions: tuple[Condition, ...], *, collapse: bool
    ) -> None:
        """Search, and compare with the dictionary."""
        query = Query(
            vector=VECTORS[choice],
            category=category,
            all_categories=category is None,
            k=k,
            exact=True,
            conditions=conditions,
            options=ResultOptions(collapse=collapse),
        )
        (result,) = self._retriever.search([EmbeddedQuery(query, VECTORS[choice][np.newaxis])])
        assert isinstance(result, SearchResult)
        expected = self._expected(choice, category, conditions)
        found = [(each.distance, each.product.id) for each in result.neighbors]
        if not collapse:
            assert [name for _, name in found] == [name for _, name, _ in expected[:k]]
        else:
            by_choice: dict[int, list[str]] = {}
            for _, name, nearest in expected:
                by_choice.setdefault(nearest, []).append(name)
            groups = list(by_choice.values())[:k]
            actual = [[each.product.id, *(duplicate.id for duplicate in each.duplicates)] for each in result.neighbors]
            assert actual == groups
        by_name = {name: far for far, name, _ in expected}
        np.testing.assert_allclose([far for far, _ in found], [by_name[name] for _, name in found], atol=1e-6)

    def _expected(
        self, choice: int, category: str | None, conditions: tuple[Condition, ...]
    ) -> list[tuple[float, str, int]]:
        """Distance, name and nearest vector of every product that meets the conditions, nearest first."""
        return sorted(
            min((distance(VECTORS[each], VECTORS[choice], Metric.COSINE), name, each) for each in known.choices)
            for name, known in self._known.items()
            if category in (None, known.category) and all(meets(known.attributes, each) for each in conditions)
        )

    @rule(name=PRODUCTS)
    def by_product(self, name: str) -> None:
        """Search for a product's neighbors: it is not among them, and an unknown one is an error."""
        (result,) = self._retriever.search([EmbeddedQuery(Query(product_id=name, k=20), None)])
        if name not in self._known:
            assert isinstance(result, LookalikeError)
            return
        assert isinstance(result, SearchResult)
        category = self._known[name].category
        others = {other for other, known in self._known.items() if known.category == category and other != name}
        assert {each.product.id for each in result.neighbors} == others

    @invariant()
    def index_is_correct(self) -> None:
        """Every category, and all of them, have the products of the dictionary, with every filter."""
        if not hasattr(self, "_store"):
            return
        for category in (None, "a", "b", "c"):
            for conditions in FILTERS:
                for exact in (False, True):
                    query = IndexQuery(VECTORS[:1], 50)
                    (result,) = self._index.search([query], category=category, exact=exact, conditions=conditions)
                    expected = [name for _, name, _ in self._expected(0, category, conditions)]
                    assert [hit.product_id for hit in result.hits] == expected

    @invariant()
    def store_is_correct(self) -> None:
        """The store has the products of the dictionary."""
        if not hasattr(self, "_store"):
            return
        products = self._store.page(None, "", 1000).products
        assert {each.id: (each.category, dict(each.attributes)) for each in products} == {
            name: (known.category, known.attributes) for name, known in self._known.items()
        }


class CatalogOnDevice(Catalog):
    """The same with a device that searches the categories of more than four rows."""

    @staticmethod
    def device() -> SearchDevice | None:
        """Return a device in host memory."""
        return shared_device(DIM)


TestCatalogOnDevice = pytest.mark.slow(CatalogOnDevice.TestCase)
TestCatalogOnDevice.settings = settings(derandomize=True, database=None, max_examples=20, stateful_step_count=40)

TestCatalog = pytest.mark.slow(Catalog.TestCase)
TestCatalog.settings = settings(derandomize=True, database=None, max_examples=40, stateful_step_count=40)
