"""Collecting metrics in a thread without holding up the others."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator

from prometheus_client import Metric
from prometheus_client.registry import Collector

_WORK_SECONDS = 0.0005
_PAUSE_SECONDS = 1e-5  # long enough for a thread that waits for the interpreter to get it


class Paused(Collector):
    """The metrics of another collector, with a pause after each that took a while.

    A thread that computes gives the interpreter up every 5 ms only, and an event loop would wait for it as long.
    """

    def __init__(self, collector: Collector) -> None:
        self._collector = collector

    def collect(self) -> Iterator[Metric]:
        """Yield them."""
        begun = time.perf_counter()
        for metric in self._collector.collect():
            yield metric
            if time.perf_counter() - begun > _WORK_SECONDS:
                time.sleep(_PAUSE_SECONDS)
                begun = time.perf_counter()


class Collected(Collector):
    """Metrics that have been collected, to be written more than once."""

    def __init__(self, metrics: Iterable[Metric]) -> None:
        self._metrics = list(metrics)

    def collect(self) -> Iterable[Metric]:
        """Return them."""
        return self._metrics
