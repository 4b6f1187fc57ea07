"""Searches while products are replaced: the p99 beside upserts over the p99 without, in alternating turns."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np

from benchmarks.catalog.bench import OURS, CatalogBench, Cell, at_most
from benchmarks.catalog.json_pipe import Worker
from benchmarks.catalog.our_server import Served, rest
from benchmarks.catalog.vectors import Stock
from benchmarks.rounds import Spread

P99 = "p99 with upserts over p99 without"
_LEAD = 1.0  # seconds of upserts before the searches are timed
_ROUNDS = 4
_REST = 30.0  # seconds for the graphs of what was replaced, between turns


def beside_upserts(bench: CatalogBench, server: Served, stock: Stock) -> None:
    """Ours: searches by a schedule, and upserts by a schedule from another process."""
    sizes = bench.sizes
    bench.say(f"pressure: {sizes.searches:.0f} searches/s beside {sizes.upserts:.0f} upserts/s")
    asked: dict[str, Any] = {"address": server.address, "stock": stock.told(), "categories": stock.partitions}
    searched = asked | {"seconds": sizes.pressed_seconds, "rate": sizes.searches}
    seeds = itertools.count(1)
    with_upserts, without, rates, failed, unrested = [], [], [], [], 0
    for _ in range(min(sizes.rounds, _ROUNDS)):
        quiet = rest(server, _REST)
        unrested += not quiet.rested
        without.append(_p99(bench.caller.do("search_by_schedule", **searched)["seconds"]))
        # So long that the upserts begin before the searches and end after them.
        seconds = sizes.pressed_seconds + 2 * _LEAD
        bench.writer.begin("upsert_by_schedule", **asked, seconds=seconds, rate=sizes.upserts, seed=next(seeds))
        bench.caller.begin("search_by_schedule", **searched, delay=_LEAD)
        with_upserts.append(_p99(bench.caller.end(120.0)["seconds"]))
        written = bench.writer.end(120.0)
        rates.append(written["upserts"] / written["seconds"])
        failed.append(written["rejected"])
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
        upserts_per_second_meant=sizes.upserts,
        upserts_rejected_or_late=failed,
        searches_per_second=sizes.searches,
        turns_without_that_began_while_graphs_were_built=unrested,
    )
    bench.put(P99, OURS, Cell(ratio, f"{np.median(rates):.0f} upserts/s reached"))


def others_beside_upserts(bench: CatalogBench) -> None:
    """The other indexes, in process and in their own terms: a thread replaces while the main one searches."""
    for name, engine in bench.engines.items():
        reason = engine.do("about")["no_updates"]
        if reason:
            bench.put(P99, name, Cell(None, f"none: {reason}"))
            continue
        with bench.or_skip(f"p99 of {name} beside upserts"):
            bench.say(f"pressure: {name}")
            ratios, rates = _other(bench, engine)
            bench.put(P99, name, Cell(Spread.of(ratios), f"{np.median(rates):.0f} upserts/s reached"))
        if f"p99 of {name} beside upserts" in bench.skipped:
            bench.put(P99, name, Cell(None, bench.skipped[f"p99 of {name} beside upserts"]))


def _other(bench: CatalogBench, engine: Worker) -> tuple[list[float], list[float]]:
    sizes = bench.sizes
    asked: dict[str, Any] = {"seconds": sizes.pressed_seconds, "searches": sizes.searches}
    ratios, rates = [], []
    for turn in range(min(sizes.rounds, _ROUNDS // 2)):
        without = _p99(engine.do("pressure", **asked, upserts=0, seed=turn)["seconds"])
        found = engine.do("pressure", 300.0, **asked, upserts=sizes.upserts, seed=turn)
        ratios.append(_p99(found["seconds"]) / without)
        rates.append(found["upserts"] / found["elapsed"] if found["elapsed"] else 0.0)
    return ratios, rates


def _p99(seconds: list[float]) -> float:
    """Milliseconds."""
    return float(1e3 * np.percentile(seconds, 99))
