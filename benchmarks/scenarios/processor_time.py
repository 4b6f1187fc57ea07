"""What a call costs the server's process in processor time, beside what gRPC alone costs."""

from __future__ import annotations

from benchmarks.catalog.footprint import processor_seconds
from benchmarks.rounds import paired
from benchmarks.scenarios.bench import Bench, Result
from benchmarks.servers.base import Target


def over_echo(bench: Bench, ours: Target, echo: Target, model: str, bound: float | None) -> Result:
    """Compare our server, over a model that takes next to no processor time, to an echo of the same bytes.

    Both are called in closed loops of the same concurrency, so both are as busy as they can be.
    """
    for target in (ours, echo):
        bench.warm(target)
    pairs = paired(lambda: _call_us(bench, ours), lambda: _call_us(bench, echo), bench.rounds)
    value = pairs.spread(lambda a, b: a / b)
    details = {"ours_us": pairs.first, "echo_us": pairs.second, "concurrency": bench.concurrency}
    return Result.at_most(f"processor time a call, {model}", "echo of the same bytes", value, bound, details)


def _call_us(bench: Bench, target: Target) -> float:
    """Return the microseconds, user and system, that all threads of the process spent on a call."""
    before = processor_seconds(target.pid)
    outcome = bench.closed(target)
    return 1e6 * (processor_seconds(target.pid) - before) / len(outcome.code)
