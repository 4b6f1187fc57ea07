"""Placeholder images: hundreds of equal and nearly equal embeddings beside others lose no product in a graph."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from lookalike_server.domain.catalog import EmbeddedProduct, IndexKind
from lookalike_server.domain.inference import Floats, Metric
from lookalike_server.domain.search import IndexQuery
from lookalike_server.index import nodes, partition, segment
from lookalike_server.index.category_index import CategoryIndex
from lookalike_server.index.graph import HnswSettings
from lookalike_server.index.segment import PartitionSettings
from lookalike_server.store.catalog_store import Store
from support.fakes import RecordingObserver
from support.index_model import MakeIndex, Shop, one_image_each, prepared, vectors
from support.store_fixtures import MODEL, opened, product

DIM = 32
DISTINCT, SAME, ENCODED_AGAIN = 20_000, 1_000, 1_000
COSINE = replace(MODEL, dim=DIM, metric=Metric.COSINE)

Embeddings = dict[str, Floats]  # by product id


def shop_with_placeholders() -> Embeddings:
    """Return float32 [DIM] of each product: distinct ones, identical ones, and the same image encoded again.

    An encoding changes an embedding by 1e-6 to 1e-3 of its length.
    """
    chance = np.random.default_rng(1)
    image = chance.normal(size=DIM)
    noise = 10 ** chance.uniform(-6, -3, size=(ENCODED_AGAIN, 1)) * chance.normal(size=(ENCODED_AGAIN, DIM))
    rows = prepared(
        np.concatenate([chance.normal(size=(DISTINCT, DIM)), np.tile(image, (SAME, 1)), image + noise]), Metric.COSINE
    )
    names = [
        f"{kind}{n:05}" for kind, count in (("d", DISTINCT), ("s", SAME), ("e", ENCODED_AGAIN)) for n in range(count)
    ]
    order = chance.permutation(len(names)).tolist()
    return {names[each]: rows[each] for each in order}


def put(store: Store, embeddings: Embeddings, category: str = "Shoes") -> None:
    """Store products."""
    products = [(EmbeddedProduct(product(name, category), row[np.newaxis]), None) for name, row in embeddings.items()]
    for begin in range(0, len(products), 64):
        assert set(store.upsert_all(products[begin : begin + 64]).result(60)) == {None}


def not_found(index: CategoryIndex, embeddings: Embeddings, category: str = "Shoes") -> list[str]:
    """Return the products that a search of the graphs by their own vector does not find as the nearest one.

    Of the identical ones all must come back where so many are asked for.
    """
    assert index.kind(category) is IndexKind.HNSW
    missing = []
    names = [name for name in embeddings if name[0] != "s"]
    for begin in range(0, len(names), 64):
        some = names[begin : begin + 64]
        queries = [IndexQuery(embeddings[name][np.newaxis], 1) for name in some]
        for name, result in zip(some, index.search(queries, category=category, exact=False), strict=True):
            assert not result.exact
            missing += [name] * (result.hits[0].product_id != name)
    same = [name for name in embeddings if name[0] == "s"]
    (result,) = index.search([IndexQuery(embeddings[same[0]][np.newaxis], len(same))], category=category, exact=False)
    return missing + sorted(set(same) - {hit.product_id for hit in result.hits})


@contextmanager
def running(folder: Path, library: str) -> Iterator[tuple[Store, CategoryIndex, RecordingObserver]]:
    """Open a catalog in which every category of more than 500 rows has a graph."""
    observer = RecordingObserver()
    settings = PartitionSettings(DIM, Metric.COSINE, 500, HnswSettings(library=library))
    index = CategoryIndex(settings, observer)
    with opened(folder, COSINE, index.apply) as store:
        index.open(store, folder / "index")
        try:
            yield store, index, observer
        finally:
            index.close()


@pytest.mark.slow
@pytest.mark.parametrize("library", ["faiss", "hnswlib"])
def test_every_product_is_found(tmp_path: Path, library: str) -> None:
    """Each product is found by its own vector: after the import, deletes, moves, a compaction, and a restart."""
    left = shop_with_placeholders()
    with running(tmp_path, library) as (store, index, observer):
        put(store, left)
        index.wait_until_idle()
        assert not_found(index, left) == []
        for name in list(left)[:1000]:
            store.delete(name)
            del left[name]
        moved = {name: left.pop(name) for name in list(left)[:1500]}
        put(store, moved, "Hats")
        index.wait_until_idle()
        assert not_found(index, left) == []
        assert not_found(index, moved, "Hats") == []
        for name in list(left)[:10_000]:
            store.delete(name)
            del left[name]
        store.wait_until_applied()
        index.wait_until_idle()
        assert index.partitions["Shoes"].row_count < 20_000  # it was compacted
        assert not_found(index, left) == []
        assert observer.maintenance_faults == []
    with running(tmp_path, library) as (store, index, observer):
        index.wait_until_idle()
        assert not_found(index, left) == []
        assert not_found(index, moved, "Hats") == []
        assert observer.graphs_built == []


@pytest.mark.slow
def test_without_shared_nodes_products_are_lost(monkeypatch: pytest.MonkeyPatch, make_index: MakeIndex) -> None:
    """The control: with a node for each row, and none looked up, some products are found only by comparing all rows."""

    def all_different(_: object, slots: Floats) -> nodes.Prints:
        return np.asarray(slots, dtype=np.uint64)

    def all_found(of: segment.Segment, *_: object) -> segment.Segment:
        return segment.Segment.of(of.graph, of.rows, of.lost)

    monkeypatch.setattr(nodes, "fingerprints", all_different)
    monkeypatch.setattr(partition, "looked_up", all_found)
    embeddings = shop_with_placeholders()
    index = make_index(500, dim=DIM)
    Shop(index, Metric.COSINE).put_all({name: row[np.newaxis] for name, row in embeddings.items()}, "Shoes")
    index.wait_until_idle()
    missing = not_found(index, embeddings)
    assert len(missing) > 100
    for name in missing[:10]:
        (result,) = index.search([IndexQuery(embeddings[name][np.newaxis], 1)], category="Shoes", exact=True)
        assert result.hits[0].distance == 0.0


@pytest.mark.parametrize("metric", Metric, ids=lambda metric: metric.value)
def test_a_category_of_one_embedding(make_index: MakeIndex, observer: RecordingObserver, metric: Metric) -> None:
    """Where all rows are identical, the products come in the order of their ids, however many are asked for."""
    index = make_index(full_scan_threshold=10, metric=metric)
    shop = Shop(index, metric)
    same = vectors(1, 16, metric, seed=1)
    shop.put_all(one_image_each(np.repeat(same, 500, axis=0)))
    index.wait_until_idle()
    assert index.kind("c") is IndexKind.HNSW
    assert [len(each.graph) for each in index.partitions["c"].segments] == [1]
    for k in (1, 10, 499, 500, 1000):
        (found,) = index.search([IndexQuery(same, k)], category="c", exact=False)
        assert not found.exact
        assert [hit.product_id for hit in found.hits] == sorted(shop.rows)[:k]
    shop.remove(*sorted(shop.rows)[:499])
    assert shop.check(same, 10, exact=False) == ["p00499"]
    assert observer.fallbacks == []


def test_more_than_the_distinct_embeddings(make_index: MakeIndex) -> None:
    """A search for more products than there are distinct embeddings finds all of them, nearest first."""
    index = make_index(full_scan_threshold=10)
    shop = Shop(index, Metric.COSINE)
    shop.put_all(one_image_each(np.repeat(vectors(20, 16, Metric.COSINE, seed=1), 30, axis=0)))
    index.wait_until_idle()
    assert [len(each.graph) for each in index.partitions["c"].segments] == [20]
    for k in (25, 600, 1000):
        shop.check(vectors(1, 16, Metric.COSINE, seed=2), k, exact=False)


def test_hashes_that_are_the_same_by_chance(make_index: MakeIndex, monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows whose hashes are equal but not their vectors have nodes of their own."""

    def all_equal(_: object, slots: Floats) -> nodes.Prints:
        return np.zeros(len(slots), dtype=np.uint64)

    monkeypatch.setattr(nodes, "fingerprints", all_equal)
    index = make_index(full_scan_threshold=10)
    shop = Shop(index, Metric.COSINE)
    rows = vectors(30, 16, Metric.COSINE, seed=1)
    for part in (rows, rows[:20], vectors(10, 16, Metric.COSINE, seed=2)):
        shop.put_all(one_image_each(part, f"p{len(shop.rows):03}"))
        index.wait_until_idle()
    for row in rows:
        shop.check(row[np.newaxis], 5, exact=False)
