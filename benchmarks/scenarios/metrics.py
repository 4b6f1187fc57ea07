"""What metrics cost: a server that counts and is scraped every second, over the same server without metrics."""

from __future__ import annotations

import threading
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from functools import partial

from benchmarks.load import LoadError
from benchmarks.process_cost import processor_clock
from benchmarks.processes import free_port
from benchmarks.rounds import paired
from benchmarks.scenarios.bench import Bench, Result
from benchmarks.servers.base import Target
from benchmarks.servers.ours import ours

KEPT = 0.99
"""What must remain of the throughput of a model."""

KEPT_WITHOUT_A_MODEL = 0.97
"""What must remain of the calls a second where the model does nothing."""

_SCRAPE_SECONDS = 1.0
_TIMEOUT = 30.0
_ALIKE = ("--provider", "cpu", "--max-concurrent-batches", "1", "--preferred-batch-size", "4")
"""So that both servers run the model in the same way, and on the runtime that every machine has."""


@dataclass(frozen=True, slots=True)
class Turn:
    """Answers a second, and the microseconds of processor time that the server spent on each."""

    rate: float
    cpu_us: float


def over_none(bench: Bench, flags: Sequence[str], model: str, kept: float) -> list[Result]:
    """Compare closed loops on a server with metrics to the same on one without, with both up and turns in pairs.

    Args:
        bench: The means of measuring.
        flags: Further flags of both servers.
        model: What the table calls the model.
        kept: What must remain of the throughput.

    Raises:
        LoadError: A scrape failed, or a call was not answered.
    """
    port = free_port()
    with_metrics, without = (
        ours(bench.model, (*flags, *_ALIKE, *more)) for more in (("--metrics-listen", str(port)), ())
    )
    with with_metrics.start() as counting, without.start() as plain:
        first, second = partial(_turn, bench, counting, port), partial(_turn, bench, plain, None)
        first(), second()
        pairs = paired(first, second, bench.rounds)
    details = {
        "metrics_per_s": [turn.rate for turn in pairs.first],
        "none_per_s": [turn.rate for turn in pairs.second],
        "metrics_cpu_us": [turn.cpu_us for turn in pairs.first],
        "none_cpu_us": [turn.cpu_us for turn in pairs.second],
        "concurrency": bench.concurrency,
        "scrape_seconds": _SCRAPE_SECONDS,
    }
    rate, cpu = pairs.spread(lambda a, b: a.rate / b.rate), pairs.spread(lambda a, b: a.cpu_us / b.cpu_us)
    return [
        Result.at_least(f"calls a second with metrics, {model}", "without", rate, kept, details),
        Result.at_most(f"processor time a call with metrics, {model}", "without", cpu, None),
    ]


def _turn(bench: Bench, target: Target, port: int | None) -> Turn:
    before = processor_clock(target.pid)
    with nullcontext() if port is None else _scraped(port):
        outcome = bench.closed(target)
    return Turn(outcome.throughput, 1e6 * (processor_clock(target.pid) - before) / len(outcome.code))


@contextmanager
def _scraped(port: int) -> Iterator[None]:
    """Ask for the metrics as Prometheus does, at once and every second, while the block runs."""
    over = threading.Event()
    failures: list[Exception] = []

    def scrape() -> None:
        while True:
            try:
                _scrape(port)
            except (OSError, ValueError) as error:
                failures.append(error)
            if over.wait(_SCRAPE_SECONDS):
                return

    thread = threading.Thread(target=scrape)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
    if failures:
        raise LoadError(f"a scrape failed: {failures[0]}")


def _scrape(port: int) -> None:
    accepted = {"Accept": "application/openmetrics-text;version=1.0.0", "Accept-Encoding": "gzip"}
    request = urllib.request.Request(f"http://127.0.0.1:{port}/metrics", headers=accepted)
    # no proxies, which the environment may name: the server is on this machine
    with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request, timeout=_TIMEOUT) as response:
        if not response.read():
            raise ValueError("it is empty")
