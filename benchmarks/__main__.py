"""`python -m benchmarks --model models/NAME`: measures, prints a table, writes JSON and charts."""

from __future__ import annotations

import signal
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import click

from benchmarks.bare_process import bare_process
from benchmarks.catalog.measure import INDEXES, PARTS, SMALL_NETWORK, measure_catalog
from benchmarks.catalog.sizes import Sizes
from benchmarks.charts import draw
from benchmarks.environment import ROOT, Model, describe, read_model
from benchmarks.front_door import FRONT_DOOR
from benchmarks.front_door_options import FrontDoorOptions, chosen_of, front_door_options
from benchmarks.load import load_generator
from benchmarks.null_model import write_null_model
from benchmarks.peers.openvino_runtime import HINTS
from benchmarks.renamed import Command
from benchmarks.report import table, write_json
from benchmarks.scenarios.bench import Bench, Log
from benchmarks.suite import Suite

OF_MODEL = ("throughput", "jpeg", "latency", "overload", "idle", "cancel", "before", "curves")  # with our server up
SCENARIOS = (*OF_MODEL, "import", "null", "frontends", "cpu", "metrics", *FRONT_DOOR)
CATALOG_SCENARIOS = ("catalog", "crossover")  # the second chooses defaults and runs only when it is named
NULL_DIM = 4
DEVICE_DIM = 2048  # of the device that only takes time: as many dimensions as ResNet50's
PEERS = ("plain", "mosec", "pytriton", "ray")


@click.command(cls=Command, context_settings={"help_option_names": ["-h", "--help"], "show_default": True})
@click.option("--model", type=click.Path(path_type=Path, exists=True, file_okay=False), required=True)
@click.option(
    "--scenarios",
    default=",".join((*SCENARIOS, "catalog")),
    callback=chosen_of((*SCENARIOS, *CATALOG_SCENARIOS)),
    help="What to measure; also: crossover.",
)
@click.option("--peers", default=",".join(PEERS), callback=chosen_of(PEERS), help="The peers; empty for none.")
@click.option("--rounds", default=7, type=click.IntRange(1, 100), help="Paired rounds of each result.")
@click.option("--seconds", default=2.0, type=click.FloatRange(0.2, 60), help="Length of a turn.")
@click.option("--concurrency", default=16, type=click.IntRange(2, 1024), help="Calls under way in a closed loop.")
@click.option(
    "--flag", "flags", multiple=True, help="A further flag of our server, such as --flag=--intra-op-threads=2."
)
@click.option(
    "--precision",
    default="auto",
    type=click.Choice(list(HINTS)),
    help="What OpenVINO computes in, everywhere in the run: fp32 alone, or bf16 where the processor has it.",
)
@click.option(
    "--before",
    type=click.Path(path_type=Path, exists=True, file_okay=False),
    help="A checkout of an older version with its .venv, for the scenario of this name.",
)
@click.option(
    "--import-catalog",
    default=ROOT.parent / "shared" / "catalog" / "catalog.csv",
    type=click.Path(path_type=Path, dir_okay=False),
    help="The catalog of the import scenario.",
    show_default="../shared/catalog/catalog.csv beside the checkout",
)
@click.option("--import-products", type=click.IntRange(min=1), help="Its first rows only.", show_default="all")
@front_door_options
@click.option("--out", default="benchmarks/results", type=click.Path(path_type=Path), help="Folder for the results.")
@click.option(
    "--parts", default=",".join(PARTS), callback=chosen_of(PARTS), help="Which parts of the catalog scenario."
)
@click.option(
    "--indexes", default=",".join(INDEXES), callback=chosen_of(INDEXES), help="Other indexes beside it; empty for none."
)
@click.option("--rows", default=20_000, type=click.IntRange(300, 1_000_000), help="Rows of each large category.")
@click.option("--quick", is_flag=True, help="A small catalog: tests the harness, proves nothing.")
@click.option(
    "--scratch",
    default="data/bench",
    type=click.Path(path_type=Path),
    help="Folder of the measured catalogs, on the disk to be measured.",
)
def main(
    model: Path,
    scenarios: list[str],
    peers: list[str],
    rounds: int,
    seconds: float,
    concurrency: int,
    flags: tuple[str, ...],
    precision: str,
    before: Path | None,
    import_catalog: Path,
    import_products: int | None,
    out: Path,
    parts: list[str],
    indexes: list[str],
    rows: int,
    quick: bool,
    scratch: Path,
    **front_door: Any,
) -> None:
    """Measure our server beside the model alone on every runtime and its peers, in paired rounds on this machine."""
    if precision == "fp32":
        flags = ("--inference-precision", "fp32", *flags)
    settings = {
        "rounds": rounds,
        "seconds": seconds,
        "concurrency": concurrency,
        "scenarios": scenarios,
        "peers": peers,
        "our_flags": flags,
        "precision": precision,
        "before": before,
        "import_catalog": import_catalog,
        "import_products": import_products,
        "front_door": FrontDoorOptions(**front_door, before=before),
    }
    begun = time.monotonic()

    def log(message: str) -> None:
        click.echo(f"[{time.monotonic() - begun:6.0f} s] {message}", err=True)

    if of_model := [name for name in scenarios if name in SCENARIOS]:
        _measure_model(read_model(model), of_model, peers, settings, log, out)
    sizes = Sizes(rounds, seconds, concurrency, flags, rows=rows)
    sizes = sizes.quick() if quick else sizes
    scratch.mkdir(parents=True, exist_ok=True)
    for name in CATALOG_SCENARIOS:
        if name in scenarios:
            measure_catalog(name, sizes, parts, indexes, [model, SMALL_NETWORK], scratch.resolve(), out, log)


def _measure_model(
    served: Model, scenarios: list[str], peers: list[str], settings: dict[str, Any], log: Log, out: Path
) -> None:
    rounds, seconds, concurrency, flags = (settings[name] for name in ("rounds", "seconds", "concurrency", "our_flags"))
    about = describe(served, settings)
    with ExitStack() as stack:
        load = stack.enter_context(load_generator())
        bare = stack.enter_context(bare_process(served))

        def bench(model: Model) -> Bench:
            # the bare process stays the real model's; the scenarios of small models do not use it
            return Bench(model, load, bare, settings["precision"], rounds, seconds, concurrency, log)

        def small_model(name: str, dim: int) -> Bench:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix=f"lookalike-{name}-")))
            write_null_model(folder, dim)
            return bench(read_model(folder))

        suite = Suite(bench(served), flags, peers, settings["before"])
        try:
            suite.measure([name for name in scenarios if name in OF_MODEL])
            if "import" in scenarios:
                suite.measure_import(settings["import_catalog"], settings["import_products"])
            if "null" in scenarios:
                suite.measure_null(small_model("null", NULL_DIM))
            if "frontends" in scenarios:
                suite.measure_frontends(small_model("device", DEVICE_DIM))
            if "cpu" in scenarios:
                suite.measure_processor_time(small_model("null", NULL_DIM), small_model("device", DEVICE_DIM))
            if "metrics" in scenarios:
                suite.measure_metrics(small_model("null", NULL_DIM))
            if door := [name for name in scenarios if name in (*FRONT_DOOR, "overload")]:
                suite.measure_front_door(door, settings["front_door"])
        finally:
            # also what an interrupted run has measured so far
            stem = f"{time.strftime('%Y%m%d-%H%M%S')}-{served.name}"
            write_json(out / f"{stem}.json", about, suite.results, suite.curves, suite.skipped)
            drawn = draw(out, stem, about, suite.curves)
            click.echo(table(about, suite.results, suite.skipped))
            log(f"wrote {', '.join(map(str, [out / f'{stem}.json', *drawn]))}")


def _terminated(number: int, frame: object) -> None:
    del frame
    raise SystemExit(128 + number)  # so that every process started is ended on the way out


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, _terminated)
    main()
