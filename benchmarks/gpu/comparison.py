"""The step `bare`: each model without a server, in every way, and which of the ways the server is measured with."""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from typing import Any

from benchmarks.environment import Model
from benchmarks.gpu.step import Step
from benchmarks.gpu.ways import ALTERNATIVES, BATCHES, CONCURRENT, ENOUGH, GRID, BareProcess, Trial, Way
from benchmarks.processes import StartError
from benchmarks.rounds import Spread

_ON_THE_FASTEST = ("conv_algo_search", "use_tf32")  # settings that are no part of the grid
_GRID_SHARE = 0.65  # of a model's time; the rest is for those


def compare_ways(step: Step, options: argparse.Namespace, models: Sequence[Model]) -> None:
    """Run each model in every way, in rounds, so that two ways of one round are comparable."""
    batches = batch_sizes(options)
    timed = timed_models(models)
    for at, model in enumerate(timed):
        step.log(f"bare {model.name}")
        share = step.left() / (len(timed) - at)
        until = step.left() - share
        with ExitStack() as stack:
            bare = BareProcess(stack, model, options.provider, max(batches))
            grid = [Trial(variant, batch) for variant in GRID for batch in batches]
            _in_turns(step, options, model, bare, "grid", grid, until + share * (1 - _GRID_SHARE))
            best = fastest([way for way in step.ways if way["model"] == model.name])
            if best is None:
                continue
            others = [
                Trial({**best.variant, name: value}, best.batch)
                for name, value in ALTERNATIVES.items()
                if name in _ON_THE_FASTEST and (name != "use_tf32" or model.precision == "fp32")
            ]
            concurrent = [Trial(best.variant, best.batch, each) for each in CONCURRENT]
            _in_turns(step, options, model, bare, "best", [best, *others, *concurrent], until)


def best_way(step: Step, options: argparse.Namespace, models: Sequence[Model]) -> Way:
    """Return the best way that the step `bare` has found, or else the server's defaults."""
    path = options.out / "bare.json"
    ways = json.loads(path.read_text(encoding="utf-8"))["ways"] if path.exists() else []
    found = [
        Way(model, best.variant, best.batch, Spread.of(next(way["rates"] for way in own if Trial.of(way) == best)))
        for model in models
        if (best := fastest(own := [way for way in ways if way["model"] == model.name]))
    ]
    if found:
        return max(found, key=lambda way: way.rate.median)
    step.skipped["the fastest way"] = "the step bare has found none, so the server runs with its defaults"
    return Way(timed_models(models)[0], GRID[0], max(batch_sizes(options)), Spread.of([0.0]))


def timed_models(models: Sequence[Model]) -> Sequence[Model]:
    """Return those with random weights, which are there for their speed; where there are none, all."""
    return [model for model in models if model.weights.startswith("random")] or models


def batch_sizes(options: argparse.Namespace) -> list[int]:
    """Return the batch sizes to try."""
    return [int(each) for each in options.batches.split(",") if each] or list(BATCHES)


def fastest(ways: Sequence[Mapping[str, Any]]) -> Trial | None:
    """Return the fastest of the grid, in the smallest batch that is hardly slower."""
    grid = [(Spread.of(way["rates"]).median, Trial.of(way)) for way in ways if way["stage"] == "grid"]
    if not grid:
        return None
    most, fastest = max(grid, key=lambda each: each[0])
    enough = [trial for rate, trial in grid if trial.variant == fastest.variant and rate >= ENOUGH * most]
    return min(enough, key=lambda trial: trial.batch)


def _in_turns(
    step: Step,
    options: argparse.Namespace,
    model: Model,
    bare: BareProcess,
    stage: str,
    trials: Sequence[Trial],
    until: float,
) -> None:
    """Run each trial in every round, until so many seconds of the budget are left."""
    rates: dict[str, list[float]] = {trial.key: [] for trial in trials}
    rejected: set[str] = set()
    for _ in range(options.rounds):
        for trial in trials:
            variant = f"bare {model.name} {json.dumps(dict(trial.variant))}"
            if variant in rejected:
                continue
            if step.left() < until:
                step.skipped.setdefault(f"{variant} batch {trial.batch}", "no time was left for all rounds")
                continue
            try:
                rates[trial.key].append(bare.run(trial, options.seconds / 8)["throughput"])
            except StartError as error:
                step.skipped[variant] = str(error)
                rejected.add(variant)
    step.ways += [
        {"stage": stage, "model": model.name, "precision": model.precision, "variant": dict(trial.variant)}
        | {"batch": trial.batch, "concurrent": trial.concurrent, "rates": rates[trial.key]}
        for trial in trials
        if rates[trial.key]
    ]
    step.write()
