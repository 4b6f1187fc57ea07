"""The scenarios of one server on a GPU, beside the same model without a server."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from functools import cached_property
from typing import Any

import numpy as np

from benchmarks.gpu.profile import Bare, profiled
from benchmarks.gpu.served import GpuServer, closed_loop
from benchmarks.gpu.ways import BareProcess, Trial, Way
from benchmarks.load import ImageForm, LoadGenerator, Outcome, model_load
from benchmarks.rounds import Pairs, Spread, paired
from benchmarks.scenarios.bench import Result
from benchmarks.servers.base import Target

_CONCURRENCY = 256  # saturates the server: as many as its queue takes by default


@dataclass(frozen=True)
class Measured:
    """A server with its catalog, beside the same model without a server.

    Attributes:
        load: Sends the load, from so many `generators`.
        way: How the model runs, in the server and in `bare`.
        server: The server, on this `provider`.
        seconds: Length of a turn, of which there are `rounds`.
        profiles: Where the time of turns went; each scenario adds its own.
    """

    load: LoadGenerator
    generators: int
    way: Way
    bare: BareProcess
    server: GpuServer
    provider: str
    seconds: float
    rounds: int
    profiles: list[Mapping[str, Any]] = field(default_factory=list)

    def saturated(self) -> list[Result]:
        """Compare raw images, at a concurrency that fills the batches, to bare runs of the largest batch."""
        self.run("lookalike", self.concurrency, self.seconds / 2)
        trial = Trial(self.way.variant, self.way.batch)
        pairs: Pairs[Outcome, dict[str, Any]] = paired(
            lambda: self.run("lookalike", self.concurrency, self.seconds),
            lambda: self.bare.run(trial, self.seconds / 2),
            self.rounds,
        )
        value = pairs.spread(lambda ours, bare: ours.throughput / bare["throughput"])
        details = {
            "concurrency": self.concurrency,
            "images_per_s": [outcome.throughput for outcome in pairs.first],
            "bare_images_per_s": [each["throughput"] for each in pairs.second],
        }
        self._profile("images/s, raw", "lookalike", self.concurrency)
        return [self._result("images/s, raw", "bare run, no copies", value, ">= 0.90", value.median >= 0.9, details)]

    def searching(self, concurrency: int, rate: float, p99_ms: float) -> list[Result]:
        """Measure searches by image, one a call, at a concurrency."""
        self.run("search", concurrency, self.seconds / 2)
        outcomes = [self.run("search", concurrency, self.seconds) for _ in range(self.rounds)]
        rates = Spread.of([outcome.throughput for outcome in outcomes])
        p50, p99 = (
            Spread.of([float(np.percentile(outcome.latency, at)) * 1e3 for outcome in outcomes]) for at in (50, 99)
        )
        name = f"concurrency {concurrency}, search included"
        self._profile(name, "search", concurrency)
        return [
            self._result(f"{name}: calls/s", "", rates, f"> {rate:,.0f}", rates.median > rate, {}),
            self._result(f"{name}: p99, ms", "", p99, f"<= {p99_ms}", p99.median <= p99_ms, {"p50_ms": asdict(p50)}),
        ]

    def jpeg(self) -> list[Result]:
        """Compare JPEG files to raw images, at the same concurrency."""
        self.run("lookalike", self.concurrency, self.seconds / 2)
        pairs: Pairs[Outcome, Outcome] = paired(
            lambda: self.run("lookalike", self.concurrency, self.seconds, "jpeg"),
            lambda: self.run("lookalike", self.concurrency, self.seconds),
            max(1, self.rounds - 1),
        )
        value = pairs.spread(lambda jpeg, raw: jpeg.throughput / raw.throughput)
        details = {"jpeg_per_s": [each.throughput for each in pairs.first], "concurrency": self.concurrency}
        self._profile("images/s, JPEG", "lookalike", self.concurrency, "jpeg")
        return [self._result("images/s, JPEG", "raw", value, ">= 0.8", value.median >= 0.8, details)]

    def added(self) -> list[Result]:
        """Measure one call at a time: what it takes at the median beyond a bare run with its copies."""
        turn = self.seconds / 4
        self.run("lookalike", 1, turn)
        trial = Trial(self.way.variant, 1)
        pairs: Pairs[Outcome, dict[str, Any]] = paired(
            lambda: self.run("lookalike", 1, turn),
            lambda: self.bare.run(trial, turn, copies=True),
            2 * self.rounds,
        )
        value = pairs.spread(lambda call, bare: (float(np.median(call.latency)) - bare["p50"]) * 1e3)
        details = {
            "call_p50_ms": [float(np.median(each.latency)) * 1e3 for each in pairs.first],
            "bare_p50_ms": [each["p50"] * 1e3 for each in pairs.second],
        }
        name = "added p50, one call at a time, ms"
        return [self._result(name, "bare run and copies", value, "<= 1", value.median <= 1, details)]

    @property
    def concurrency(self) -> int:
        """Calls under way that fill the batches."""
        return min(_CONCURRENCY, 4 * self.way.batch)

    def run(self, protocol: str, concurrency: int, seconds: float, form: ImageForm = "raw") -> Outcome:
        """Run a closed loop, all of whose calls must be answered.

        Raises:
            LoadError: One was not.
        """
        load = model_load(Target(protocol, self.server.at.address), self.way.model, form)
        return closed_loop(self.load, load, seconds, concurrency)

    @cached_property
    def _bare(self) -> Bare:
        trial, turn = Trial(self.way.variant, self.way.batch), self.seconds / 4
        alone, copied = self.bare.run(trial, turn), self.bare.run(trial, turn, copies=True)
        return Bare(alone["throughput"], alone["p50"], copied["p50"])

    def _profile(self, scenario: str, protocol: str, concurrency: int, form: ImageForm = "raw") -> None:
        _, profile = profiled(
            scenario,
            self.server,
            lambda: self.run(protocol, concurrency, self.seconds / 2, form),
            self._bare,
            self.generators,
        )
        self.profiles.append(profile.to_json())

    def _result(self, name: str, versus: str, value: Spread, bound: str, met: bool, details: dict[str, Any]) -> Result:
        about = {"model": self.way.model.name, "frontends": 0, "flags": self.way.flags(self.provider)}
        # the bounds are for a GPU
        return Result(name, versus, value, bound, met if self.provider != "cpu" else None, about | details)
