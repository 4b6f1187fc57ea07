"""Searches while products are replaced: the p99 beside upserts over the p99 without, in alternating turns."""

from __future__ import annotations

import itertools
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from benchmarks.catalog import loads
from benchmarks.catalog.bench import OURS, CatalogBench, Cell, at_least, at_most
from benchmarks.catalog.json_pipe import Worker
from benchmarks.catalog.our_server import Served, rest
from benchmarks.catalog.vectors import VectorSet
from benchmarks.load import Floats, Outcome
from benchmarks.rounds import Spread

P99 = "p99 with {:.0f} upserts/s over p99 without"
_LEAD = 1.0  # seconds of upserts before the searches are timed
_SEARCH_DEADLINE = 30.0
_UPSERT_DEADLINE = 10.0
_ROUNDS = 4
_REST = 30.0  # seconds for the graphs of what was replaced, between turns
_REQUIRED = (2.0, 3.0)  # at each rate


@dataclass(slots=True)
class _Turns:
    """What was found at one rate of upserts, turn by turn: p99s in ms, shares, and upserts a second."""

    with_upserts: list[float] = field(default_factory=list)
    without: list[float] = field(default_factory=list)
    stored: list[float] = field(default_factory=list)
    rates: list[float] = field(default_factory=list)
    failed: list[int] = field(default_factory=list)
    reasons: list[str] = field(default_factory=list)
    unrested: int = 0


def beside_upserts(bench: CatalogBench, server: Served, vectors: VectorSet) -> None:
    """Measure ours: searches by a schedule, and upserts by a schedule from another process."""
    sizes = bench.sizes
    seeds = itertools.count(1)
    seconds = sizes.pressed_seconds + 2 * _LEAD  # so that the upserts begin before the searches and end after them

    def search() -> float:
        load = loads.searches(server.address, vectors, vectors.partitions)
        outcome = bench.load.run(load, sizes.pressed_seconds, rate=sizes.searches, deadline=_SEARCH_DEADLINE)
        return _p99(outcome.check(all_answered=True).latency)

    def upsert(rate: float) -> Outcome:
        load = loads.replacements(server.address, vectors, vectors.partitions, next(seeds))
        # a server that cannot keep up rejects or is too late: that is a result
        outcome = bench.background.run(load, seconds, rate=rate, deadline=_UPSERT_DEADLINE)
        return outcome.check(all_answered=False)

    found = {rate: _Turns() for rate in sizes.upserts}
    with ThreadPoolExecutor(1) as thread:
        for _ in range(min(sizes.rounds, _ROUNDS)):
            for rate, turns in found.items():
                bench.log(f"pressure: {sizes.searches:.0f} searches/s beside {rate:.0f} upserts/s")
                turns.unrested += not rest(server, _REST).rested
                turns.without.append(search())
                writing = thread.submit(upsert, rate)
                time.sleep(_LEAD)
                turns.with_upserts.append(search())
                written = writing.result()
                turns.rates.append(float((written.answered & (written.ended <= seconds)).sum()) / seconds)
                turns.stored.append(float(written.answered.mean()))
                turns.failed.append(int((~written.answered).sum()))
                turns.reasons.append(written.message)
    for (rate, turns), limit in zip(found.items(), _REQUIRED, strict=True):
        _record(bench, rate, turns, limit)


def _record(bench: CatalogBench, rate: float, turns: _Turns, limit: float) -> None:
    ratio = Spread.of([a / b for a, b in zip(turns.with_upserts, turns.without, strict=True)])
    reached = f"{np.median(turns.rates):.0f} upserts/s reached"
    details: dict[str, Any] = {
        "p99_ms_with": turns.with_upserts,
        "p99_ms_without": turns.without,
        "upserts_per_second_reached": turns.rates,
        "upserts_per_second_intended": rate,
        "upserts_rejected_or_late": turns.failed,
        "first_reasons": turns.reasons,
        "searches_per_second": bench.sizes.searches,
        "turns_without_that_began_while_graphs_were_built": turns.unrested,
    }
    name = f"p99 beside {rate:.0f} upserts/s"
    bench.add(name, f"p99 without; {reached}", ratio, f"<= {limit}", at_most(limit), **details)
    stored = Spread.of(turns.stored)
    bench.add(f"stored of {rate:.0f} upserts/s", "those sent", stored, ">= 1.0", at_least(1.0), **details)
    bench.put(P99.format(rate), OURS, Cell(ratio, reached))


def others_beside_upserts(bench: CatalogBench) -> None:
    """Measure the other indexes, in process and in their own terms: a thread replaces while the main one searches."""
    for rate in bench.sizes.upserts:
        row = P99.format(rate)
        for name, index in bench.indexes.items():
            reason = index.do("about")["no_updates"]
            if reason:
                bench.put(row, name, Cell(None, f"none: {reason}"))
                continue
            what = f"p99 of {name} beside {rate:.0f} upserts/s"
            with bench.or_skip(what):
                bench.log(f"pressure: {name}, {rate:.0f} upserts/s")
                ratios, rates = _other(bench, index, rate)
                bench.put(row, name, Cell(Spread.of(ratios), f"{np.median(rates):.0f} upserts/s reached"))
            if what in bench.skipped:
                bench.put(row, name, Cell(None, bench.skipped[what]))


def _other(bench: CatalogBench, index: Worker, rate: float) -> tuple[list[float], list[float]]:
    sizes = bench.sizes
    arguments: dict[str, Any] = {"seconds": sizes.pressed_seconds, "searches": sizes.searches}
    ratios, rates = [], []
    for turn in range(min(sizes.rounds, _ROUNDS // 2)):
        without = _p99(index.do("pressure", **arguments, upserts=0, seed=turn)["seconds"])
        found = index.do("pressure", 300.0, **arguments, upserts=rate, seed=turn)
        ratios.append(_p99(found["seconds"]) / without)
        rates.append(found["upserts"] / found["elapsed"] if found["elapsed"] else 0.0)
    return ratios, rates


def _p99(seconds: Sequence[float] | Floats) -> float:
    """Return the 99th percentile in milliseconds."""
    return float(1e3 * np.percentile(seconds, 99))
