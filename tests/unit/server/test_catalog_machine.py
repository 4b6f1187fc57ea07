"""Store and index together against a plain dictionary: any history of writes, restarts and searches."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from lookalike_server.domain.catalog import EmbeddedProduct, Product
from lookalike_server.domain.errors import LookalikeError
from lookalike_server.domain.filters import Condition, NoneOf, OneOf
from lookalike_server.domain.inference import Metric
from lookalike_server.domain.search import IndexQuery, Query, ResultOptions
from lookalike_server.index.category_index import CategoryIndex
from lookalike_server.index.hnsw import HnswSettings
from lookalike_server.index.segment import PartitionSettings
from lookalike_server.search.retriever import EmbeddedQuery, Found, Retriever
from lookalike_server.store.sqlite import Store
from support.fakes import RecordingObserver
from support.index_model import distance, meets, vectors
from support.store_fixtures import MODEL

DIM = 4
LOOKS = vectors(10, DIM, Metric.COSINE, seed=1)  # few, so that many products look the same
COSINE = replace(MODEL, metric=Metric.COSINE, dim=DIM)

PRODUCTS = st.sampled_from([f"p{number:02}" for number in range(8)])
CATEGORIES = st.sampled_from(["a", "b", "c"])
COLORS = st.sampled_from(["red", "blue"])
LOOKS_OF_ONE = st.lists(st.integers(0, 9), min_size=1, max_size=3)
FILTERS: tuple[tuple[Condition, ...], ...] = (
    (),
    (OneOf("color", frozenset({"red"})),),
    (NoneOf("color", frozenset({"red"})),),
)


@dataclass(frozen=True)
class Known:
    """A product as it must be."""

    category: str
    attributes: dict[str, str]
    looks: tuple[int, ...]


class Catalog(RuleBasedStateMachine):
    """Writes through the store, searches through the retriever, and a dictionary that knows better."""

    @initialize()
    def open(self) -> None:
        """Begin with an empty folder."""
        self._folder = tempfile.TemporaryDirectory()
        self._known: dict[str, Known] = {}
        self._start()

    def _start(self) -> None:
        graphs = HnswSettings(ef_search=100)
        self._index = CategoryIndex(PartitionSettings(DIM, Metric.COSINE, 4, graphs, 8), RecordingObserver())
        self._store = Store(Path(self._folder.name), COSINE, self._index.apply)
        self._index.open(self._store, Path(self._folder.name) / "index")
        self._retriever = Retriever(self._index, self._store, Metric.COSINE)

    def _stop(self) -> None:
        self._index.close()
        self._store.close()

    def teardown(self) -> None:
        """Leave nothing behind."""
        if hasattr(self, "_folder"):
            self._stop()
            self._folder.cleanup()

    @rule(names=st.sets(PRODUCTS, min_size=1), category=CATEGORIES, color=COLORS, looks=LOOKS_OF_ONE)
    def upsert(self, names: set[str], category: str, color: str, looks: list[int]) -> None:
        """Store, replace or move products."""
        for name in sorted(names):
            self._known[name] = Known(category, {"color": color}, tuple(looks))
            product = Product(name, category, "", "", {"color": color})
            self._store.upsert(EmbeddedProduct(product, LOOKS[looks])).result(timeout=60)

    @rule(name=PRODUCTS)
    def delete(self, name: str) -> None:
        """Delete a product, if it is there."""
        assert self._store.delete(name).result(timeout=60) is (self._known.pop(name, None) is not None)

    @rule(name=PRODUCTS, color=COLORS)
    def update_attributes(self, name: str, color: str) -> None:
        """Change a product's attributes, if it is there."""
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
    def settle(self) -> None:
        """Wait for the graphs."""
        self._index.settle()

    @rule(
        look=st.integers(0, 9),
        category=st.none() | CATEGORIES,
        k=st.integers(1, 20),
        conditions=st.sampled_from(FILTERS),
        collapse=st.booleans(),
    )
    def search(
        self, look: int, category: str | None, k: int, conditions: tuple[Condition, ...], *, collapse: bool
    ) -> None:
        """Ask, and compare with what the dictionary says."""
        query = Query(
            vector=LOOKS[look],
            category=category,
            all_categories=category is None,
            k=k,
            exact=True,
            conditions=conditions,
            options=ResultOptions(collapse=collapse),
        )
        (found,) = self._retriever.answer([EmbeddedQuery(query, LOOKS[look][np.newaxis])])
        assert isinstance(found, Found)
        right = self._right(look, category, conditions)
        told = [(each.distance, each.product.id) for each in found.neighbors]
        if not collapse:
            assert [name for _, name in told] == [name for _, name, _ in right[:k]]
        else:
            shown: dict[int, list[str]] = {}
            for _, name, nearest in right:
                shown.setdefault(nearest, []).append(name)
            groups = list(shown.values())[:k]
            answered = [[each.product.id, *(twin.id for twin in each.duplicates)] for each in found.neighbors]
            assert answered == groups
        by_name = {name: far for far, name, _ in right}
        np.testing.assert_allclose([far for far, _ in told], [by_name[name] for _, name in told], atol=1e-6)

    def _right(
        self, look: int, category: str | None, conditions: tuple[Condition, ...]
    ) -> list[tuple[float, str, int]]:
        """Distance, name and nearest look of every product that may be found, nearest first."""
        return sorted(
            min((distance(LOOKS[each], LOOKS[look], Metric.COSINE), name, each) for each in known.looks)
            for name, known in self._known.items()
            if category in (None, known.category) and all(meets(known.attributes, each) for each in conditions)
        )

    @rule(name=PRODUCTS)
    def by_product(self, name: str) -> None:
        """Ask for a product's neighbors: it is not among them, and an unknown one is told."""
        (found,) = self._retriever.answer([EmbeddedQuery(Query(product_id=name, k=20), None)])
        if name not in self._known:
            assert isinstance(found, LookalikeError)
            return
        assert isinstance(found, Found)
        category = self._known[name].category
        others = {other for other, known in self._known.items() if known.category == category and other != name}
        assert {each.product.id for each in found.neighbors} == others

    @invariant()
    def index_is_right(self) -> None:
        """Every category, and all of them, have the products that the dictionary has, by every filter."""
        if not hasattr(self, "_store"):
            return
        for category in (None, "a", "b", "c"):
            for conditions in FILTERS:
                for exact in (False, True):
                    question = IndexQuery(LOOKS[:1], 50)
                    (hits,) = self._index.search([question], category=category, exact=exact, conditions=conditions)
                    right = [name for _, name, _ in self._right(0, category, conditions)]
                    assert [hit.product_id for hit in hits.hits] == right

    @invariant()
    def store_is_right(self) -> None:
        """The store holds what the dictionary holds."""
        if not hasattr(self, "_store"):
            return
        products = self._store.page(None, "", 1000).products
        assert {each.id: (each.category, dict(each.attributes)) for each in products} == {
            name: (known.category, known.attributes) for name, known in self._known.items()
        }


TestCatalog = Catalog.TestCase
TestCatalog.settings = settings(derandomize=True, deadline=None, database=None, max_examples=40, stateful_step_count=40)
