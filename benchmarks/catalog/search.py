"""Searching: one caller's time over that of the bare graph, and how much of the truth is found."""

from __future__ import annotations

import statistics
from functools import partial
from typing import Any

from benchmarks.catalog.bench import OURS, CatalogBench, Cell, at_least, at_most
from benchmarks.catalog.our_server import Served
from benchmarks.catalog.vectors import Stock, recall
from benchmarks.rounds import Spread

RAW = "hnswlib"
P50 = "p50 of a search, ms"
RECALL = "recall@10"
DRAWN = "clustered"
_RAW_CALL = "raw knn_query"


def over_raw(bench: CatalogBench, server: Served, stock: Stock) -> None:
    """p50 of the RPC less p50 of the bare query: ours and every other index in turns, round by round."""
    sizes = bench.sizes
    bench.say("search: one caller, all systems in turns")
    asked: dict[str, Any] = {"stock": stock.told(), "categories": stock.partitions, "seconds": sizes.seconds}
    turns: dict[str, Any] = {OURS: partial(bench.caller.do, "search", address=server.address, **asked)}
    turns |= {name: partial(each.do, "search", seconds=sizes.seconds) for name, each in bench.engines.items()}
    found: dict[str, list[float]] = {name: [] for name in turns}
    calls: dict[str, int] = dict.fromkeys(turns, 0)
    stats: list[float] = []
    for _ in range(sizes.rounds):
        for name, turn in turns.items():
            done = turn()
            taken = done["seconds"]
            found[name].append(1e3 * statistics.median(taken))
            if name == OURS:
                stats.append(1e3 * statistics.median(done["stats"]))
            calls[name] += len(taken)
    for name, values in found.items():
        bench.put(P50, name, Cell(Spread.of(values), "over gRPC" if name == OURS else "in process"))
    details: dict[str, Any] = {"p50_ms": found, "receipt_p50_ms": stats, "calls": calls}
    if RAW in found:
        less = [ours - raw for ours, raw in zip(found[OURS], found[RAW], strict=True)]
        bench.add("search less raw, ms", _RAW_CALL, Spread.of(less), "<= 1.0", at_most(1.0), **details)
    else:
        bench.skipped["search less raw"] = f"not measured: {RAW} is not there"
    bench.add("search p50, ms", "", Spread.of(found[OURS]), **details)


def found_of_truth(bench: CatalogBench, server: Served, stock: Stock, what: str) -> None:
    """recall@10 at the default ef, against brute force."""
    answers = bench.caller.do("answers", 600.0, address=server.address, stock=stock.told(), categories=stock.partitions)
    exact = sum(map(bool, answers["exact"]))
    shares = recall(stock, answers["rows"])
    bench.add(
        f"recall@10, {what}",
        "brute force",
        mean_of(shares, bench.sizes.rounds),
        ">= 0.99",
        at_least(0.99),
        queries=len(shares),
        worst=min(shares),
        answers_that_compared_every_row=exact,
        rows=stock.total,
    )
    if what == DRAWN:  # as the other indexes were asked
        bench.put(RECALL, OURS, Cell(mean_of(shares, bench.sizes.rounds)))
    if exact:
        bench.skipped[f"recall, {what}"] = f"{exact} of {len(shares)} answers compared every row: no graph was asked"


def mean_of(shares: list[float], parts: int) -> Spread:
    """The mean of as many parts of the queries as there are rounds: a median of single queries would always be 1."""
    size = max(1, len(shares) // parts)
    means = [statistics.fmean(shares[at : at + size]) for at in range(0, size * parts, size) if shares[at : at + size]]
    around = Spread.of(means)
    return Spread(statistics.fmean(shares), around.low, around.high)
