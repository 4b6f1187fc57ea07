"""The images' figures: latency over offered load, and throughput over callers, of all systems in turns."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from benchmarks.figures.bench import Bench
from benchmarks.jobs import OK, Target
from benchmarks.rounds import Spread

CALLERS = (1, 2, 4, 8, 16, 32)
LOADS = (0.2, 0.4, 0.6, 0.75, 0.9, 1.0, 1.15)
"""Offered load as a share of our own capacity; the same calls for every system."""

_PATIENCE = 3.0  # seconds: a caller's deadline, without which an overloaded system would hold the run up


@dataclass(frozen=True, slots=True)
class Curve:
    """One system's line: y over x, with the quarter points around each y."""

    system: str
    x: list[float]
    y: list[Spread]


def over_callers(bench: Bench, targets: Mapping[str, Target], rounds: int) -> list[Curve]:
    """Answers a second in closed loops of ever more callers."""
    found: dict[str, list[Spread]] = {name: [] for name in targets}
    for callers in CALLERS:
        turns: dict[str, list[float]] = {name: [] for name in targets}
        for _ in range(rounds):
            for name, target in targets.items():
                turns[name].append(bench.run(target, callers=callers).throughput)
        for name, values in turns.items():
            found[name].append(Spread.of(values))
    return [Curve(name, [float(each) for each in CALLERS], values) for name, values in found.items()]


def over_load(bench: Bench, targets: Mapping[str, Target], ours: Target, rounds: int) -> dict[str, list[Curve]]:
    """The 50th and 99th percentile of the latency in ms, and the share answered, in open loops of ever more calls.

    The load is a share of our own capacity, asked again for every round: a fixed number of calls a second is half of
    what this machine can do in one minute and twice as much in the next. "rate" tells what it came to.
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
                outcome = bench.run(target, loop="open", rate=rate, deadline=_PATIENCE)
                latency = outcome.latency if len(outcome.latency) else np.array([np.nan])
                turns["p50"][name].append(float(np.percentile(latency, 50)) * 1e3)
                turns["p99"][name].append(float(np.percentile(latency, 99)) * 1e3)
                turns["answered"][name].append(float((outcome.code == OK).mean()) if len(outcome.code) else np.nan)
        rates.append(Spread.of(offered))
        for kind, by_name in turns.items():
            for name, values in by_name.items():
                found[kind][name].append(Spread.of(values))
    shares = [100 * share for share in LOADS]
    drawn = {kind: [Curve(name, shares, values) for name, values in by_name.items()] for kind, by_name in found.items()}
    return drawn | {"rate": [Curve("offered", shares, rates)]}
