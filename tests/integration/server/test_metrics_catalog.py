"""Metrics of the catalog and its index: each moves with what it counts, over real gRPC and a real store."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from cryptography import x509

from lookalike.v1 import catalog_service_pb2, image_pb2, product_pb2
from lookalike.v1 import search_service_pb2 as search_pb
from lookalike_server.metrics.categories import MAX_CATEGORIES
from lookalike_server.metrics.metrics import Metrics
from support.certificates import Authority
from support.scrapes import Scrape
from support.serving import Serve, Served

DIM = 48  # of the tiny model


@pytest.fixture
def metrics() -> Metrics:
    """Count from nothing."""
    return Metrics()


def products(numbers: Sequence[int], category: str = "Shoes") -> list[product_pb2.ProductInput]:
    """Make products with a random embedding each."""
    vectors = np.random.default_rng(0).standard_normal((1000, DIM), dtype=np.float32)
    return [
        product_pb2.ProductInput(
            id=f"p{number}", category=category, vectors=[image_pb2.Vector(values=vectors[number].tolist())]
        )
        for number in numbers
    ]


async def upsert(served: Served, given: Sequence[product_pb2.ProductInput]) -> None:
    """Store products."""
    response = await served.catalog.UpsertProducts(catalog_service_pb2.UpsertProductsRequest(products=given))
    assert {result.status.code for result in response.results} == {0}


async def test_commits_and_files(serve: Serve, metrics: Metrics, tmp_path: Path) -> None:
    """A transaction is observed with its operations and its time, and the files have the sizes that they have."""
    async with serve(metrics=metrics) as served:
        before = Scrape(metrics)
        await upsert(served, products(range(3)))
        served.app.index.wait_until_idle()
        after = Scrape(metrics)

        def growth(name: str) -> float:
            return after.value(name) - before.value(name)

        assert growth("lookalike_commit_seconds_count") == growth("lookalike_commit_operations_count") == 1
        assert growth("lookalike_commit_operations_sum") == 3
        assert growth("lookalike_commit_seconds_sum") > 0
        assert after.value("lookalike_stage_seconds_count", stage="write") == 1
        data = tmp_path / "data"
        assert after.value("lookalike_wal_bytes") == (data / "catalog.sqlite-wal").stat().st_size > 0
        assert after.value("lookalike_database_bytes") == (data / "catalog.sqlite").stat().st_size > 0
        assert after.value("lookalike_disk_free_bytes") > 0
        assert after.value("lookalike_catalog_damaged") == 0


async def test_rows_graphs_and_recall(serve: Serve, metrics: Metrics) -> None:
    """Rows, deleted rows and rows without a graph are counted by category, and recall once searches are repeated."""
    async with serve(metrics=metrics, full_scan_threshold=20, recall_sample_rate=1.0) as served:
        await upsert(served, products(range(60)))
        await upsert(served, products(range(60, 65), "Hats"))
        served.app.index.wait_until_idle()
        scrape = Scrape(metrics)
        assert scrape.labels("lookalike_index_rows", "category") == {"Shoes": 60, "Hats": 5, "other": 0}
        assert scrape.value("lookalike_graph_builds_total") >= 1
        assert scrape.labels("lookalike_recall", "category") == {}
        deletes = [f"p{number}" for number in range(5)]
        await served.catalog.DeleteProducts(catalog_service_pb2.DeleteProductsRequest(ids=deletes))
        await upsert(served, products(range(70, 73)))
        scrape = Scrape(metrics)
        assert scrape.value("lookalike_index_rows", category="Shoes") == 58
        assert scrape.value("lookalike_index_dead_rows", category="Shoes") == 5
        assert scrape.value("lookalike_index_waiting_rows", category="Shoes") == 3
        assert scrape.value("lookalike_index_waiting_rows", category="Hats") == 0  # it is to have no graph
        result = await served.search.Search(search_pb.SearchRequest(product_id="p9", k=5))
        assert not result.stats.exact
        served.app.index.wait_until_idle()
        scrape = Scrape(metrics)
        recalls = scrape.labels("lookalike_recall", "category")
        assert recalls == {"Shoes": served.app.index.recall("Shoes")}
        assert 0 < recalls["Shoes"] <= 1
        assert scrape.value("lookalike_stage_seconds_count", stage="search") == 1


async def test_category_names_are_bounded_and_escaped(serve: Serve, metrics: Metrics) -> None:
    """Of many categories the largest have series of their own, whatever they are called; all rows are in the sum."""
    odd = ['back\\slash "quoted" {le="1"}', "ホーム", "other", "x" * 256]
    names = [*odd, *(f"category-{number:03}" for number in range(130))]
    async with serve(metrics=metrics) as served:
        for first in range(0, len(names), 50):
            given = [products([at], name)[0] for at, name in list(enumerate(names))[first : first + 50]]
            await upsert(served, given)
        await upsert(served, [products([200 + at], name)[0] for at, name in enumerate(odd)])  # so they are the largest
        rows = Scrape(metrics).labels("lookalike_index_rows", "category")
        assert len(rows) == MAX_CATEGORIES + 1
        assert {name: rows[name] for name in odd if name != "other"} == dict.fromkeys(set(odd) - {"other"}, 2)
        assert sum(rows.values()) == len(names) + len(odd)
        assert rows["other"] == 2 + (130 - (MAX_CATEGORIES - 3))


async def test_rows_of_categories_that_are_not_loaded(serve: Serve, metrics: Metrics) -> None:
    """After a restart rows are counted at once, before and after they are in memory."""
    async with serve(full_scan_threshold=20) as served:
        await upsert(served, [*products(range(30)), *products(range(30, 35), "Hats")])
    async with serve(full_scan_threshold=20, metrics=metrics) as served:
        before = Scrape(metrics).labels("lookalike_index_rows", "category")
        served.app.index.wait_until_idle()
        after = Scrape(metrics).labels("lookalike_index_rows", "category")
        assert before == after == {"Shoes": 30, "Hats": 5, "other": 0}


async def test_certificates(serve: Serve, metrics: Metrics, tmp_path: Path) -> None:
    """With TLS the expiry of the certificate that is in force is known; without it there is none."""
    files = Authority().files(tmp_path / "tls")
    first = min(each.not_valid_after_utc for each in x509.load_pem_x509_certificates(files.certificate.read_bytes()))
    async with serve(metrics=metrics, **files.settings):
        assert Scrape(metrics).value("lookalike_certificate_expiry_timestamp_seconds") == first.timestamp()
    in_the_clear = Metrics()
    async with serve(metrics=in_the_clear):
        assert "\nlookalike_certificate_expiry_timestamp_seconds" not in Scrape(in_the_clear).text
