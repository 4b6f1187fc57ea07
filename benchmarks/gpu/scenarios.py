"""The figures of one server on a card, beside the same model bare."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from benchmarks.catalog.our_server import Served
from benchmarks.figures.bench import Figure
from benchmarks.gpu.clients import Clients
from benchmarks.gpu.ways import Bare, Way
from benchmarks.jobs import Outcome, Target
from benchmarks.rounds import Pairs, Spread, paired

_CALLERS = 256  # that saturate: as many as the server's queue takes by default
_STOCK = 3_000  # JPEG files a generator for a turn


@dataclass(frozen=True, slots=True)
class Measured:
    """A server with its catalog, beside the same model bare."""

    clients: Clients
    way: Way
    bare: Bare
    at: Served
    provider: str
    workers: int
    seconds: float
    rounds: int

    def saturated(self) -> list[Figure]:
        """Raw images from as many callers as fill its batches, over bare runs of its largest."""
        target, callers = self._target("lookalike"), min(_CALLERS, 4 * self.way.batch)
        self.clients.run(target, callers, self.seconds / 2)
        pairs: Pairs[Outcome, dict[str, Any]] = paired(
            lambda: self.clients.run(target, callers, self.seconds),
            lambda: self.bare.run(self.way.variant, self.way.batch, self.seconds / 2, copies=False),
            self.rounds,
        )
        value = pairs.spread(lambda ours, bare: ours.throughput / bare["throughput"])
        details = {
            "callers": callers,
            "images_per_s": [outcome.throughput for outcome in pairs.first],
            "bare_images_per_s": [each["throughput"] for each in pairs.second],
        }
        return [self._figure("images/s, raw", "bare run, no copies", value, ">= 0.90", value.median >= 0.9, details)]

    def searching(self, callers: int, rate: float, p99_ms: float) -> list[Figure]:
        """Searches by image, one a call, so many in flight."""
        target = self._target("search")
        self.clients.run(target, callers, self.seconds / 2)
        outcomes = [self.clients.run(target, callers, self.seconds) for _ in range(self.rounds)]
        rates = Spread.of([outcome.throughput for outcome in outcomes])
        p50, p99 = (
            Spread.of([float(np.percentile(outcome.latency, at)) * 1e3 for outcome in outcomes]) for at in (50, 99)
        )
        name = f"{callers} in flight, search included"
        return [
            self._figure(f"{name}: calls/s", "", rates, f"> {rate:,.0f}", rates.median > rate, {}),
            self._figure(f"{name}: p99, ms", "", p99, f"<= {p99_ms}", p99.median <= p99_ms, {"p50_ms": asdict(p50)}),
        ]

    def jpeg(self) -> list[Figure]:
        """JPEG files over raw images, from the same callers."""
        target, callers = self._target("lookalike"), min(_CALLERS, 4 * self.way.batch)
        rate = self.clients.run(target, callers, self.seconds / 2).throughput
        stock = min(_STOCK, int(rate * self.seconds) + callers)
        pairs: Pairs[Outcome, Outcome] = paired(
            lambda: self.clients.run(target, callers, self.seconds, image="jpeg", limit=stock),
            lambda: self.clients.run(target, callers, self.seconds),
            max(1, self.rounds - 1),
        )
        value = pairs.spread(lambda jpeg, raw: jpeg.throughput / raw.throughput)
        details = {"jpeg_per_s": [each.throughput for each in pairs.first], "callers": callers}
        return [self._figure("images/s, JPEG", "raw", value, ">= 0.8", value.median >= 0.8, details)]

    def added(self) -> list[Figure]:
        """One caller: what a call takes at the median beyond a bare run with its copies."""
        target = self._target("lookalike")
        turn = self.seconds / 4
        self.clients.run(target, 1, turn)
        pairs: Pairs[Outcome, dict[str, Any]] = paired(
            lambda: self.clients.run(target, 1, turn),
            lambda: self.bare.run(self.way.variant, 1, turn, copies=True),
            2 * self.rounds,
        )
        value = pairs.spread(lambda call, bare: (float(np.median(call.latency)) - bare["p50"]) * 1e3)
        details = {
            "call_p50_ms": [float(np.median(each.latency)) * 1e3 for each in pairs.first],
            "bare_p50_ms": [each["p50"] * 1e3 for each in pairs.second],
        }
        return [
            self._figure("added p50, one caller, ms", "bare run and copies", value, "<= 1", value.median <= 1, details)
        ]

    def _target(self, wire: str) -> Target:
        return Target(wire, self.at.address)

    def _figure(self, name: str, versus: str, value: Spread, bound: str, met: bool, details: dict[str, Any]) -> Figure:
        about = {"model": self.way.model.name, "workers": self.workers, "flags": self.way.flags(self.provider)}
        # What is demanded is demanded of a card.
        return Figure(name, versus, value, bound, met if self.provider != "cpu" else None, about | details)
