"""Snapshots of metrics, and their sum over the processes of a server.

Counters and histograms are summed, also those of processes that have ended: whatever replaces a process begins with
what it had counted. Of gauges, which say how something is now, those of the processes that live are combined.
"""

from __future__ import annotations

import pickle
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import NamedTuple, TypeAlias

from prometheus_client import Metric
from prometheus_client.registry import Collector
from prometheus_client.samples import Exemplar

from lookalike_server.pausing import pausing

Combine: TypeAlias = Callable[[float, float], float]

_MONOTONIC = frozenset({"counter", "histogram", "summary", "gaugehistogram"})


def _sum(a: float, b: float) -> float:
    return a + b


GAUGES: Mapping[str, Combine] = {
    # what is the same in all processes, or of which one value is meant
    "lookalike_build_info": max,
    "lookalike_catalog_damaged": max,
    "lookalike_certificate_expiry_timestamp_seconds": min,
    "lookalike_queue_oldest_seconds": max,
    "lookalike_gpu_memory_total_bytes": max,
    "lookalike_gpu_memory_used_bytes": max,
    "lookalike_gpu_utilization_ratio": max,
    "lookalike_recall": max,
    "process_max_fds": min,
    "process_start_time_seconds": min,
    "python_info": max,
}
"""How the gauges of several processes are combined that are not summed."""


class Family(NamedTuple):
    """A metric with its samples by name and labels: value and exemplar."""

    name: str
    documentation: str
    kind: str
    unit: str
    samples: dict[tuple[str, tuple[tuple[str, str], ...]], tuple[float, Exemplar | None]]


Families: TypeAlias = dict[str, Family]


def families_of(collector: Collector) -> Families:
    """Collect metrics, with pauses."""
    return {
        metric.name: Family(
            metric.name,
            metric.documentation,
            metric.type,
            metric.unit,
            {(each.name, tuple(each.labels.items())): (each.value, each.exemplar) for each in pausing(metric.samples)},
        )
        for metric in pausing(collector.collect())
    }


class Snapshot(NamedTuple):
    """The metrics of a process: what those before it in its place had counted, and its own."""

    before: Families
    own: Families

    def dumps(self) -> bytes:
        """Return it as bytes, for processes of the same server."""
        return pickle.dumps((self.before, self.own), pickle.HIGHEST_PROTOCOL)

    @classmethod
    def loads(cls, data: bytes) -> Snapshot:
        """Return what `dumps` wrote; an empty one of no bytes."""
        return cls(*pickle.loads(data)) if data else cls({}, {})  # noqa: S301 - written by a process of this server

    def counted(self) -> Families:
        """Return what must not be lost with the process: its counters and histograms, and those before it."""
        return add([self.before, {name: each for name, each in self.own.items() if each.kind in _MONOTONIC}])


def add(parts: Iterable[Families]) -> Families:
    """Return the sum of the metrics of several processes."""
    total: Families = {}
    for families in parts:
        for name, family in families.items():
            if name not in total:
                total[name] = family._replace(samples=dict(family.samples))
                continue
            samples = total[name].samples
            for key, (value, exemplar) in family.samples.items():
                if key not in samples:
                    samples[key] = value, exemplar
                    continue
                other, other_exemplar = samples[key]
                samples[key] = _combine(family, key[0])(other, value), _newer(other_exemplar, exemplar)
    return total


def _combine(family: Family, sample: str) -> Combine:
    if sample.endswith("_created") and family.kind in _MONOTONIC:
        return min
    if family.kind in _MONOTONIC:
        return _sum
    if family.kind in {"info", "stateset"}:
        return max
    return GAUGES.get(family.name, _sum)


def _newer(one: Exemplar | None, other: Exemplar | None) -> Exemplar | None:
    if one is None or other is None:
        return one or other
    return other if float(other.timestamp or 0.0) >= float(one.timestamp or 0.0) else one


class SummedMetrics(Collector):
    """Metrics that were summed, to be written as those of one process."""

    def __init__(self, families: Families) -> None:
        self._families = families

    def collect(self) -> Iterator[Metric]:
        """Return them."""
        for family in self._families.values():
            metric = Metric(family.name, family.documentation, family.kind, family.unit)
            for (name, labels), (value, exemplar) in family.samples.items():
                metric.add_sample(name, dict(labels), value, None, exemplar)
            yield metric
