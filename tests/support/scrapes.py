"""Metrics as Prometheus gets them: the text of a scrape, parsed."""

from __future__ import annotations

from prometheus_client import generate_latest
from prometheus_client.parser import text_string_to_metric_families

from lookalike_server.metrics.metrics import Metrics


class Scrape:
    """What one scrape of a server says."""

    def __init__(self, metrics: Metrics) -> None:
        self.text = generate_latest(metrics.registry).decode()
        self._samples = {
            (sample.name, frozenset(sample.labels.items())): sample.value
            for family in text_string_to_metric_families(self.text)
            for sample in family.samples
        }

    def value(self, name: str, **labels: str) -> float:
        """Return the value of a series; 0 where it is not there."""
        return self._samples.get((name, frozenset(labels.items())), 0.0)

    def labels(self, name: str, label: str) -> dict[str, float]:
        """Return the values of all series of a name, by one of their labels."""
        return {dict(labels)[label]: value for (each, labels), value in self._samples.items() if each == name}

    def total(self, name: str) -> float:
        """Return the sum of all series of a name."""
        return sum(value for (each, _), value in self._samples.items() if each == name)
