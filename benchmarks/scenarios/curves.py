"""The data of the charts: throughput over concurrency, and latency over offered load, of all servers in turns."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from benchmarks.rounds import Spread
from benchmarks.scenarios.bench import Bench
from benchmarks.servers.base import Target

CONCURRENCIES = (1, 2, 4, 8, 16, 32)
LOADS = (0.2, 0.4, 0.6, 0.75, 0.9, 1.0, 1.15)
"""Offered load as a share of our own capacity; the same calls for every server."""

_DEADLINE = 3.0  # seconds; without it an overloaded server would hold the run up


@dataclass(frozen=True, slots=True)
class Curve:
    """The curve of one server: y over x, with the quartiles around each y."""

    server: str
    x: list[float]
    y: list[Spread]


def over_concurrency(bench: Bench, targets: Mapping[str, Target], rounds: int) -> list[Curve]:
    """Measure answers a second in closed loops of growing concurrency."""
    found: dict[str, list[Spread]] = {name: [] for name in targets}
    for concurrency in CONCURRENCIES:
        turns: dict[str, list[float]] = {name: [] for name in targets}
        for _ in range(rounds):
            for name, target in targets.items():
                turns[name].append(bench.run(target, concurrency=concurrency).throughput)
        for name, values in turns.items():
            found[name].append(Spread.of(values))
    return [Curve(name, [float(each) for each in CONCURRENCIES], values) for name, values in found.items()]


def over_load(bench: Bench, targets: Mapping[str, Target], ours: Target, rounds: int) -> dict[str, list[Curve]]:
    """Measure the 50th and 99th percentile of the latency in ms, and the share answered, in open loops of growing rate.

    The load is a share of our own capacity, measured again for every round: a fixed number of calls a second is half of
    what this machine can do in one minute and twice as much in the next. "rate" has the rates that this came to.
    """
    found: dict[str, dict[str, list[Spread]]] = {
        kind: {name: [] for name in targets} for kind in ("p50", "p99", "answered")
    }
    rates: list[Spread] = []
    for share in LOADS:
        turns: dict[str, dict[str, list[float]]] = {kind: {name: [] for name in targets} for kind in found}
        offered = []
        for _ in range(rounds):
            rate = share * bench.run(ours, seconds=bench.seconds / 2).throughput
            offered.append(rate)
            for name, target in targets.items():
                outcome = bench.run(target, rate=rate, deadline=_DEADLINE)
                latency = outcome.latency if len(outcome.latency) else np.array([np.nan])
                turns["p50"][name].append(float(np.percentile(latency, 50)) * 1e3)
                turns["p99"][name].append(float(np.percentile(latency, 99)) * 1e3)
                turns["answered"][name].append(float(outcome.answered.mean()) if len(outcome.code) else np.nan)
        rates.append(Spread.of(offered))
        for kind, by_name in turns.items():
            for name, values in by_name.items():
                found[kind][name].append(Spread.of(values))
    shares = [100 * share for share in LOADS]
    drawn = {kind: [Curve(name, shares, values) for name, values in by_name.items()] for kind, by_name in found.items()}
    return drawn | {"rate": [Curve("offered", shares, rates)]}
