"""`python -m benchmarks --model models/NAME`: measures, prints the table, writes JSON and images."""

from __future__ import annotations

import signal
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import click

from benchmarks.catalog.measure import INDEXES, PARTS, SMALL_NETWORK, measure_catalog
from benchmarks.catalog.sizes import Sizes
from benchmarks.charts import draw
from benchmarks.environment import Model, describe, read_model
from benchmarks.figures.bench import Bench, Say
from benchmarks.generator import bare_session, load_generator
from benchmarks.null_model import write_null_model
from benchmarks.report import table, write_json
from benchmarks.suite import Contest

FIGURES = ("throughput", "jpeg", "latency", "null", "workers", "overload", "idle", "cancel", "curves")
OF_CATALOG = ("catalog", "crossover")  # the second chooses defaults and is measured only when it is named
DEVICE_DIM = 2048  # numbers in an embedding of the device that only takes time: as many as ResNet50's
SYSTEMS = ("plain", "mosec", "pytriton", "ray")


def _chosen(known: tuple[str, ...]) -> Any:
    def check(context: click.Context, option: click.Parameter, value: str) -> list[str]:
        del context, option
        names = [name for name in value.split(",") if name]
        for name in names:
            if name not in known:
                raise click.BadParameter(f"{name} is none of {', '.join(known)}")
        return names

    return check


@click.command(context_settings={"help_option_names": ["-h", "--help"], "show_default": True})
@click.option("--model", type=click.Path(path_type=Path, exists=True, file_okay=False), required=True)
@click.option(
    "--scenarios",
    default=",".join((*FIGURES, "catalog")),
    callback=_chosen((*FIGURES, *OF_CATALOG)),
    help="What to measure; also: crossover.",
)
@click.option("--peers", default=",".join(SYSTEMS), callback=_chosen(SYSTEMS), help="The peers; empty for none.")
@click.option("--rounds", default=7, type=click.IntRange(1, 100), help="Paired rounds of each figure.")
@click.option("--seconds", default=2.0, type=click.FloatRange(0.2, 60), help="Length of a turn.")
@click.option("--callers", default=16, type=click.IntRange(2, 1024), help="Callers of a closed loop.")
@click.option(
    "--flag", "flags", multiple=True, help="A further flag of our server, for instance --flag=--intra-op-threads=2."
)
@click.option("--out", default="benchmarks/results", type=click.Path(path_type=Path), help="Folder of the results.")
@click.option("--parts", default=",".join(PARTS), callback=_chosen(PARTS), help="Which of the catalog's figures.")
@click.option(
    "--indexes", default=",".join(INDEXES), callback=_chosen(INDEXES), help="Other indexes beside it; empty for none."
)
@click.option("--rows", default=20_000, type=click.IntRange(300, 1_000_000), help="Rows of each large category.")
@click.option("--quick", is_flag=True, help="A small catalog: tries the harness, proves nothing.")
@click.option(
    "--scratch",
    default="data/bench",
    type=click.Path(path_type=Path),
    help="Folder of the measured catalogs, on the disk that is meant.",
)
def main(
    model: Path,
    figures: list[str],
    systems: list[str],
    rounds: int,
    seconds: float,
    callers: int,
    flags: tuple[str, ...],
    out: Path,
    parts: list[str],
    indexes: list[str],
    rows: int,
    quick: bool,
    scratch: Path,
) -> None:
    """Measure our server beside its limit and its peers, in paired rounds on this machine."""
    settings = {
        "rounds": rounds,
        "seconds": seconds,
        "callers": callers,
        "figures": figures,
        "systems": systems,
        "our_flags": flags,
    }
    begun = time.monotonic()

    def say(what: str) -> None:
        click.echo(f"[{time.monotonic() - begun:6.0f} s] {what}", err=True)

    if of_model := [name for name in figures if name in FIGURES]:
        _measure_model(read_model(model), of_model, systems, settings, say, out)
    sizes = Sizes(rounds, seconds, callers, flags, rows=rows)
    sizes = sizes.quick() if quick else sizes
    scratch.mkdir(parents=True, exist_ok=True)
    for name in OF_CATALOG:
        if name in figures:
            measure_catalog(name, sizes, parts, indexes, [model, SMALL_NETWORK], scratch.resolve(), out, say)


def _measure_model(
    served: Model, figures: list[str], systems: list[str], settings: dict[str, Any], say: Say, out: Path
) -> None:
    rounds, seconds, callers, flags = (settings[name] for name in ("rounds", "seconds", "callers", "our_flags"))
    about = describe(served, settings)
    with ExitStack() as stack:
        load = stack.enter_context(load_generator())
        bare = stack.enter_context(bare_session(served))
        contest = Contest(Bench(served, load, bare, rounds, seconds, callers, say), flags, systems)
        try:
            contest.measure([name for name in figures if name not in {"null", "workers"}])
            if "null" in figures:
                folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="lookalike-null-")))
                write_null_model(folder)
                # The bare session stays the real model's; the null figure does not ask it.
                nothing = Bench(read_model(folder), load, bare, rounds, seconds, callers, say)
                contest.measure_null(nothing)
            if "workers" in figures:
                folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="lookalike-device-")))
                write_null_model(folder, DEVICE_DIM)
                contest.measure_workers(Bench(read_model(folder), load, bare, rounds, seconds, callers, say))
        finally:
            # Also what an interrupted run has measured so far.
            stem = f"{time.strftime('%Y%m%d-%H%M%S')}-{served.name}"
            write_json(out / f"{stem}.json", about, contest.figures, contest.curves, contest.skipped)
            drawn = draw(out, stem, about, contest.curves)
            click.echo(table(about, contest.figures, contest.skipped))
            say(f"wrote {', '.join(map(str, [out / f'{stem}.json', *drawn]))}")


def _terminated(number: int, frame: object) -> None:
    del frame
    raise SystemExit(128 + number)  # so that every process started is ended on the way out


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, _terminated)
    main()
