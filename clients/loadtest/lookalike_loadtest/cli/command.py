"""The options of `lookalike load`."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import click

from lookalike_client.cli.session import Session, pass_session
from lookalike_loadtest.cli.renamed import Command

_FOLDER = click.Path(exists=True, file_okay=False, readable=True, path_type=Path)
_FILE = click.Path(exists=True, dir_okay=False, readable=True, path_type=Path)
_POSITIVE = click.FloatRange(min=0, min_open=True)
_KINDS = ("embed", "search-image", "search-vector", "search-id")


class _Workload(click.ParamType[dict[str, float]]):
    name = "KIND=SHARE,..."

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> dict[str, float]:
        shares: dict[str, float] = {}
        for part in str(value).split(","):
            kind, _, share = part.partition("=")
            if kind not in _KINDS:
                self.fail(f"{kind!r} must be one of {', '.join(_KINDS)}", param, ctx)
            if kind in shares:
                self.fail(f"{kind} occurs twice; give each kind once", param, ctx)
            try:
                shares[kind] = float(share or 1)
            except ValueError:
                self.fail(f"the share {share!r} of {kind} is not a number", param, ctx)
            if not 0 < shares[kind] < float("inf"):
                self.fail(f"the share of {kind} must be greater than 0; leave out kinds not to be sent", param, ctx)
        return shares


class _Duration(click.ParamType[float]):
    """A time with its unit, as milliseconds."""

    name = "TIME"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        found = re.fullmatch(r"(\d+(?:\.\d+)?)(ms|s)", str(value))
        if not found or not (number := float(found[1])):
            self.fail(f"{value!r} must be a time greater than 0 with its unit, such as 50ms or 1.5s", param, ctx)
        return number * (1000 if found[2] == "s" else 1)


@click.command(cls=Command)
@click.option(
    "--rate", type=_POSITIVE, metavar="N", help="Open loop: N calls a second, whatever the server does.  [default: 10]"
)
@click.option(
    "--arrivals",
    type=click.Choice(["poisson", "constant"]),
    default="poisson",
    show_default=True,
    help="Open loop: calls that are independent of each other, or evenly spaced.",
)
@click.option(
    "--concurrency",
    type=click.IntRange(1, 10_000),
    metavar="N",
    help="Closed loop: N calls under way, each followed by the next when it is answered.",
)
@click.option(
    "--find-capacity",
    is_flag=True,
    help="Search for the highest rate that meets --p99; --rate is the first one tried.",
)
@click.option(
    "--p99", type=_Duration(), help="With --find-capacity: how long 99 of 100 answers may take, such as 50ms."
)
@click.option(
    "--max-failures",
    type=click.FloatRange(0, 100),
    metavar="PERCENT",
    help="With --find-capacity: calls that may fail.  [default: 0.1]",
)
@click.option(
    "--budget",
    type=_POSITIVE,
    metavar="SECONDS",
    help="With --find-capacity: time for the whole search.  [default: 600]",
)
@click.option(
    "--workload", type=_Workload(), help=f"What is sent, and how often: {', '.join(_KINDS)}.  [default: search-image]"
)
@click.option("--images", type=_FOLDER, metavar="FOLDER", help="Images to send.  [default: the catalog's own]")
@click.option(
    "--max-images",
    type=click.IntRange(1, 10_000),
    default=100,
    show_default=True,
    metavar="N",
    help="Different images at most.",
)
@click.option(
    "--raw/--encoded", default=False, help="Send pixels of the model's size, or files as they are.  [default: encoded]"
)
@click.option(
    "--bust-cache/--allow-cache",
    default=True,
    help="Make every image differ from all others, or let the server's cache answer.  [default: bust-cache]",
)
@click.option(
    "--vectors",
    type=_FILE,
    metavar="FILE.npy",
    help="Vectors [n, dim] to search with.  [default: made from the catalog's]",
)
@click.option("--category", metavar="C", default="", help="Search this category.  [default: all of them, by size]")
@click.option("--all-categories", is_flag=True, help="Have each search look in every category.")
@click.option("-k", type=click.IntRange(1, 1000), default=10, show_default=True, help="Results of a search.")
@click.option(
    "--duration",
    type=_POSITIVE,
    metavar="SECONDS",
    help="How long to send; with --find-capacity each rate.  [default: 30; 10 with --find-capacity]",
)
@click.option(
    "--warmup",
    type=click.FloatRange(min=0),
    metavar="SECONDS",
    help="Seconds of the same load before, not recorded.  [default: 5; 2 with --find-capacity]",
)
@click.option(
    "--deadline", type=_POSITIVE, default=10.0, show_default=True, metavar="SECONDS", help="How long one call may take."
)
@click.option(
    "--processes",
    type=click.IntRange(1, 64),
    default=1,
    show_default=True,
    help="Worker processes; each has its own connection.",
)
@click.option(
    "--max-outstanding",
    type=click.IntRange(min=1),
    default=10_000,
    show_default=True,
    metavar="N",
    help="Calls under way at once.",
)
@click.option(
    "--seed", type=click.IntRange(min=0), default=1, show_default=True, help="Draws the arrivals and the requests."
)
@click.option(
    "--out",
    type=click.Path(dir_okay=False, path_type=Path),
    multiple=True,
    metavar="FILE",
    help="Write a report: charts to a .html file, all figures to a .json file. May be given twice.",
)
@click.option("--force", is_flag=True, help="Overwrite the reports if they exist.")
@pass_session
def load(session: Session, /, **options: Any) -> None:
    """Load the server, and report its latencies.

    In an open loop calls are sent by a schedule, and their latency counts from when they were meant to be sent, so a
    server that stalls cannot hide it. Ctrl-C ends the test early with its report, a second one without.
    """
    _check_usage(options)
    # not at the top: the other commands, and --help, start faster without it
    from lookalike_loadtest.cli.run import LoadOptions, run_load

    run_load(session, LoadOptions(**options))


def _check_usage(options: dict[str, Any]) -> None:
    if options["concurrency"] and (options["rate"] or options["find_capacity"]):
        raise click.UsageError(
            "--concurrency makes a closed loop; --rate and --find-capacity are open loops. Give one of them."
        )
    if options["find_capacity"] and options["p99"] is None:
        raise click.UsageError("--find-capacity needs a goal: --p99 50ms.")
    if not options["find_capacity"]:
        for name in ("p99", "max_failures", "budget"):
            if options[name] is not None:
                raise click.UsageError(f"--{name.replace('_', '-')} goes with --find-capacity.")
    if options["category"] and options["all_categories"]:
        raise click.UsageError("Give --category or --all-categories, not both.")
    kinds = options["workload"] or {"search-image"}
    if options["vectors"] and "search-vector" not in kinds:
        raise click.UsageError("--vectors are for search-vector, which is not in the --workload.")
    if options["images"] and not {"embed", "search-image"} & set(kinds):
        raise click.UsageError("--images are for embed and search-image, and neither is in the --workload.")
    for path in options["out"]:
        if path.suffix.lower() not in (".html", ".json"):
            raise click.UsageError(f"--out {path}: a report is a .html or a .json file.")
