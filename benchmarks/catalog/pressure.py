"""Searches while products are replaced: the p99 beside upserts over the p99 without, in alternating turns."""

from __future__ import annotations

import itertools
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np

from benchmarks.catalog import loads
from benchmarks.catalog.bench import OURS, CatalogBench, Cell, at_most
from benchmarks.catalog.json_pipe import Worker
from benchmarks.catalog.our_server import Served, rest
from benchmarks.catalog.vectors import VectorSet
from benchmarks.load import Floats, Outcome
from benchmarks.rounds import Spread

P99 = "p99 with upserts over p99 without"
_LEAD = 1.0  # seconds of upserts before the searches are timed
_SEARCH_DEADLINE = 30.0
_UPSERT_DEADLINE = 10.0
_ROUNDS = 4
_REST = 30.0  # seconds for the graphs of what was replaced, between turns


def beside_upserts(bench: CatalogBench, server: Served, vectors: VectorSet) -> None:
    """Measure ours: searches by a schedule, and upserts by a schedule from another process."""
    sizes = bench.sizes
    bench.log(f"pressure: {sizes.searches:.0f} searches/s beside {sizes.upserts:.0f} upserts/s")
    seeds = itertools.count(1)
    with_upserts, without, rates, failed, unrested = [], [], [], [], 0

    def search() -> float:
        load = loads.searches(server.address, vectors, vectors.partitions)
        outcome = bench.load.run(load, sizes.pressed_seconds, rate=sizes.searches, deadline=_SEARCH_DEADLINE)
        return _p99(outcome.check(all_answered=True).latency)

    def upsert() -> Outcome:
        # so long that the upserts begin before the searches and end after them
        load = loads.replacements(server.address, vectors, vectors.partitions, next(seeds))
        outcome = bench.background.run(
            load, sizes.pressed_seconds + 2 * _LEAD, rate=sizes.upserts, deadline=_UPSERT_DEADLINE
        )
        # a server that cannot keep up rejects or is too late: that is a result
        return outcome.check(all_answered=False)

    with ThreadPoolExecutor(1) as thread:
        for _ in range(min(sizes.rounds, _ROUNDS)):
            quiet = rest(server, _REST)
            unrested += not quiet.rested
            without.append(search())
            writing = thread.submit(upsert)
            time.sleep(_LEAD)
            with_upserts.append(search())
            written = writing.result()
            seconds = sizes.pressed_seconds + 2 * _LEAD
            rates.append(float((written.answered & (written.ended <= seconds)).sum()) / seconds)
            failed.append(int((~written.answered).sum()))
    ratio = Spread.of([a / b for a, b in zip(with_upserts, without, strict=True)])
    bench.add(
        "p99 beside upserts",
        f"p99 without; {np.median(rates):.0f} of {sizes.upserts:.0f} upserts/s stored",
        ratio,
        "<= 2.0",
        at_most(2.0),
        p99_ms_with=with_upserts,
        p99_ms_without=without,
        upserts_per_second_reached=rates,
        upserts_per_second_intended=sizes.upserts,
        upserts_rejected_or_late=failed,
        searches_per_second=sizes.searches,
        turns_without_that_began_while_graphs_were_built=unrested,
    )
    bench.put(P99, OURS, Cell(ratio, f"{np.median(rates):.0f} upserts/s reached"))


def others_beside_upserts(bench: CatalogBench) -> None:
    """Measure the other indexes, in process and in their own terms: a thread replaces while the main one searches."""
    for name, index in bench.indexes.items():
        reason = index.do("about")["no_updates"]
        if reason:
            bench.put(P99, name, Cell(None, f"none: {reason}"))
            continue
        with bench.or_skip(f"p99 of {name} beside upserts"):
            bench.log(f"pressure: {name}")
            ratios, rates = _other(bench, index)
            bench.put(P99, name, Cell(Spread.of(ratios), f"{np.median(rates):.0f} upserts/s reached"))
        if f"p99 of {name} beside upserts" in bench.skipped:
            bench.put(P99, name, Cell(None, bench.skipped[f"p99 of {name} beside upserts"]))


def _other(bench: CatalogBench, index: Worker) -> tuple[list[float], list[float]]:
    sizes = bench.sizes
    arguments: dict[str, Any] = {"seconds": sizes.pressed_seconds, "searches": sizes.searches}
    ratios, rates = [], []
    for turn in range(min(sizes.rounds, _ROUNDS // 2)):
        without = _p99(index.do("pressure", **arguments, upserts=0, seed=turn)["seconds"])
        found = index.do("pressure", 300.0, **arguments, upserts=sizes.upserts, seed=turn)
        ratios.append(_p99(found["seconds"]) / without)
        rates.append(found["upserts"] / found["elapsed"] if found["elapsed"] else 0.0)
    return ratios, rates


def _p99(seconds: Sequence[float] | Floats) -> float:
    """Return the 99th percentile in milliseconds."""
    return float(1e3 * np.percentile(seconds, 99))
