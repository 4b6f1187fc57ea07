"""The steps in their order: ONNX Runtime alone in every way, then the server in the best one, as time allows."""

from __future__ import annotations

import argparse
import json
import signal
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict
from typing import Any, NoReturn

from benchmarks.environment import Model, read_model, threads
from benchmarks.gpu.machine import about
from benchmarks.gpu.scenarios import Measured
from benchmarks.gpu.served import fill, known_settings, server
from benchmarks.gpu.ways import BATCHES, VARIANTS, BareProcess, Way
from benchmarks.load import LoadGenerator, load_generator
from benchmarks.processes import StartError
from benchmarks.rounds import Spread
from benchmarks.scenarios.bench import Result

SHARE_OF_BARE = 0.4
"""The share of the budget after which the search for the best way ends with what it has found."""

_SHORTEST = 20.0  # seconds below which no server is started


class OutOfTimeError(Exception):
    """The budget is spent."""


class Steps:
    """A run within its budget: what was measured, and what was not and why."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.results: list[Result] = []
        self.skipped: dict[str, str] = {}
        self.bare: list[dict[str, Any]] = []
        self._options = options
        self._begun = time.monotonic()

    def left(self) -> float:
        """Seconds of the budget that are left."""
        return float(self._options.budget) - (time.monotonic() - self._begun)

    def end(self) -> NoReturn:
        """End the run, whatever it is waiting for."""
        raise OutOfTimeError

    def log(self, what: str) -> None:
        """Print progress on the standard error."""
        print(f"[{time.monotonic() - self._begun:5.0f} s] {what}", file=sys.stderr, flush=True)

    def step(self, name: str, seconds: float, measure: Callable[[], Sequence[Result]]) -> None:
        """Measure something that needs so many seconds, if there is time, and record its results."""
        if self.left() < seconds:
            self.skipped[name] = f"{seconds:.0f} s are needed, {max(0.0, self.left()):.0f} s of the budget were left"
            return
        self.log(name)
        try:
            self.results += measure()
        except (RuntimeError, StartError) as error:
            self.skipped[name] = str(error)[:500]

    def ways(self, model: Model, bare: BareProcess, until: float, batches: Sequence[int]) -> list[Way]:
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
        return [way for way in ways if json.dumps(way.variant, sort_keys=True) not in rejected]


def measure(options: argparse.Namespace) -> None:
    """Measure every model of the folder, write gpu.json and print a table."""
    folders = {path.parent.resolve() for path in options.models.glob("*/model.json")}  # a link is not another model
    models = [read_model(folder) for folder in sorted(folders)]
    if not models:
        sys.exit(f"{options.models} has no model folders")
    steps = Steps(options)
    settings = {name: str(value) for name, value in vars(options).items() if value is not None}
    machine = about(options.commit, settings)
    frontends = _frontends(options.frontend_processes, steps)
    # whatever hangs: what was measured until then is written
    signal.signal(signal.SIGALRM, lambda *_: steps.end())
    signal.setitimer(signal.ITIMER_REAL, max(1.0, steps.left()))
    try:
        _all(steps, options, models, frontends)
    except OutOfTimeError:
        steps.skipped["the rest"] = "the budget was spent"
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
    options.out.mkdir(parents=True, exist_ok=True)
    result = {
        "about": machine,
        "bare": steps.bare,
        "results": [asdict(result) for result in steps.results],
        "skipped": steps.skipped,
        "seconds": options.budget - steps.left(),
    }
    (options.out / "gpu.json").write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    print(_table(machine, steps))
    if not steps.results:
        sys.exit(1)


def _all(steps: Steps, options: argparse.Namespace, models: Sequence[Model], frontends: Sequence[int]) -> None:
    """Every step."""
    batches = [int(each) for each in options.batches.split(",") if each] or list(BATCHES)
    with ExitStack() as stack:
        bare = {model.name: BareProcess(stack, model, options.provider, max(batches)) for model in models}
        ways: list[Way] = []
        for at, model in enumerate(models, start=1):
            steps.log(f"bare {model.name}")
            share = SHARE_OF_BARE * options.budget * at / len(models)
            ways += steps.ways(model, bare[model.name], options.budget - share, batches)
        if ways:
            best = max(ways, key=lambda way: way.rate.median)
            steps.log(f"best: {best.model.name} {dict(best.variant)} batch {best.batch}: {best.rate} images/s")
            count = options.generators or max(1, threads() // 4)
            load = stack.enter_context(load_generator(count))
            for number in frontends:
                _serve(steps, options, best, bare[best.model.name], load, number)


def _serve(
    steps: Steps, options: argparse.Namespace, way: Way, bare: BareProcess, load: LoadGenerator, frontends: int
) -> None:
    """Run all scenarios of one server."""
    name = f"{way.model.name}, --frontend-processes {frontends}"
    turn = options.seconds * options.rounds
    flags = [*way.flags(options.provider), *(("--frontend-processes", str(frontends)) if frontends else ())]
    if steps.left() < 2 * _SHORTEST + 3 * turn:
        steps.skipped[name] = f"{max(0.0, steps.left()):.0f} s of the budget were left"
        return
    steps.log(f"server, {' '.join(flags)}")
    try:
        with server(way.model, flags, steps.left() - _SHORTEST) as at:
            rested = fill(at, options.rows, way.model.dim, min(90.0, max(_SHORTEST, steps.left() / 3)))
            if not rested.rested:
                steps.skipped[f"{name}: rest"] = f"still busy after {rested.seconds} s: {dict(rested.kinds)}"
            it = Measured(load, way, bare, at, options.provider, frontends, options.seconds, options.rounds)
            steps.step(f"{name}: images/s", 3 * turn, it.saturated)
            steps.step(f"{name}: concurrency 16", 2 * turn, lambda: it.searching(16, 2_571, 6.4))
            steps.step(f"{name}: concurrency 128", 2 * turn, lambda: it.searching(128, 5_412, 26.0))
            steps.step(f"{name}: added p50", 2 * turn, it.added)
            steps.step(f"{name}: JPEG", 6 * turn, it.jpeg)
    except (RuntimeError, StartError) as error:
        steps.skipped[name] = str(error)[:1000]


def _frontends(wanted: str, steps: Steps) -> list[int]:
    """Return the numbers of front-end processes to measure with; only 0 where the server has no such setting."""
    if "--frontend-processes" not in known_settings():
        steps.skipped["frontends"] = "the server has no --frontend-processes"
        return [0]
    return [int(each) for each in wanted.split(",") if each] or [0, max(1, threads() // 2)]


def _table(machine: Mapping[str, Any], steps: Steps) -> str:
    gpu = machine["gpu"]
    lines = [
        f"{gpu['name']}, driver {gpu.get('driver_version', 'none')}; {machine['cpu']}, {machine['cores']} cores; "
        f"commit {machine['commit'][:10]}; {float(machine['settings']['budget']) - steps.left():.0f} s",
        "",
        "| result | model | front ends | median | quartiles | target | |",
        "|---|---|---|---|---|---|---|",
    ]
    for result in steps.results:
        value, details = result.value, result.details
        met = {True: "met", False: "**missed**", None: "no GPU"}[result.met]
        name = f"{result.name} over {result.versus}" if result.versus else result.name
        lines.append(
            f"| {name} | {details['model']} | {details['frontends']} | {value.median:,.3f} "
            f"| {value.low:,.3f} .. {value.high:,.3f} | {result.bound} | {met} |"
        )
    lines += ["", *(f"Skipped: {name}: {reason}" for name, reason in steps.skipped.items())]
    return "\n".join(lines).rstrip()
