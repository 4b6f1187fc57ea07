"""The commands about a catalog on the disk: `backup`, `verify` and `vacuum`."""

from __future__ import annotations

import signal
import sys
from pathlib import Path

import click

from lookalike_server.commands.options import data_option, fail
from lookalike_server.domain.errors import LookalikeError
from lookalike_server.renamed import RenamedFlags
from lookalike_server.store.maintenance import backup, verify
from lookalike_server.store.vacuum import vacuum


@click.command("backup", cls=RenamedFlags)
@data_option
@click.argument("target", type=click.Path(path_type=Path, dir_okay=False))
def backup_command(data_dir: Path, target: Path) -> None:
    """Copy the catalog to the new file TARGET, also while it is served; restore it as DATA_DIR/catalog.sqlite."""
    try:
        products = backup(data_dir, target)
    except LookalikeError as error:
        fail(str(error))
    click.echo(f"{target}: {products} products")


@click.command("verify", cls=RenamedFlags)
@data_option
@click.option(
    "--quick",
    is_flag=True,
    help="Only what takes seconds: schema, model, SQLite's quick_check for 5 s, the sizes of index files."
    " Not: checksums, images, attributes, references.",
)
def verify_command(data_dir: Path, *, quick: bool) -> None:
    """Check the catalog, also while it is served; exit status 1 if anything in it is damaged."""
    try:
        problems = 0
        for problem in verify(data_dir, quick=quick):
            click.echo(problem)
            problems += 1
    except LookalikeError as error:
        fail(str(error))
    checked = "no problems in a quick check" if quick else "no problems"
    click.echo(f"{data_dir}: {f'{problems} problems' if problems else checked}")
    sys.exit(1 if problems else 0)


@click.command("vacuum", cls=RenamedFlags)
@data_option
def vacuum_command(data_dir: Path) -> None:
    """Give the space of deleted products back to the disk; not while the catalog is served.

    The command can be stopped at any time and goes on when it is run again.
    """
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # as Ctrl-C
    shown = -1

    def show(done: int, total: int) -> None:
        nonlocal shown
        if total and (percent := 100 * done // total) // 10 > shown // 10:
            shown = percent
            click.echo(f"{percent} % of {total / 1e6:,.1f} MB given back", err=True)

    try:
        before, after = vacuum(data_dir, show)
    except LookalikeError as error:
        fail(str(error))
    except KeyboardInterrupt:
        click.echo("lookalike-server: stopped; run the same command to go on", err=True)
        sys.exit(130)
    if shown < 0:
        click.echo(f"{data_dir}: nothing to give back, {after / 1e6:,.1f} MB")
    else:
        click.echo(f"{data_dir}: {before / 1e6:,.1f} MB before, {after / 1e6:,.1f} MB now")
