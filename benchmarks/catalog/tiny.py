"""Many categories of one product each: a search of all of them, and what another caller notices meanwhile."""

from __future__ import annotations

import statistics
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc
import numpy as np

from benchmarks.catalog import client, messages
from benchmarks.catalog.bench import CatalogBench, at_least, at_most
from benchmarks.catalog.our_server import Served, rest
from benchmarks.catalog.vectors import K, VectorSet, nearest
from benchmarks.rounds import Spread
from lookalike_loadtest.requests import SEARCH

_ALL_MS = 150.0
_OTHERS = 3.0
_SECONDS = 60.0
_QUERIES = 20
_OPTIONS = (("grpc.use_local_subchannel_pool", 1),)  # a connection of its own for each caller


def measure_tiny(bench: CatalogBench, server: Served, vectors: VectorSet) -> None:
    """Import a product a category; then measure searches of all categories, and of one beside them.

    Args:
        bench: The means of measuring.
        server: A server without products.
        vectors: One partition; each row becomes a category.
    """
    sizes = bench.sizes
    bench.log(f"tiny: importing {vectors.total} categories of one product")
    imported = client.import_rows(server.address, vectors, vectors.total)
    bench.notes["import, one product a category"] = imported
    bench.rested("after the import of tiny categories", rest(server, sizes.rest_seconds))
    queries = np.array(vectors.part("queries", 0)[:_QUERIES])
    everywhere = [messages.search_everywhere_request(query, K) for query in queries]
    somewhere = _of_one_category(vectors)
    with (
        grpc.insecure_channel(server.address, options=_OPTIONS) as one,
        grpc.insecure_channel(server.address, options=_OPTIONS) as other,
    ):
        search_all: Any = one.unary_unary(SEARCH)
        search_one: Any = other.unary_unary(SEARCH)
        _check(bench, vectors, queries, search_all, everywhere)
        alone, idle, beside = [], [], []
        for _ in range(sizes.rounds):
            alone.append(_p50(search_all, everywhere, sizes.seconds))
            idle.append(_p50(search_one, somewhere, sizes.seconds))
            with _Endless(search_all, everywhere):
                beside.append(_p50(search_one, somewhere, sizes.seconds))
    bench.add(
        f"all-categories search, {vectors.total} of one product, p50 ms",
        "",
        Spread.of(alone),
        f"<= {_ALL_MS:.0f}",
        at_most(_ALL_MS),
        import_seconds=imported["seconds"],
    )
    bench.add(
        "one-category search beside it, p50",
        "idle",
        Spread.of([a / b for a, b in zip(beside, idle, strict=True)]),
        f"<= {_OTHERS}",
        at_most(_OTHERS),
        p50_ms_beside=beside,
        p50_ms_idle=idle,
    )


class _Endless:
    """Sends one search after the other for as long as the block runs, which begins after the first is answered."""

    def __init__(self, search: Callable[..., bytes], requests: Sequence[bytes]) -> None:
        self._search, self._requests = search, requests
        self._stop, self._begun = threading.Event(), threading.Event()
        self._thread = ThreadPoolExecutor(1)

    def __enter__(self) -> None:
        self._done = self._thread.submit(self._run)
        while not self._begun.wait(0.1):
            if self._done.done():
                self._done.result()

    def __exit__(self, *unused: object) -> None:
        self._stop.set()
        self._done.result()
        self._thread.shutdown()

    def _run(self) -> None:
        while True:
            for request in self._requests:
                self._search(request, timeout=_SECONDS)
                self._begun.set()
                if self._stop.is_set():
                    return


def _check(
    bench: CatalogBench, vectors: VectorSet, queries: Any, search: Callable[..., bytes], requests: Sequence[bytes]
) -> None:
    """Record the share of the true nearest rows: every row is compared, so all must be there."""
    _, cosines = nearest(np.array(vectors.array("rows")), queries)
    right = []
    for query, request, truth in zip(queries, requests, cosines, strict=True):
        rows, _ = messages.answer_rows(search(request, timeout=_SECONDS))
        found = vectors.array("rows")[np.unique(rows)] @ query
        right.append(float((found >= truth[-1] - 1e-5).sum()) / K)
    share = Spread.of([statistics.fmean(right)])
    bench.add("recall@10, all categories", "brute force", share, ">= 0.999", at_least(0.999), queries=len(right))


def _of_one_category(vectors: VectorSet) -> list[bytes]:
    rows = vectors.array("rows")
    chosen = np.linspace(0, vectors.total - 1, _QUERIES, dtype=int).tolist()
    return [messages.search_request(rows[row], messages.category_of(vectors, row, vectors.total), K) for row in chosen]


def _p50(search: Callable[..., bytes], requests: Sequence[bytes], seconds: float) -> float:
    """Return the median of one call after the other, in milliseconds; at least one call is made."""
    taken: list[float] = []
    until = time.perf_counter() + seconds
    while True:
        for request in requests:
            begun = time.perf_counter()
            search(request, timeout=_SECONDS)
            taken.append(time.perf_counter() - begun)
            if time.perf_counter() >= until:
                return 1e3 * statistics.median(taken)
