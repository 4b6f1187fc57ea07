"""`load`: a load test of the server, with a report."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import click

from lookalike_client.cli.session import CommandFailed, Session, pass_session

_FOLDER = click.Path(exists=True, file_okay=False, readable=True, path_type=Path)
_FILE = click.Path(exists=True, dir_okay=False, readable=True, path_type=Path)
_POSITIVE = click.FloatRange(min=0, min_open=True)
_KINDS = ("embed", "search-image", "search-vector", "search-id")


class _Mix(click.ParamType[dict[str, float]]):
    name = "KIND=SHARE,..."

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> dict[str, float]:
        mix: dict[str, float] = {}
        for part in str(value).split(","):
            kind, _, share = part.partition("=")
            if kind not in _KINDS:
                self.fail(f"{kind!r} is none of {', '.join(_KINDS)}", param, ctx)
            if kind in mix:
                self.fail(f"{kind} is there twice", param, ctx)
            try:
                mix[kind] = float(share or 1)
            except ValueError:
                self.fail(f"the share {share!r} of {kind} is not a number", param, ctx)
            if not 0 < mix[kind] < float("inf"):
                self.fail(f"the share of {kind} must be greater than 0; leave out what is not to be asked", param, ctx)
        return mix


class _Duration(click.ParamType[float]):
    """Milliseconds."""

    name = "TIME"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        found = re.fullmatch(r"(\d+(?:\.\d+)?)(ms|s)", str(value))
        if not found or not (number := float(found[1])):
            self.fail(f"{value!r} is not a time greater than 0 with its unit, as 50ms or 1.5s", param, ctx)
        return number * (1000 if found[2] == "s" else 1)


@click.command()
@click.option(
    "--rate", type=_POSITIVE, metavar="N", help="Open loop: N calls a second, whatever the server does.  [default: 10]"
)
@click.option(
    "--arrivals",
    type=click.Choice(["poisson", "constant"]),
    default="poisson",
    show_default=True,
    help="Calls that are independent of each other, or evenly spaced.",
)
@click.option(
    "--concurrency",
    type=click.IntRange(1, 10_000),
    metavar="N",
    help="Closed loop: N callers, each with one call at a time.",
)
@click.option(
    "--find-capacity",
    is_flag=True,
    help="Look for the highest rate that keeps to --p99; --rate is the first one tried.",
)
@click.option("--p99", type=_Duration(), help="With --find-capacity: how long 99 of 100 answers may take, as 50ms.")
@click.option(
    "--max-failures",
    type=click.FloatRange(0, 100),
    metavar="PERCENT",
    help="With --find-capacity: calls that may fail.  [default: 0.1]",
)
@click.option(
    "--budget", type=_POSITIVE, metavar="SECONDS", help="With --find-capacity: for all of it.  [default: 600]"
)
@click.option(
    "--workload", type=_Mix(), help=f"What is asked, and how often: {', '.join(_KINDS)}.  [default: search-image]"
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
    help="Make every image differ from all others, or let the server's cache answer.  [default: unique]",
)
@click.option(
    "--vectors",
    type=_FILE,
    metavar="FILE.npy",
    help="Vectors [n, dim] to search with.  [default: made from the catalog's]",
)
@click.option(
    "--category", metavar="C", default="", help="Search this category.  [default: all of them in turn, by size]"
)
@click.option("--all-categories", is_flag=True, help="Have each search look in every category.")
@click.option("-k", type=click.IntRange(1, 1000), default=10, show_default=True, help="Products an answer has.")
@click.option(
    "--duration",
    type=_POSITIVE,
    metavar="SECONDS",
    help="How long; with --find-capacity each rate.  [default: 30; 10 with --find-capacity]",
)
@click.option(
    "--warmup",
    type=click.FloatRange(min=0),
    metavar="SECONDS",
    help="The same load before, not recorded.  [default: 5; 2 with --find-capacity]",
)
@click.option(
    "--deadline", type=_POSITIVE, default=10.0, show_default=True, metavar="SECONDS", help="How long one call may take."
)
@click.option(
    "--processes",
    type=click.IntRange(1, 64),
    default=1,
    show_default=True,
    help="Processes that send; each has its own connection.",
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
    "--seed", type=click.IntRange(min=0), default=1, show_default=True, help="Draws the moments and the questions."
)
@click.option(
    "--out",
    type=click.Path(dir_okay=False, path_type=Path),
    multiple=True,
    metavar="FILE",
    help="Write a report: a page to a .html file, all figures to a .json file. May be given twice.",
)
@click.option("--force", is_flag=True, help="Overwrite the reports if they exist.")
@pass_session
def load(session: Session, /, **options: Any) -> None:
    """Load the server, and report what its answers took.

    In an open loop calls are sent by a schedule, and their latency counts from when they were meant to be sent, so a
    server that stalls cannot hide it. Ctrl-C ends the test early, with its report; a second one ends it without.
    """
    _check_usage(options)
    try:
        # not at the top: only this command needs the extra, and the other commands start faster without it
        from lookalike_loadtest.cli.run import LoadOptions, run_load
    except ModuleNotFoundError as error:
        missing = (error.name or "").partition(".")[0]
        if missing not in ("hdrh", "matplotlib", "PIL"):
            raise
        raise CommandFailed(
            f"load tests need {missing}, which is not installed: pip install 'lookalike-client[load]'"
        ) from error
    run_load(session, LoadOptions(**options))


def _check_usage(options: dict[str, Any]) -> None:
    if options["callers"] and (options["rate"] or options["ramp"]):
        raise click.UsageError(
            "--concurrency makes a closed loop; --rate and --find-capacity are open loops. Give one of them."
        )
    if options["ramp"] and options["p99"] is None:
        raise click.UsageError("--find-capacity needs to know what to keep to: --p99 50ms.")
    if not options["ramp"]:
        for name in ("p99", "max_failures", "budget"):
            if options[name] is not None:
                raise click.UsageError(f"--{name.replace('_', '-')} goes with --find-capacity.")
    if options["category"] and options["all_categories"]:
        raise click.UsageError("Give --category or --all-categories, not both.")
    kinds = options["mix"] or {"search-image"}
    if options["vectors"] and "search-vector" not in kinds:
        raise click.UsageError("--vectors are for search-vector, which is not in the --workload.")
    if options["images"] and not {"embed", "search-image"} & set(kinds):
        raise click.UsageError("--images are for embed and search-image, and neither is in the --workload.")
    for path in options["out"]:
        if path.suffix.lower() not in (".html", ".json"):
            raise click.UsageError(f"--out {path}: a report is a .html or a .json file.")
