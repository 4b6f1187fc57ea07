"""What front-end processes gain beside a GPU: a server with them and one without, both up, in turns."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from benchmarks.gpu.served import GpuServer, closed_loop
from benchmarks.gpu.ways import Way
from benchmarks.load import LoadGenerator, Outcome, model_load
from benchmarks.rounds import Pairs, Spread, paired
from benchmarks.scenarios.bench import Result
from benchmarks.servers.base import Target

_CONNECTIONS = 8  # of each load process: the kernel shares connections out by chance, and few would not be even
_CONCURRENCY = 128


@dataclass(frozen=True, slots=True)
class FrontendPair:
    """A server with `frontends` front-end processes and one without, which run one model in the same way."""

    load: LoadGenerator
    way: Way
    many: GpuServer
    one: GpuServer
    frontends: int
    seconds: float
    rounds: int

    def images(self) -> list[Result]:
        """Compare the images a second of calls with a raw image."""
        pairs = self._pairs("lookalike", min(2 * _CONCURRENCY, 4 * self.way.batch))
        return [self._result("images/s, raw", pairs, lambda outcome: outcome.throughput)]

    def searches(self) -> list[Result]:
        """Compare the calls a second, and their p99, of searches by image."""
        pairs = self._pairs("search", _CONCURRENCY)
        name = f"concurrency {_CONCURRENCY}, search included"
        return [
            self._result(f"{name}: calls/s", pairs, lambda outcome: outcome.throughput),
            self._result(f"{name}: p99, ms", pairs, lambda outcome: 1e3 * float(np.percentile(outcome.latency, 99))),
        ]

    def _pairs(self, protocol: str, concurrency: int) -> Pairs[Outcome, Outcome]:
        def turn(server: GpuServer) -> Outcome:
            load = model_load(Target(protocol, server.at.address), self.way.model, connections=_CONNECTIONS)
            return closed_loop(self.load, load, self.seconds / 2, concurrency)

        turn(self.many)
        return paired(lambda: turn(self.many), lambda: turn(self.one), self.rounds)

    def _result(self, name: str, pairs: Pairs[Outcome, Outcome], value: Callable[[Outcome], float]) -> Result:
        many, one = map(value, pairs.first), map(value, pairs.second)
        details = {
            "model": self.way.model.name,
            "frontends": self.frontends,
            "with_frontends": list(many),
            "without": list(one),
        }
        ratio: Spread = pairs.spread(lambda a, b: value(a) / value(b))
        return Result(f"{name}, {self.frontends} front ends", "none", ratio, "reported", None, details)
