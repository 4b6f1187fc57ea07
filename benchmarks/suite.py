"""The order of a run: which servers are up for which scenario, and what happens if one cannot be started."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import TypeVar

from benchmarks.environment import computes_bf16, processor_kind
from benchmarks.front_door import FrontDoor
from benchmarks.front_door_options import FrontDoorOptions
from benchmarks.processes import StartError
from benchmarks.scenarios import (
    curves,
    frontends,
    importing,
    latency,
    metrics,
    pressure,
    processor_time,
    throughput,
)
from benchmarks.scenarios.bench import Bench, Result
from benchmarks.scenarios.curves import Curve
from benchmarks.servers.base import ServerVariant, Target
from benchmarks.servers.ours import ours
from benchmarks.servers.peers import Peer, peer
from benchmarks.servers.small_servers import echo
from benchmarks.servers.timed_device import timed_device

T = TypeVar("T")

CURVE_ROUNDS = 3

# What the second runtime must gain over an older version, by `processor_kind`; elsewhere it is only reported.
_GAIN = {"AMX": 5.0, "AVX-512 BF16": 2.0}


@dataclass(slots=True)
class Suite:
    """One model's run; what it has found so far can be read at any time.

    Attributes:
        bench: The means of measuring.
        flags: Further flags of our server.
        peers: The names of the peers.
        before: The checkout of an older version.
        results: What was measured.
        curves: The data of the charts.
        skipped: What was not measured, and why.
    """

    bench: Bench
    flags: Sequence[str]
    peers: Sequence[str]
    before: Path | None = None
    results: list[Result] = field(default_factory=list)
    curves: dict[str, list[Curve]] = field(default_factory=dict)
    skipped: dict[str, str] = field(default_factory=dict)

    def measure(self, names: Sequence[str]) -> None:
        """Run every scenario of the model itself, with our server up all the time and one other beside it."""
        bench = self.bench
        if not names:
            return
        if reason := bench.bare.openvino_unavailable:
            self._skip("OpenVINO", f"{reason}; ONNX Runtime alone is the limit")
        with ours(bench.model, tuple(self.flags)).start() as target:
            if "idle" in names:
                self._add(latency.idle(bench, target))
            if "latency" in names:
                with echo().start() as bounce:
                    self._add(*latency.added(bench, target, bounce, 1.5))
            if "throughput" in names:
                self._add(throughput.over_limit(bench, target, 0.88))
            if "jpeg" in names:
                self._add(throughput.jpeg_over_raw(bench, target, 0.85))
            if "before" in names:
                self._compare_before(target)
            if "overload" in names:
                self._add(*pressure.overload(bench, target, 0.92, 20))
            if "cancel" in names:
                self._add(pressure.canceling(bench, target, 0.90))
            compared: list[ServerVariant] = []
            if "throughput" in names:
                for name in self.peers:
                    compared += self._compare(target, name)
            if "curves" in names:
                self._draw(target, compared or [variant for name in self.peers for variant in self._defaults(name)])

    def measure_null(self, bench: Bench) -> None:
        """Run the null model's scenario, which needs a server of its own."""
        with ours(bench.model, tuple(self.flags)).start() as target:
            self._add(throughput.null_over_echo(bench, target, echo(), 0.80))

    def measure_import(self, catalog: Path, products: int | None) -> None:
        """Import a catalog's products with their images into a server of its own."""
        with ours(self.bench.model, tuple(self.flags)).start() as target:
            result = self._or_skip(
                "import", lambda: importing.over_decoding(self.bench, target, catalog, products, 0.85)
            )
            if result is not None:
                self._add(result)

    def measure_frontends(self, bench: Bench) -> None:
        """Run the scenario of front-end processes, over a device that only takes time."""
        self._add(*frontends.over_one_process(bench))

    def measure_processor_time(self, null: Bench, device: Bench) -> None:
        """Run the scenario of the processor time of a call, over the null model and over that device."""
        with echo().start() as bounce:
            with ours(null.model, tuple(self.flags)).start() as target:
                self._add(processor_time.over_echo(null, target, bounce, "null model", 1.4))
            with timed_device(device.model, 0, frontends.DEVICE_US) as (target, _):
                self._add(processor_time.over_echo(device, target, bounce, "timed device", None))

    def measure_metrics(self, null: Bench) -> None:
        """Run the scenario of the metrics' cost, over the model and over the null model."""
        self._add(*metrics.over_none(self.bench, self.flags, "this model", metrics.KEPT))
        self._add(*metrics.over_none(null, self.flags, "null model", metrics.KEPT_WITHOUT_A_MODEL))

    def measure_front_door(self, names: Sequence[str], options: FrontDoorOptions) -> None:
        """Run the front door's scenarios, which need servers of their own."""
        FrontDoor(self.bench, self.flags, options, self._add, self._skip).measure(names)

    def _compare_before(self, target: Target) -> None:
        """Compare to an older version, with no flags: it may not know ours."""
        if self.before is None:
            self._skip("before", "--before names no checkout")
            return
        older = ours(self.bench.model, checkout=self.before, variant="before")
        bound = _GAIN.get(processor_kind())
        result = self._or_skip("before", lambda: throughput.over_server(self.bench, target, older, "throughput", bound))
        if result is not None:
            self._add(result)

    def _compare(self, target: Target, name: str) -> list[ServerVariant]:
        """Compare to one peer, at its defaults and at the best of its known settings; return those that ran."""
        found = self._or_skip(name, lambda: self._peer(name))
        if found is None:
            return []
        compared: list[ServerVariant] = []
        defaults = found.defaults
        # at defaults every peer is on ONNX Runtime, which computes in fp32 where OpenVINO can use bf16
        bound = 3.0 if computes_bf16() else None
        result = self._or_skip(
            str(defaults), lambda: throughput.over_server(self.bench, target, defaults, "throughput", bound)
        )
        if result is None:
            return compared
        self._add(result)
        compared.append(defaults)
        best = self._or_skip(
            f"{name} (tuned)", lambda: throughput.best_tuned(self.bench, target, [defaults, *found.candidates])
        )
        if best is None:
            return compared
        tuned = replace(best, name=name, variant="tuned")
        result = self._or_skip(str(tuned), lambda: throughput.over_server(self.bench, target, tuned, "throughput", 1.0))
        if result is not None:
            self._add(result)
            compared.append(tuned)
        return compared

    def _peer(self, name: str) -> Peer:
        return peer(name, self.bench.model, self.bench.runtimes(), self.bench.precision)

    def _defaults(self, name: str) -> list[ServerVariant]:
        found = self._or_skip(name, lambda: self._peer(name))
        return [] if found is None else [found.defaults]

    def _draw(self, target: Target, variants: Sequence[ServerVariant]) -> None:
        """Measure the curves with all servers up at once: each is called in turn, and the others rest."""
        with ExitStack() as stack:
            targets = {"ours": target}
            for variant in variants:
                other = self._or_skip(str(variant), partial(_entered, stack, variant))
                if other is not None:
                    targets[str(variant)] = other
                    self.bench.warm(other)
            rounds = min(CURVE_ROUNDS, self.bench.rounds)
            self.bench.log("curves: throughput over concurrency")
            self.curves["concurrency"] = curves.over_concurrency(self.bench, targets, rounds)
            self.bench.log("curves: latency over offered load")
            self.curves |= curves.over_load(self.bench, targets, target, rounds)

    def _or_skip(self, name: str, measure: Callable[[], T]) -> T | None:
        try:
            return measure()
        except StartError as error:
            self._skip(name, str(error))
            return None

    def _skip(self, name: str, reason: str) -> None:
        self.skipped[name] = reason
        self.bench.log(f"skipped {name}: {reason}")

    def _add(self, *results: Result) -> None:
        self.results += results
        for result in results:
            self.bench.log(f"{result.name} against {result.versus}: {result.value}, required {result.bound}")


def _entered(stack: ExitStack, variant: ServerVariant) -> Target:
    return stack.enter_context(variant.start())
