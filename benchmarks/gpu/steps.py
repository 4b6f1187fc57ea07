"""One step of a run in a process of its own: what it measures is written after each result."""

from __future__ import annotations

import argparse
import json
import signal
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from typing import Any, NoReturn

from benchmarks.environment import Model, read_model, threads
from benchmarks.gpu.scenarios import Measured
from benchmarks.gpu.served import fill, server
from benchmarks.gpu.smoke import smoke
from benchmarks.gpu.ways import BATCHES, VARIANTS, BareProcess, Way
from benchmarks.load import LoadGenerator, load_generator
from benchmarks.processes import StartError
from benchmarks.rounds import Spread
from benchmarks.scenarios.bench import Result
from lookalike_server.domain.errors import LookalikeError

_SHORTEST = 20.0  # seconds below which no server is started


class OutOfTimeError(Exception):
    """The budget is spent."""


class Step:
    """One step within its budget: what was measured, and what was not and why."""

    def __init__(self, name: str, options: argparse.Namespace) -> None:
        self.results: list[Result] = []
        self.skipped: dict[str, str] = {}
        self.bare: list[dict[str, Any]] = []
        self._path = Path(options.out, f"{name}.json")
        self._options = options
        self._begun = time.monotonic()

    def write(self) -> None:
        """Write what is known so far, whatever comes after."""
        written = {
            "results": [asdict(result) for result in self.results],
            "skipped": self.skipped,
            "bare": self.bare,
            "seconds": round(time.monotonic() - self._begun, 1),
        }
        self._path.write_text(json.dumps(written, indent=1) + "\n", encoding="utf-8")

    def left(self) -> float:
        """Seconds of the budget that are left."""
        return float(self._options.budget) - (time.monotonic() - self._begun)

    def end(self) -> NoReturn:
        """End the run, whatever it is waiting for."""
        raise OutOfTimeError

    def log(self, what: str) -> None:
        """Print progress on the standard error."""
        print(f"[{time.monotonic() - self._begun:5.0f} s] {what}", file=sys.stderr, flush=True)

    def measure(self, name: str, seconds: float, measure: Callable[[], Sequence[Result]]) -> None:
        """Measure something that needs so many seconds, if there is time, and record its results."""
        if self.left() < seconds:
            self.skipped[name] = f"{seconds:.0f} s are needed, {max(0.0, self.left()):.0f} s of the budget were left"
            return
        self.log(name)
        try:
            self.results += measure()
        except (RuntimeError, StartError, LookalikeError) as error:
            self.skipped[name] = str(error)[:500]
        self.write()

    def ways(self, model: Model, bare: BareProcess, until: float, batches: Sequence[int]) -> None:
        """Measure every way of running a model, in turns, until so many seconds of the budget are left."""
        options = self._options
        found: dict[tuple[str, int], list[float]] = {}
        variants = VARIANTS if options.provider == "cuda" else VARIANTS[:1]
        rejected: set[str] = set()
        turn = options.seconds / 8
        for _ in range(options.rounds):
            for variant in variants:
                key = json.dumps(variant, sort_keys=True)
                for batch in batches:
                    if key in rejected or (variant.get("use_tf32") is False and model.precision != "fp32"):
                        continue
                    name = f"bare {model.name} {key} batch {batch}"
                    if self.left() < until:
                        self.skipped.setdefault(name, "no time was left for bare runs")
                        continue
                    try:
                        rate = bare.run(variant, batch, turn, copies=False)["throughput"]
                    except StartError as error:
                        self.skipped[f"bare {model.name} {key}"] = str(error)
                        rejected.add(key)
                        continue
                    found.setdefault((key, batch), []).append(rate)
        ways = [Way(model, json.loads(key), batch, Spread.of(rates)) for (key, batch), rates in found.items()]
        self.bare += [
            {"model": model.name, "precision": model.precision, "variant": way.variant, "batch": way.batch}
            | {"images_per_s": asdict(way.rate)}
            for way in ways
            if json.dumps(way.variant, sort_keys=True) not in rejected
        ]
        self.write()


def run_step(name: str, options: argparse.Namespace) -> None:
    """Run one step, and write NAME.json; whatever hangs, what was measured until then is written."""
    folders = {path.parent.resolve() for path in options.models.glob("*/model.json")}  # a link is not another model
    models = [read_model(folder) for folder in sorted(folders)]
    step = Step(name, options)
    signal.signal(signal.SIGALRM, lambda *_: step.end())
    signal.setitimer(signal.ITIMER_REAL, max(0.1, step.left()))
    try:
        _STEPS[name](step, options, models)
    except OutOfTimeError:
        step.skipped[f"the rest of {name}"] = "its time was spent"
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        step.write()


def _smoke(step: Step, options: argparse.Namespace, models: Sequence[Model]) -> None:
    smoke(step, models, options.provider, _batches(options))


def _bare(step: Step, options: argparse.Namespace, models: Sequence[Model]) -> None:
    """Run each model without a server, in every way."""
    with ExitStack() as stack:
        timed = _timed(models)
        for at, model in enumerate(timed, start=1):
            step.log(f"bare {model.name}")
            bare = BareProcess(stack, model, options.provider, max(_batches(options)))
            step.ways(model, bare, options.budget * (1 - at / len(timed)), _batches(options))


def _serve(step: Step, options: argparse.Namespace, models: Sequence[Model]) -> None:
    _servers(step, options, models, [0])


def _frontends(step: Step, options: argparse.Namespace, models: Sequence[Model]) -> None:
    chosen = [int(each) for each in options.frontend_processes.split(",") if each]
    _servers(step, options, models, chosen or [each for each in (2, 4, 8) if each <= threads()] or [1])


def _servers(step: Step, options: argparse.Namespace, models: Sequence[Model], frontends: Sequence[int]) -> None:
    """Measure the server with each of these numbers of front-end processes, in the way that was fastest without one."""
    way = _best_way(step, options, models)
    step.log(f"{way.model.name} {dict(way.variant)} batch {way.batch}: {way.rate} images/s without a server")
    with ExitStack() as stack:
        bare = BareProcess(stack, way.model, options.provider, max(way.batch, *_batches(options)))
        load = stack.enter_context(load_generator(options.generators or max(1, threads() // 4)))
        for at, number in enumerate(frontends):
            _one_server(step, options, way, bare, load, number, step.left() / (len(frontends) - at))


def _best_way(step: Step, options: argparse.Namespace, models: Sequence[Model]) -> Way:
    """Return the fastest way that the step `bare` has found, or else the server's defaults."""
    path = options.out / "bare.json"
    measured = json.loads(path.read_text(encoding="utf-8"))["bare"] if path.exists() else []
    by_name = {model.name: model for model in models}
    ways = [
        Way(by_name[each["model"]], each["variant"], each["batch"], Spread(**each["images_per_s"]))
        for each in measured
        if each["model"] in by_name
    ]
    if ways:
        return max(ways, key=lambda way: way.rate.median)
    step.skipped["the fastest way"] = "the step bare has found none, so the server runs with its defaults"
    return Way(_timed(models)[0], VARIANTS[0], max(_batches(options)), Spread.of([0.0]))


def _timed(models: Sequence[Model]) -> Sequence[Model]:
    """Return those with random weights, which are there for their speed; where there are none, all."""
    return [model for model in models if model.weights.startswith("random")] or models


def _batches(options: argparse.Namespace) -> list[int]:
    return [int(each) for each in options.batches.split(",") if each] or list(BATCHES)


def _one_server(
    step: Step,
    options: argparse.Namespace,
    way: Way,
    bare: BareProcess,
    load: LoadGenerator,
    frontends: int,
    seconds: float,
) -> None:
    """Run the scenarios of one server, in so many seconds."""
    name = f"{way.model.name}, --frontend-processes {frontends}"
    turn = options.seconds * options.rounds
    flags = [*way.flags(options.provider), *(("--frontend-processes", str(frontends)) if frontends else ())]
    if seconds < _SHORTEST + 3 * turn:
        step.skipped[name] = f"{max(0.0, seconds):.0f} s of the budget were left"
        return
    step.log(f"server, {' '.join(flags)}")
    try:
        with server(way.model, flags, seconds / 2) as at:
            rested = fill(at, options.rows, way.model.dim, seconds / 3)
            if not rested.rested:
                step.skipped[f"{name}: rest"] = f"still busy after {rested.seconds} s: {dict(rested.kinds)}"
            it = Measured(load, way, bare, at, options.provider, frontends, options.seconds, options.rounds)
            step.measure(f"{name}: images/s", 3 * turn, it.saturated)
            step.measure(f"{name}: concurrency 16", 2 * turn, lambda: it.searching(16, 2_571, 6.4))
            step.measure(f"{name}: concurrency 128", 2 * turn, lambda: it.searching(128, 5_412, 26.0))
            if frontends:
                return
            step.measure(f"{name}: added p50", 2 * turn, it.added)
            step.measure(f"{name}: JPEG", 6 * turn, it.jpeg)
    except (RuntimeError, StartError) as error:
        step.skipped[name] = str(error)[:1000]


_STEPS: dict[str, Callable[[Step, argparse.Namespace, Sequence[Model]], None]] = {
    "smoke": _smoke,
    "bare": _bare,
    "serve": _serve,
    "frontends": _frontends,
}
