"""The scenarios of one server on a GPU, beside the same model without a server."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from benchmarks.catalog.our_server import Served
from benchmarks.gpu.ways import BareProcess, Way
from benchmarks.load import ImageForm, LoadGenerator, Outcome, model_load
from benchmarks.rounds import Pairs, Spread, paired
from benchmarks.scenarios.bench import Result
from benchmarks.servers.base import Target

_CONCURRENCY = 256  # saturates the server: as many as its queue takes by default


@dataclass(frozen=True, slots=True)
class Measured:
    """A server with its catalog, beside the same model without a server."""

    load: LoadGenerator
    way: Way
    bare: BareProcess
    at: Served
    provider: str
    frontends: int
    seconds: float
    rounds: int

    def saturated(self) -> list[Result]:
        """Compare raw images, at a concurrency that fills the batches, to bare runs of the largest batch."""
        concurrency = min(_CONCURRENCY, 4 * self.way.batch)
        self._run("lookalike", concurrency, self.seconds / 2)
        pairs: Pairs[Outcome, dict[str, Any]] = paired(
            lambda: self._run("lookalike", concurrency, self.seconds),
            lambda: self.bare.run(self.way.variant, self.way.batch, self.seconds / 2, copies=False),
            self.rounds,
        )
        value = pairs.spread(lambda ours, bare: ours.throughput / bare["throughput"])
        details = {
            "concurrency": concurrency,
            "images_per_s": [outcome.throughput for outcome in pairs.first],
            "bare_images_per_s": [each["throughput"] for each in pairs.second],
        }
        return [self._result("images/s, raw", "bare run, no copies", value, ">= 0.90", value.median >= 0.9, details)]

    def searching(self, concurrency: int, rate: float, p99_ms: float) -> list[Result]:
        """Measure searches by image, one a call, at a concurrency."""
        self._run("search", concurrency, self.seconds / 2)
        outcomes = [self._run("search", concurrency, self.seconds) for _ in range(self.rounds)]
        rates = Spread.of([outcome.throughput for outcome in outcomes])
        p50, p99 = (
            Spread.of([float(np.percentile(outcome.latency, at)) * 1e3 for outcome in outcomes]) for at in (50, 99)
        )
        name = f"concurrency {concurrency}, search included"
        return [
            self._result(f"{name}: calls/s", "", rates, f"> {rate:,.0f}", rates.median > rate, {}),
            self._result(f"{name}: p99, ms", "", p99, f"<= {p99_ms}", p99.median <= p99_ms, {"p50_ms": asdict(p50)}),
        ]

    def jpeg(self) -> list[Result]:
        """Compare JPEG files to raw images, at the same concurrency."""
        concurrency = min(_CONCURRENCY, 4 * self.way.batch)
        self._run("lookalike", concurrency, self.seconds / 2)
        pairs: Pairs[Outcome, Outcome] = paired(
            lambda: self._run("lookalike", concurrency, self.seconds, "jpeg"),
            lambda: self._run("lookalike", concurrency, self.seconds),
            max(1, self.rounds - 1),
        )
        value = pairs.spread(lambda jpeg, raw: jpeg.throughput / raw.throughput)
        details = {"jpeg_per_s": [each.throughput for each in pairs.first], "concurrency": concurrency}
        return [self._result("images/s, JPEG", "raw", value, ">= 0.8", value.median >= 0.8, details)]

    def added(self) -> list[Result]:
        """Measure one call at a time: what it takes at the median beyond a bare run with its copies."""
        turn = self.seconds / 4
        self._run("lookalike", 1, turn)
        pairs: Pairs[Outcome, dict[str, Any]] = paired(
            lambda: self._run("lookalike", 1, turn),
            lambda: self.bare.run(self.way.variant, 1, turn, copies=True),
            2 * self.rounds,
        )
        value = pairs.spread(lambda call, bare: (float(np.median(call.latency)) - bare["p50"]) * 1e3)
        details = {
            "call_p50_ms": [float(np.median(each.latency)) * 1e3 for each in pairs.first],
            "bare_p50_ms": [each["p50"] * 1e3 for each in pairs.second],
        }
        return [
            self._result(
                "added p50, one call at a time, ms", "bare run and copies", value, "<= 1", value.median <= 1, details
            )
        ]

    def _run(self, protocol: str, concurrency: int, seconds: float, form: ImageForm = "raw") -> Outcome:
        load = model_load(Target(protocol, self.at.address), self.way.model, form)
        return self.load.run(load, seconds, concurrency=concurrency).check(all_answered=True)

    def _result(self, name: str, versus: str, value: Spread, bound: str, met: bool, details: dict[str, Any]) -> Result:
        about = {"model": self.way.model.name, "frontends": self.frontends, "flags": self.way.flags(self.provider)}
        # the bounds are for a GPU
        return Result(name, versus, value, bound, met if self.provider != "cpu" else None, about | details)
