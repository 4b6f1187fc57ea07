"""How much of the limit the server reaches, and how it stands to its peers: figures 1, 2 and 4."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from benchmarks.figures.bench import Bench, Figure, Image
from benchmarks.jobs import Outcome, Target
from benchmarks.processes import StartError
from benchmarks.rounds import Pairs, Spread, paired
from benchmarks.systems.base import System


def over_limit(bench: Bench, ours: Target, image: Image, bound: float) -> Figure:
    """All callers, one image a call, over the bare session at its best."""
    shape = bench.best_shape()
    stock = bench.stock(ours) if image == "jpeg" else 0
    bench.warm(ours)
    pairs = paired(
        lambda: bench.closed(ours, image, stock).throughput,
        lambda: bench.bare.run(shape, bench.seconds).throughput,
        bench.rounds,
    )
    value = pairs.spread(lambda a, b: a / b)
    details = {"ours_per_s": pairs.first, "limit_per_s": pairs.second, "limit": str(shape), "callers": bench.callers}
    name = "throughput" if image == "raw" else "throughput, JPEG"
    return Figure(name, f"limit ({shape})", value, f">= {bound}", value.median >= bound, details)


def over_system(bench: Bench, ours: Target, system: System, name: str, bound: float) -> Figure:
    """All callers, one raw image a call, over another system."""
    with system.start() as other:
        pairs = _against(bench, ours, other, bench.rounds)
    value = pairs.spread(lambda a, b: a.throughput / b.throughput)
    details = {
        "ours_per_s": [outcome.throughput for outcome in pairs.first],
        "other_per_s": [outcome.throughput for outcome in pairs.second],
        "other_settings": system.settings,
        "p50_ms_ours": _p50_ms(pairs.first),
        "p50_ms_other": _p50_ms(pairs.second),
        "callers": bench.callers,
    }
    return Figure(name, str(system), value, f">= {bound}", value.median >= bound, details)


def best_tuned(bench: Bench, ours: Target, candidates: Sequence[System]) -> System:
    """The candidate that does best against ours in a few short turns.

    Raises:
        StartError: When none of them can be started.
    """
    found: list[tuple[float, System]] = []
    faults: list[str] = []
    for system in candidates:
        try:
            with system.start() as other:
                pairs = _against(bench, ours, other, max(2, bench.rounds // 3))
        except StartError as error:
            faults.append(f"{system.settings}: {error}")
            continue
        ratio = pairs.spread(lambda a, b: b.throughput / a.throughput).median
        bench.say(f"  {system}, {system.settings}: {ratio:.2f} of ours")
        found.append((ratio, system))
    if not found:
        raise StartError("; ".join(faults))
    return max(found, key=lambda each: each[0])[1]


def null_over_echo(bench: Bench, ours: Target, echo: System, bound: float) -> Figure:
    """A model that does nothing: what remains is the server's own work, over gRPC's alone with the same bytes."""
    figure = over_system(bench, ours, echo, "null model", bound)
    return Figure(figure.name, "echo", figure.value, figure.bound, figure.met, figure.details)


def _against(bench: Bench, ours: Target, other: Target, rounds: int) -> Pairs[Outcome, Outcome]:
    bench.warm(other)
    bench.warm(ours)
    return paired(lambda: bench.closed(ours), lambda: bench.closed(other), rounds)


def _p50_ms(outcomes: Sequence[Outcome]) -> float:
    return Spread.of([float(np.median(outcome.latency)) * 1e3 for outcome in outcomes]).median
