"""What a scrape takes from the event loop: never much at once, however much there is to collect and to write."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

import grpc
import numpy as np
import pytest
from prometheus_client import Metric
from prometheus_client.registry import Collector

from lookalike_server.domain import events
from lookalike_server.domain.catalog import IndexChange, IndexRow
from lookalike_server.metrics.categories import MAX_CATEGORIES
from lookalike_server.metrics.metrics import Metrics
from lookalike_server.monitoring.exchange import Request
from lookalike_server.monitoring.metrics_page import MetricsPage
from lookalike_server.monitoring.serving import source_of
from support.loop_holding import Held, held_by, without_preemption
from support.serving import Serve

DIM = 48  # of the tiny model
CATEGORIES = 5_000
METHODS = 30
FORMS = {
    "text": {"accept": "text/plain"},
    "OpenMetrics, compressed": {"accept": "application/openmetrics-text", "accept-encoding": "gzip"},
}


def fill(metrics: Metrics) -> None:
    """Count calls of every code, of as many methods as there are."""
    for number in range(METHODS):
        name = f"/lookalike.v1.SearchService/Method{number}"
        metrics(events.CallStarted(name, "unary"))
        for code in grpc.StatusCode:
            metrics(events.CallCompleted(name, code.name, 0.01, "", None))


@pytest.fixture
async def full(serve: Serve) -> AsyncIterator[Metrics]:
    """Metrics of a server with all their labels, and many more categories than those that have series."""
    metrics = Metrics()
    fill(metrics)
    vectors = np.random.default_rng(0).standard_normal((CATEGORIES, DIM), dtype=np.float32)
    added = [(f"category {label}", IndexRow(label, f"p{label}", 0, vectors[label])) for label in range(CATEGORIES)]
    async with serve(metrics=metrics) as served:
        served.app.index.apply(IndexChange(added=added))
        yield metrics


async def scrape_thrice(collector: Collector, headers: dict[str, str]) -> tuple[bytes, Held]:
    """Scrape, and return the page with the scrape of three that held the event loop least: the machine has others."""
    page = MetricsPage(source_of(collector), min_seconds=0.0)
    request = Request("/metrics", headers)
    try:
        first = await page(request)  # which starts the thread
        assert isinstance(first.body, bytes)
        with without_preemption():
            return first.body, min(
                [await held_by("metrics", page(request)) for _ in range(3)], key=lambda held: held.longest
            )
    finally:
        page.close()


@pytest.mark.parametrize("form", FORMS)
async def test_a_scrape_gives_the_event_loop_way(full: Metrics, form: str) -> None:
    """Between two turns of the event loop a scrape takes a small part of its time, with every series there can be."""
    body, held = await scrape_thrice(full.registry, FORMS[form])
    if form == "text":
        assert body.count(b"lookalike_index_rows{") == MAX_CATEGORIES + 1
        assert body.count(b"grpc_server_handled_total{") == METHODS * len(grpc.StatusCode)
    assert held.longest < held.total / 5


async def test_a_scrape_without_pauses_is_found() -> None:
    """A collector that computes for as long without a pause has the event loop wait for all of it."""

    class Greedy(Collector):
        def collect(self) -> Iterator[Metric]:
            family = Metric("sum", "Sum.", "gauge")
            family.add_sample("sum", {}, sum(number * number for number in range(300_000)))
            yield family

    _, held = await scrape_thrice(Greedy(), FORMS["text"])
    assert held.longest > held.total / 2
