"""How the throughput of the server compares to bare ONNX Runtime, and to its peers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from benchmarks.load import ImageForm, Outcome
from benchmarks.processes import StartError
from benchmarks.rounds import Pairs, Spread, paired
from benchmarks.scenarios.bench import Bench, Result
from benchmarks.servers.base import ServerVariant, Target


def over_bare(bench: Bench, ours: Target, form: ImageForm, bound: float) -> Result:
    """Compare a closed loop, one image a call, to the bare session at its best."""
    shape = bench.best_shape()
    bench.warm(ours)
    pairs = paired(
        lambda: bench.closed(ours, form).throughput,
        lambda: bench.bare.run(shape, bench.seconds).throughput,
        bench.rounds,
    )
    value = pairs.spread(lambda a, b: a / b)
    details = {
        "ours_per_s": pairs.first,
        "bare_per_s": pairs.second,
        "bare": str(shape),
        "concurrency": bench.concurrency,
    }
    name = "throughput" if form == "raw" else "throughput, JPEG"
    return Result(name, f"bare ONNX Runtime ({shape})", value, f">= {bound}", value.median >= bound, details)


def over_server(bench: Bench, ours: Target, variant: ServerVariant, name: str, bound: float) -> Result:
    """Compare a closed loop, one raw image a call, to another server."""
    with variant.start() as other:
        pairs = _against(bench, ours, other, bench.rounds)
    value = pairs.spread(lambda a, b: a.throughput / b.throughput)
    details = {
        "ours_per_s": [outcome.throughput for outcome in pairs.first],
        "other_per_s": [outcome.throughput for outcome in pairs.second],
        "other_settings": variant.settings,
        "p50_ms_ours": _p50_ms(pairs.first),
        "p50_ms_other": _p50_ms(pairs.second),
        "concurrency": bench.concurrency,
    }
    return Result(name, str(variant), value, f">= {bound}", value.median >= bound, details)


def best_tuned(bench: Bench, ours: Target, candidates: Sequence[ServerVariant]) -> ServerVariant:
    """Return the candidate that does best against ours in a few short turns.

    Raises:
        StartError: When none of them can be started.
    """
    found: list[tuple[float, ServerVariant]] = []
    errors: list[str] = []
    for variant in candidates:
        try:
            with variant.start() as other:
                pairs = _against(bench, ours, other, max(2, bench.rounds // 3))
        except StartError as error:
            errors.append(f"{variant.settings}: {error}")
            continue
        ratio = pairs.spread(lambda a, b: b.throughput / a.throughput).median
        bench.log(f"  {variant}, {variant.settings}: {ratio:.2f} of ours")
        found.append((ratio, variant))
    if not found:
        raise StartError("; ".join(errors))
    return max(found, key=lambda each: each[0])[1]


def null_over_echo(bench: Bench, ours: Target, echo: ServerVariant, bound: float) -> Result:
    """Serve a model that does nothing: what remains is the server's own work, over gRPC's alone with the same bytes."""
    return replace(over_server(bench, ours, echo, "null model", bound), versus="echo")


def _against(bench: Bench, ours: Target, other: Target, rounds: int) -> Pairs[Outcome, Outcome]:
    bench.warm(other)
    bench.warm(ours)
    return paired(lambda: bench.closed(ours), lambda: bench.closed(other), rounds)


def _p50_ms(outcomes: Sequence[Outcome]) -> float:
    return Spread.of([float(np.median(outcome.latency)) * 1e3 for outcome in outcomes]).median
