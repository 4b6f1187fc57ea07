"""Search: the latency of one call at a time over that of the bare graph, and the recall."""

from __future__ import annotations

import statistics
from typing import Any

import numpy as np

from benchmarks.catalog import client, loads
from benchmarks.catalog.bench import OURS, CatalogBench, Cell, at_least, at_most
from benchmarks.catalog.our_server import Served
from benchmarks.catalog.vectors import VectorSet, recall
from benchmarks.rounds import Spread

BARE = "faiss"
P50 = "p50 of a search, ms"
RECALL = "recall@10"
HNSWLIB = "hnswlib"
DRAWN = "clustered"
_BARE_CALL = "bare graph of faiss, fp16"


def over_bare(bench: CatalogBench, server: Served, vectors: VectorSet) -> None:
    """Measure p50 of the RPC less p50 of the bare search: ours and every other index in turns, round by round."""
    sizes = bench.sizes
    bench.log("search: one call at a time, all indexes in turns")
    load = loads.searches(server.address, vectors, vectors.partitions)
    found: dict[str, list[float]] = {name: [] for name in (OURS, *bench.indexes)}
    calls: dict[str, int] = dict.fromkeys(found, 0)
    server_ms: list[float] = []
    for _ in range(sizes.rounds):
        outcome = bench.load.run(load, sizes.seconds, concurrency=1).check(all_answered=True)
        found[OURS].append(1e3 * float(np.median(outcome.latency)))
        server_ms.append(float(np.median(outcome.judged)) / 1e3)
        calls[OURS] += len(outcome.code)
        for name, index in bench.indexes.items():
            seconds = index.do("search", seconds=sizes.seconds)["seconds"]
            found[name].append(1e3 * statistics.median(seconds))
            calls[name] += len(seconds)
    for name, values in found.items():
        bench.put(P50, name, Cell(Spread.of(values), "over gRPC" if name == OURS else "in process"))
    details: dict[str, Any] = {"p50_ms": found, "server_p50_ms": server_ms, "calls": calls}
    if BARE in found:
        less = [ours - bare for ours, bare in zip(found[OURS], found[BARE], strict=True)]
        bench.add("search less bare, ms", _BARE_CALL, Spread.of(less), "<= 0.9", at_most(0.9), **details)
        if HNSWLIB in found:
            less = [ours - bare for ours, bare in zip(found[OURS], found[HNSWLIB], strict=True)]
            bench.add("search less bare, ms", "bare knn_query of hnswlib", Spread.of(less), **details)
    else:
        bench.skipped["search less bare"] = f"not measured: {BARE} is missing"
    bench.add("search p50, ms", "", Spread.of(found[OURS]), **details)


def measure_recall(bench: CatalogBench, server: Served, vectors: VectorSet, what: str, required: float) -> None:
    """Measure recall@10 at the default ef, against brute force."""
    rows, exact_answers = client.search_all(server.address, vectors, vectors.partitions)
    exact = sum(exact_answers)
    shares = recall(vectors, rows)
    bench.add(
        f"recall@10, {what}",
        "brute force",
        mean_of(shares, bench.sizes.rounds),
        f">= {required}",
        at_least(required),
        queries=len(shares),
        worst=min(shares),
        answers_that_compared_every_row=exact,
        rows=vectors.total,
    )
    if what == DRAWN:  # which the other indexes searched too
        bench.put(RECALL, OURS, Cell(mean_of(shares, bench.sizes.rounds)))
    if exact:
        bench.skipped[f"recall, {what}"] = f"{exact} of {len(shares)} answers compared every row: no graph was searched"


def mean_of(shares: list[float], parts: int) -> Spread:
    """Return the mean of as many parts of the queries as there are rounds: a median of single queries would be 1."""
    size = max(1, len(shares) // parts)
    means = [statistics.fmean(shares[at : at + size]) for at in range(0, size * parts, size) if shares[at : at + size]]
    around = Spread.of(means)
    return Spread(statistics.fmean(shares), around.low, around.high)
