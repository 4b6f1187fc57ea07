"""`--scenarios catalog` and `--scenarios crossover`: a scratch folder, the run, its tables and its JSON file."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

from benchmarks.catalog.bench import CatalogBench
from benchmarks.catalog.crossover import Crossover
from benchmarks.catalog.run import CatalogRun, catalog_bench, found_so_far
from benchmarks.catalog.search import BARE
from benchmarks.catalog.sizes import Sizes
from benchmarks.catalog.tables import crossover_table, side_by_side_table
from benchmarks.environment import ROOT, describe, read_model
from benchmarks.report import table, write_json
from benchmarks.scenarios.bench import Log

PARTS = ("search", "recall", "memory", "startup", "pressure", "upserts", "build", "tiny")
INDEXES = ("hnswlib", "usearch", "milvus-lite")
SMALL_NETWORK = ROOT / "models" / "squeezenet-imagenet"
"""What embeds the real images where the run's own model has random weights."""


def measure_catalog(
    name: str,
    sizes: Sizes,
    parts: Sequence[str],
    indexes: Sequence[str],
    networks: list[Path],
    scratch: Path,
    out: Path,
    log: Log,
) -> None:
    """Measure, print and write; also what an interrupted run has found so far."""
    with (
        tempfile.TemporaryDirectory(prefix="run-", dir=scratch) as folder,
        catalog_bench(sizes, Path(folder), scratch, log) as bench,
    ):
        settings = asdict(sizes) | {"scenarios": [name], "parts": parts, "indexes": indexes}
        about = describe(read_model(bench.model), settings)
        crossover = Crossover(bench)
        try:
            if name == "crossover":
                crossover.measure()
            else:
                CatalogRun(bench, parts, indexes, networks).measure()
        finally:
            file = out / f"{time.strftime('%Y%m%d-%H%M%S')}-{name}.json"
            _report(bench, crossover, about, indexes, file)
            log(f"wrote {file}")


def _report(
    bench: CatalogBench, crossover: Crossover, about: dict[str, Any], indexes: Sequence[str], file: Path
) -> None:
    more = found_so_far(bench) | {"crossover": [asdict(point) for point in crossover.points]}
    write_json(file, about, bench.results, {}, bench.skipped, more)
    click.echo(table(about, bench.results, bench.skipped))
    if bench.side_by_side:
        click.echo(side_by_side_table(bench.side_by_side, [BARE, *indexes]))
    if crossover.points:
        click.echo(crossover_table(crossover.points))
