"""The order of a run: which systems are up for which figure, and what becomes of one that cannot be started."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial
from typing import TypeVar

from benchmarks.figures import curves, frontends, latency, pressure, throughput
from benchmarks.figures.bench import Bench, Figure
from benchmarks.figures.curves import Curve
from benchmarks.jobs import Target
from benchmarks.processes import StartError
from benchmarks.systems.base import System
from benchmarks.systems.ours import ours
from benchmarks.systems.peers import Peer, peer
from benchmarks.systems.small_servers import echo

T = TypeVar("T")

CURVE_ROUNDS = 3


@dataclass(slots=True)
class Contest:
    """One model's run. What it has found so far can be read at any time."""

    bench: Bench
    flags: Sequence[str]
    systems: Sequence[str]
    figures: list[Figure] = field(default_factory=list)
    curves: dict[str, list[Curve]] = field(default_factory=dict)
    skipped: dict[str, str] = field(default_factory=dict)

    def measure(self, names: Sequence[str]) -> None:
        """Every figure of the model itself, with our server up all the time and one other beside it."""
        bench = self.bench
        if not names:
            return
        with ours(bench.model, tuple(self.flags)).start() as target:
            if "idle" in names:
                self._add(latency.idle(bench, target))
            if "latency" in names:
                with echo().start() as bounce:
                    self._add(*latency.added(bench, target, bounce, 1.5))
            if "throughput" in names:
                self._add(throughput.over_limit(bench, target, "raw", 0.95))
            if "jpeg" in names:
                self._add(throughput.over_limit(bench, target, "jpeg", 0.88))
            if "overload" in names:
                self._add(*pressure.overload(bench, target, 0.90, 20))
            if "cancel" in names:
                self._add(pressure.canceling(bench, target, 0.90))
            chosen: list[System] = []
            if "throughput" in names:
                for name in self.systems:
                    chosen += self._contend(target, name)
            if "curves" in names:
                self._draw(target, chosen or [system for name in self.systems for system in self._defaults(name)])

    def measure_null(self, bench: Bench) -> None:
        """The null model's figure, which needs a server of its own."""
        with ours(bench.model, tuple(self.flags)).start() as target:
            self._add(throughput.null_over_echo(bench, target, echo(), 0.75))

    def measure_workers(self, bench: Bench) -> None:
        """The figure of front-end processes, over a device that only takes time."""
        self._add(*frontends.over_one_process(bench))

    def _contend(self, target: Target, name: str) -> list[System]:
        """Against one peer: at its defaults, and at the best of its settings that we know of; those that ran."""
        found: Peer | None = self._or_skip(name, lambda: peer(name, self.bench.model))
        if found is None:
            return []
        ran: list[System] = []
        defaults = found.defaults
        figure = self._or_skip(
            str(defaults), lambda: throughput.over_system(self.bench, target, defaults, "throughput", 1.2)
        )
        if figure is None:
            return ran
        self._add(figure)
        ran.append(defaults)
        best = self._or_skip(
            f"{name} (tuned)", lambda: throughput.best_tuned(self.bench, target, [defaults, *found.candidates])
        )
        if best is None:
            return ran
        tuned = System(name, "tuned", best.start, best.settings, best.jpeg)
        figure = self._or_skip(str(tuned), lambda: throughput.over_system(self.bench, target, tuned, "throughput", 1.0))
        if figure is not None:
            self._add(figure)
            ran.append(tuned)
        return ran

    def _defaults(self, name: str) -> list[System]:
        found = self._or_skip(name, lambda: peer(name, self.bench.model))
        return [] if found is None else [found.defaults]

    def _draw(self, target: Target, systems: Sequence[System]) -> None:
        """All systems up at once: each is asked in turn, and the others rest."""
        with ExitStack() as stack:
            targets = {"ours": target}
            for system in systems:
                other = self._or_skip(str(system), partial(_entered, stack, system))
                if other is not None:
                    targets[str(system)] = other
                    self.bench.warm(other)
            rounds = min(CURVE_ROUNDS, self.bench.rounds)
            self.bench.say("curves: throughput over callers")
            self.curves["callers"] = curves.over_callers(self.bench, targets, rounds)
            self.bench.say("curves: latency over offered load")
            self.curves |= curves.over_load(self.bench, targets, target, rounds)

    def _or_skip(self, name: str, act: Callable[[], T]) -> T | None:
        try:
            return act()
        except StartError as error:
            self.skipped[name] = str(error)
            self.bench.say(f"skipped {name}: {error}")
            return None

    def _add(self, *figures: Figure) -> None:
        self.figures += figures
        for figure in figures:
            self.bench.say(f"{figure.name} against {figure.versus}: {figure.value}, demanded {figure.bound}")


def _entered(stack: ExitStack, system: System) -> Target:
    return stack.enter_context(system.start())
