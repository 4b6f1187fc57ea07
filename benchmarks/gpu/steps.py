"""One step of a run in a process of its own."""

from __future__ import annotations

import argparse
import signal
from collections.abc import Callable, Sequence
from contextlib import ExitStack

from benchmarks.catalog.our_server import rest
from benchmarks.environment import Model, read_model, threads
from benchmarks.gpu.comparison import batch_sizes, best_way, compare_ways
from benchmarks.gpu.exact_search import search
from benchmarks.gpu.frontends import FrontendPair
from benchmarks.gpu.scenarios import Measured
from benchmarks.gpu.served import fill, server
from benchmarks.gpu.smoke import smoke
from benchmarks.gpu.step import OutOfTimeError, Step
from benchmarks.gpu.ways import BareProcess
from benchmarks.load import load_generator
from benchmarks.processes import StartError

_SHORTEST = 20.0  # seconds below which no server is started
_FEW_ROWS = 400  # products of a category that needs no graph, so that nothing is waited for


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
    except Exception as error:  # noqa: BLE001 - whatever it is, it is written, and the next step runs
        step.fail(f"the rest of {name}", error)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        step.write()


def _smoke(step: Step, options: argparse.Namespace, models: Sequence[Model]) -> None:
    smoke(step, models, options.provider, batch_sizes(options))


def _serve(step: Step, options: argparse.Namespace, models: Sequence[Model]) -> None:
    """Measure the server, in the way that was fastest without one."""
    way = best_way(step, options, models)
    turn = options.seconds * options.rounds
    if step.left() < _SHORTEST + 3 * turn:
        step.skipped[f"{way.model.name}, server"] = f"{max(0.0, step.left()):.0f} s of the budget were left"
        return
    flags = way.flags(options.provider)
    step.log(f"server, {' '.join(flags)}; {way.rate} images/s without a server")
    with ExitStack() as stack:
        bare = BareProcess(stack, way.model, options.provider, max(way.batch, *batch_sizes(options)))
        generators = options.generators or max(1, threads() // 4)
        load = stack.enter_context(load_generator(generators))
        at = stack.enter_context(server(way.model, flags, step.left() / 2))
        fill(at.at, options.rows, way.model.dim)
        rested = rest(at.at, step.left() / 3)
        if not rested.rested:
            step.skipped[f"{way.model.name}: rest"] = f"still busy after {rested.seconds} s: {dict(rested.kinds)}"
        it = Measured(load, generators, way, bare, at, options.provider, options.seconds, options.rounds, step.profiles)
        name = way.model.name
        step.measure(f"{name}: images/s", 3 * turn, it.saturated)
        step.measure(f"{name}: concurrency 16", 2 * turn, lambda: it.searching(16, 2_571, 6.4))
        step.measure(f"{name}: concurrency 128", 2 * turn, lambda: it.searching(128, 5_412, 26.0))
        step.measure(f"{name}: added p50", 2 * turn, it.added)
        step.measure(f"{name}: JPEG", 6 * turn, it.jpeg)


def _frontends(step: Step, options: argparse.Namespace, models: Sequence[Model]) -> None:
    """Compare numbers of front-end processes with none; those that the targets name come first."""
    chosen = [int(each) for each in options.frontend_processes.split(",") if each]
    numbers = chosen or [each for each in (4, 8, 2) if each <= threads()] or [1]
    way = best_way(step, options, models)
    flags = way.flags(options.provider)
    rows = min(options.rows, _FEW_ROWS)
    turn = options.seconds * options.rounds
    if step.left() < _SHORTEST + 2 * turn:
        step.skipped[f"{way.model.name}, servers"] = f"{max(0.0, step.left()):.0f} s of the budget were left"
        return
    with ExitStack() as stack:
        load = stack.enter_context(load_generator(options.generators or max(1, threads() // 4)))
        one = stack.enter_context(server(way.model, flags, step.left() / 2))
        fill(one.at, rows, way.model.dim)
        for at, number in enumerate(numbers):
            name = f"{way.model.name}, --frontend-processes {number}"
            if (share := step.left() / (len(numbers) - at)) < 2 * turn:
                step.skipped[name] = f"{max(0.0, share):.0f} s of the budget were left"
                continue
            step.log(name)
            try:
                with server(way.model, [*flags, "--frontend-processes", str(number)], share) as many:
                    fill(many.at, rows, way.model.dim)
                    pair = FrontendPair(load, way, many, one, number, options.seconds, options.rounds)
                    step.measure(f"{name}: images/s", turn, pair.images)
                    step.measure(f"{name}: searches", turn, pair.searches)
            except (RuntimeError, StartError) as error:
                step.fail(name, error)


_STEPS: dict[str, Callable[[Step, argparse.Namespace, Sequence[Model]], None]] = {
    "smoke": _smoke,
    "bare": compare_ways,
    "serve": _serve,
    "frontends": _frontends,
    "search": search,
}
