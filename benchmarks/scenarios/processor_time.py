"""What a call costs the server's process in processor time, beside what gRPC alone costs."""

from __future__ import annotations

from benchmarks.catalog.footprint import processor_seconds
from benchmarks.rounds import paired
from benchmarks.scenarios.bench import Bench, Result
from benchmarks.scenarios.frontends import DEVICE_US
from benchmarks.servers.base import Target
from benchmarks.servers.small_servers import echo
from benchmarks.servers.timed_device import timed_device


def over_echo(bench: Bench, bound: float) -> Result:
    """Compare our server, over a device that takes no processor time, to an echo of the same bytes.

    Both are called in closed loops of the same concurrency.
    """
    with timed_device(bench.model, 0, DEVICE_US) as (ours, _), echo().start() as bounce:
        for target in (ours, bounce):
            bench.warm(target)
        pairs = paired(lambda: _call_us(bench, ours), lambda: _call_us(bench, bounce), bench.rounds)
    value = pairs.spread(lambda a, b: a / b)
    details = {
        "ours_us": pairs.first,
        "echo_us": pairs.second,
        "device_us": DEVICE_US,
        "concurrency": bench.concurrency,
    }
    met = value.median <= bound
    return Result("processor time a call", "echo of the same bytes", value, f"<= {bound}", met, details)


def _call_us(bench: Bench, target: Target) -> float:
    """Return the microseconds, user and system, that all threads of the process spent on a call."""
    before = processor_seconds(target.pid)
    outcome = bench.closed(target)
    return 1e6 * (processor_seconds(target.pid) - before) / len(outcome.code)
