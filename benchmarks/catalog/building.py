"""How long graphs take after a bulk import, over the bare library with two threads, before and after it."""

from __future__ import annotations

import time

from benchmarks.catalog import client
from benchmarks.catalog.bench import CatalogBench, at_most
from benchmarks.catalog.index_runner import build_once
from benchmarks.catalog.our_server import Served, rest
from benchmarks.catalog.search import BARE
from benchmarks.catalog.vectors import VectorSet
from benchmarks.rounds import Spread

THREADS = 2
_REQUIRED = 1.3


def over_bare(bench: CatalogBench, server: Served, vectors: VectorSet) -> None:
    """Import every row into an empty server and wait for the graphs.

    What counts is the time from the last acknowledged product until the log names the last graph.
    """
    before = _bare(bench, vectors)
    bench.log("building: a bulk import, and the graphs after it")
    began = time.time()
    imported = client.import_rows(server.address, vectors, vectors.partitions)
    acknowledged = time.time()
    found = rest(server, bench.sizes.rest_seconds)
    bench.rested("after the bulk import", found)
    if not found.rested:
        raise ValueError(f"the graphs were not built within {found.seconds:.0f} s")
    if found.kinds.get("hnsw", 0) < vectors.partitions:
        raise ValueError("the server has built no graphs")
    after = _bare(bench, vectors)
    built = max(server.graphs, default=found.busy_until)
    seconds = max(0.0, built - acknowledged)
    bench.add(
        f"graphs of {vectors.total} rows after a bulk import",
        f"the bare library, {THREADS} threads",
        Spread.of([seconds / before, seconds / after]),
        f"<= {_REQUIRED}",
        at_most(_REQUIRED),
        seconds=seconds,
        bare_seconds=[before, after],
        seconds_since_the_import_began=built - began,
        import_seconds=imported["seconds"],
        seconds_until_idle=max(0.0, found.busy_until - acknowledged),
        graphs_in_the_log=len(server.graphs),
    )


def _bare(bench: CatalogBench, vectors: VectorSet) -> float:
    bench.log(f"building: {BARE} with {THREADS} threads")
    return build_once(bench, BARE, vectors, THREADS)
