"""What counts: numbers in plain dicts and lists, because the client library's objects take several times as long."""

from __future__ import annotations

import math
import threading
from bisect import bisect_left
from collections.abc import Sequence

from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric

from lookalike_server.metrics.definitions import Definition
from lookalike_server.pausing import pausing


class Counts:
    """A counter's values by its labels. Any thread counts."""

    def __init__(self, definition: Definition, *known: str) -> None:
        """Begin with 0 for each of these values of its only label, or without labels; of others with nothing.

        A series that begins with 0 has a rate at its first event.
        """
        self.definition = definition
        self._lock = threading.Lock()
        self._values: dict[tuple[str, ...], float] = {(each,): 0 for each in known} if definition.labels else {(): 0}

    def add(self, *labels: str, count: float = 1) -> None:
        """Add to the value of these labels."""
        with self._lock:
            self._values[labels] = self._values.get(labels, 0) + count

    def family(self) -> Metric:
        """Return the values as the client library has them."""
        family = CounterMetricFamily(self.definition.name, self.definition.meaning, labels=self.definition.labels)
        for labels, value in pausing(list(self._values.items())):
            family.add_metric(labels, value)
        return family


class Buckets:
    """Observations of one kind. One thread observes; others may read, and see the last one half counted."""

    __slots__ = ("_bounds", "_counts", "_sum")

    def __init__(self, bounds: Sequence[float]) -> None:
        """Begin empty."""
        self._bounds = bounds
        self._counts = [0] * (len(bounds) + 1)
        self._sum = 0.0

    def observe(self, value: float) -> None:
        """Count a value."""
        self._counts[bisect_left(self._bounds, value)] += 1
        self._sum += value

    def add_to(self, family: HistogramMetricFamily, labels: Sequence[str]) -> None:
        """Add a series of these labels."""
        total = 0
        buckets: list[tuple[str, float]] = []
        for bound, count in zip((*self._bounds, math.inf), list(self._counts), strict=True):
            total += count
            buckets.append(("+Inf" if bound == math.inf else str(float(bound)), total))
        # A sum that may become smaller is none of a histogram.
        family.add_metric(labels, buckets, self._sum if self._bounds[0] >= 0 else None)


class Histograms:
    """A histogram's series by its labels."""

    def __init__(self, definition: Definition, *known: str) -> None:
        """Begin with an empty series for each of these values of its only label, or without labels; see `Counts`."""
        self.definition = definition
        self._series: dict[tuple[str, ...], Buckets] = {}
        for labels in [(each,) for each in known] if definition.labels else [()]:
            self.of(*labels)

    def of(self, *labels: str) -> Buckets:
        """Return the series of these labels, which is made with the first use."""
        buckets = self._series.get(labels)
        if buckets is None:
            buckets = self._series[labels] = Buckets(self.definition.buckets)
        return buckets

    def put(self, buckets: Buckets, *labels: str) -> None:
        """Have these observations as the series of these labels."""
        self._series[labels] = buckets

    def family(self) -> Metric:
        """Return the series as the client library has them."""
        family = HistogramMetricFamily(self.definition.name, self.definition.meaning, labels=self.definition.labels)
        for labels, buckets in pausing(list(self._series.items())):
            buckets.add_to(family, labels)
        return family


def gauge(definition: Definition, *values: tuple[Sequence[str], float]) -> Metric:
    """Return a gauge with these values, each with its labels."""
    family = GaugeMetricFamily(definition.name, definition.meaning, labels=definition.labels)
    for labels, value in values:
        family.add_metric(labels, value)
    return family
