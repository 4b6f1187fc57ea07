"""The step `search`: exact search in the GPU's memory, by itself and through the server."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from benchmarks.catalog.our_server import rest
from benchmarks.catalog.vectors import Floats, K
from benchmarks.environment import Model, threads
from benchmarks.gpu.comparison import timed_models
from benchmarks.gpu.drawn import brute_force, draw
from benchmarks.gpu.machine import bandwidth_gb_per_s, gpu_memory_mib
from benchmarks.gpu.search_core import Answer, SearchCore
from benchmarks.gpu.served import server
from benchmarks.gpu.served_search import import_within, served_search
from benchmarks.gpu.step import Step
from benchmarks.load import load_generator
from benchmarks.rounds import Spread
from benchmarks.scenarios.bench import Result

BATCHES = ((1, 4.0), (64, 8.0))
"""Queries of a search, and the milliseconds that it may take."""

_QUERIES = 512
_SAMPLE = 16  # queries whose answers are compared with brute force
_IMPORT_SECONDS = 30.0
_SERVED_SHARE = 0.3  # of the time left: the most that the import takes


def search(step: Step, options: argparse.Namespace, models: Sequence[Model]) -> None:
    """Measure both over vectors as long as the model's; the server has as many as are imported in its time."""
    model = timed_models(models)[0]
    rows, queries = draw(options.search_rows, _QUERIES, model.dim)
    step.log(f"drew {len(rows):,} x {model.dim:,}")
    name = f"search of {len(rows):,} x {model.dim:,}"
    step.measure(name, options.seconds, lambda: _alone(step, options, name, rows, queries))
    step.measure(f"{name}, served", options.seconds, lambda: _served(step, options, model, rows, queries))


def _alone(step: Step, options: argparse.Namespace, name: str, rows: Floats, queries: Floats) -> list[Result]:
    """Search without a server."""
    before = gpu_memory_mib()
    core = SearchCore(rows, options.provider)
    after = gpu_memory_mib()
    step.log("the rows are on the device")
    judged = options.provider != "cpu"
    about: dict[str, Any] = {"model": "", "frontends": 0, "matrix_bytes": core.nbytes}
    about["device_memory_mib"] = None if before is None or after is None else after - before
    results = []
    for size, limit in BATCHES:
        turns = [_turn(core, queries, size, options.seconds) for _ in range(options.rounds)]
        p50 = Spread.of([_percentile(turn.seconds, 50) for turn in turns])
        label = f"{name}, {size} {'query' if size == 1 else 'queries'}: p50, ms"
        met = p50.median <= limit if judged else None
        results.append(Result(label, "", p50, f"<= {limit:g}", met, about | _details(core, turns)))
    found = core.search(queries[:_SAMPLE], K)
    truth = brute_force(rows, queries[:_SAMPLE], K)
    right = [float(truth.holds(at, answer.rows.tolist())) for at, answer in enumerate(found)]
    share = Spread(float(np.mean(right)), min(right), max(right))
    met = share.low == 1 if judged else None
    label = f"{name}: exact answers that equal brute force"
    return [*results, Result(label, "", share, "1", met, about | {"sample": _SAMPLE})]


@dataclass(frozen=True, slots=True)
class _Turn:
    """Searches one after the other: the seconds of each, those of the device, and the answers."""

    seconds: list[float] = field(default_factory=list)
    device_seconds: list[float] = field(default_factory=list)
    answers: list[Answer] = field(default_factory=list)


def _turn(core: SearchCore, queries: Floats, size: int, seconds: float) -> _Turn:
    """Search batches of different queries for so long."""
    core.search(queries[:size], K)  # the first one chooses kernels
    turn = _Turn()
    until = time.perf_counter() + seconds
    while not turn.seconds or time.perf_counter() < until:
        begin = len(turn.answers) % (len(queries) - size + 1)
        begun = time.perf_counter()
        turn.answers.extend(core.search(queries[begin : begin + size], K))
        turn.seconds.append(time.perf_counter() - begun)
        turn.device_seconds.append(core.device_seconds)
    return turn


def _details(core: SearchCore, turns: Sequence[_Turn]) -> dict[str, Any]:
    answers = [answer for turn in turns for answer in turn.answers]
    device_ms = float(np.median([_percentile(turn.device_seconds, 50) for turn in turns]))
    reached, bandwidth = core.nbytes / device_ms / 1e6, bandwidth_gb_per_s()
    return {
        "p99_ms": [_percentile(turn.seconds, 99) for turn in turns],
        "device_p50_ms": device_ms,
        "gb_per_s": reached,
        "bandwidth_gb_per_s": bandwidth,
        "bandwidth_share": reached / bandwidth if bandwidth else None,
        "answers": len(answers),
        "more_candidates_share": float(np.mean([answer.more for answer in answers])),
    }


def _percentile(seconds: Sequence[float], at: int) -> float:
    return 1e3 * float(np.percentile(seconds, at))


def _served(step: Step, options: argparse.Namespace, model: Model, rows: Floats, queries: Floats) -> list[Result]:
    """Search through the server, whose model does nothing here."""
    flags = ["--provider", options.provider, "--max-batch-size", "1"]
    if options.provider != "cpu":
        flags += ["--search-device", "gpu"]
    with ExitStack() as stack:
        load = stack.enter_context(load_generator(options.generators or max(1, threads() // 4)))
        at = stack.enter_context(server(model, flags, step.left() / 2))
        stored = import_within(at, rows, min(_IMPORT_SECONDS, _SERVED_SHARE * step.left()))
        # with a device no category needs a graph, however large it is
        needs_graph = at.at.full_scan_threshold if options.provider == "cpu" else sys.maxsize
        rested = rest(replace(at.at, full_scan_threshold=needs_graph), step.left() / 3)
        about = {"model": model.name, "frontends": 0, "flags": flags, "rested": rested.rested}
        about["kinds"] = dict(rested.kinds)
        about["gpu_memory_mib"] = gpu_memory_mib()
        turn = options.seconds / 2, options.rounds
        judged = options.provider != "cpu"
        return served_search(at, load, rows[:stored], queries, _SAMPLE, turn, about, judged=judged)
