"""How the throughput of the server compares to the limit, to its peers, and to an older version of itself."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np

from benchmarks.load import LoadError, Outcome
from benchmarks.process_cost import processor_clock
from benchmarks.processes import StartError
from benchmarks.rounds import Pairs, Spread, paired
from benchmarks.scenarios.bench import Bench, Result
from benchmarks.servers.base import ServerVariant, Target


def over_limit(bench: Bench, ours: Target, bound: float) -> Result:
    """Compare a closed loop, one raw image a call, to the model alone at its best; the callers share the cores."""
    limit = bench.find_limit()
    bench.warm(ours)
    pairs = paired(
        lambda: bench.closed(ours).throughput,
        lambda: bench.bare.run(limit.shape, bench.seconds).throughput,
        bench.rounds,
    )
    details = {
        "ours_per_s": pairs.first,
        "limit_per_s": pairs.second,
        "limit": str(limit.shape),
        "limit_precision": limit.precision,
        "limit_candidates": limit.candidates,
        "concurrency": bench.concurrency,
    }
    value = pairs.spread(lambda a, b: a / b)
    return Result.at_least("throughput", f"the limit ({limit})", value, bound, details)


def jpeg_over_raw(bench: Bench, ours: Target, bound: float) -> Result:
    """Compare a closed loop of JPEG files to one of raw images: what decoding costs."""
    bench.warm(ours)
    pairs = paired(lambda: bench.closed(ours, "jpeg").throughput, lambda: bench.closed(ours).throughput, bench.rounds)
    details = {"jpeg_per_s": pairs.first, "raw_per_s": pairs.second, "concurrency": bench.concurrency}
    value = pairs.spread(lambda a, b: a / b)
    return Result.at_least("throughput, JPEG", "raw images", value, bound, details)


def over_server(bench: Bench, ours: Target, variant: ServerVariant, name: str, bound: float | None) -> Result:
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
    return Result.at_least(name, str(variant), value, bound, details)


def over_version(
    bench: Bench, ours: ServerVariant, older: ServerVariant, name: str, bound: float | None
) -> list[Result]:
    """Compare closed loops to an older version, in two pairs of turns a round on servers that are started for it.

    What a server measures and chooses as it starts is part of its version, and on a busy machine is another each time.
    Calls for each second of the server's own processor time suffer less from what else the machine does.
    """
    found: list[tuple[_Turn, _Turn]] = []
    for _ in range(bench.rounds):
        with ours.start() as target, older.start() as other:
            for each in (other, target):
                bench.warm(each)
            pairs = paired(partial(_turn, bench, target), partial(_turn, bench, other), 2)
            found += zip(pairs.first, pairs.second, strict=True)
    details = {
        "ours_per_s": [first.rate for first, _ in found],
        "other_per_s": [second.rate for _, second in found],
        "ours_us": [first.call_us for first, _ in found],
        "other_us": [second.call_us for _, second in found],
        "settings": ours.settings,
        "concurrency": bench.concurrency,
    }
    rate = Spread.of([first.rate / second.rate for first, second in found])
    thrift = Spread.of([second.call_us / first.call_us for first, second in found])
    return [
        Result.at_least(name, str(older), rate, bound, details),
        Result.at_least(f"{name}, for a second of processor time", str(older), thrift, None),
    ]


def best_tuned(bench: Bench, ours: Target, candidates: Sequence[ServerVariant]) -> ServerVariant:
    """Return the candidate that does best against ours in a few short turns.

    Raises:
        StartError: When none of them can be started and answers every call.
    """
    found: list[tuple[float, ServerVariant]] = []
    errors: list[str] = []
    for variant in candidates:
        try:
            with variant.start() as other:
                pairs = _against(bench, ours, other, max(2, bench.rounds // 3))
        except (LoadError, StartError) as error:
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


@dataclass(frozen=True, slots=True)
class _Turn:
    """Answers a second, and microseconds of the server's processor time for each."""

    rate: float
    call_us: float


def _turn(bench: Bench, target: Target) -> _Turn:
    before = processor_clock(target.pid)
    outcome = bench.closed(target)
    return _Turn(outcome.throughput, 1e6 * (processor_clock(target.pid) - before) / len(outcome.code))
