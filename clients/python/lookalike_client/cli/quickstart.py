"""`quickstart`: what `make run` shows: it imports a catalog and runs one query."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import sys
from contextlib import suppress
from pathlib import Path

import click
from grpc import StatusCode

from lookalike_client.cli.catalog_options import catalog_options
from lookalike_client.cli.import_command import FILE, open_catalog
from lookalike_client.cli.import_run import ImportOptions, ImportReport, finish, print_notes, print_report, run_import
from lookalike_client.cli.query import print_result
from lookalike_client.cli.server import warn_of_random_weights
from lookalike_client.cli.session import CommandFailed, Session, pass_session, printable
from lookalike_client.client import Client
from lookalike_client.connection_options import ConnectionOptions
from lookalike_client.errors import LookalikeError
from lookalike_client.tls import Tls
from lookalike_client.transfer.catalog_columns import CatalogOptions
from lookalike_client.transfer.catalog_csv import CatalogFile, CatalogRow
from lookalike_client.transfer.catalog_error import CatalogError
from lookalike_client.transfer.import_batches import ImageRows
from lookalike_client.types import Model, Product

K = 5
_MAX_CANDIDATES = 10_000
_MAX_TRIES = 100
_MAX_COMPARED = 10_000


@click.command()
@click.option("--catalog", metavar="CATALOG.csv", type=FILE, required=True, help="As for `import`.")
@catalog_options
@click.option(
    "--wait",
    "wait_s",
    metavar="SECONDS",
    type=click.FloatRange(min=0, min_open=True),
    default=600.0,
    show_default=True,
    help="How long to wait for the server.",
)
@pass_session
def quickstart(session: Session, catalog: Path, reading: CatalogOptions, wait_s: float) -> None:
    """Wait for the server, import what is new or changed in a catalog, and run one example query."""
    file = open_catalog(catalog, reading)
    with session.client() as client:
        _wait(session, client, wait_s)
        model = client.model()
        if not session.as_json:
            _print_model(session, model)
        if model.is_random:
            warn_of_random_weights(session, model.weights)
        report = run_import(session, ImageRows(file, compare_images=_is_small(file)), ImportOptions(changed_only=True))
        if not session.as_json:
            _print_import(session, report)
        if report.stopped:
            finish(session, report)
        query = example(client, file)
        if query is None:
            raise CommandFailed(f"the server has no product of {catalog}")
        result = client.search(product_id=query.id, k=K)
    if session.as_json:
        session.print_json({"model": model, "import": report, "query": query, "result": result})
        return
    session.out.print()
    session.out.print(
        printable(f"Products similar to {(query.title or query.id)!r} ({query.id}, {query.category}):"),
        style="bold",
        soft_wrap=True,
    )
    print_result(session, result)
    session.out.print("\nRun the same query yourself:", style="bold")
    for command in commands(session.connection, query.id):
        session.out.print(f"  {command}", soft_wrap=True)


def _is_small(catalog: CatalogFile) -> bool:
    """Return whether comparing all images takes seconds rather than minutes."""
    try:
        return catalog.count(_MAX_COMPARED + 1) <= _MAX_COMPARED
    except CatalogError as error:
        raise CommandFailed(str(error)) from error


def _wait(session: Session, client: Client, seconds: float) -> None:
    try:
        client.wait_until_ready(min(seconds, 1.0))
    except LookalikeError as error:
        if error.code is not StatusCode.DEADLINE_EXCEEDED or seconds <= 1.0:
            raise
    else:
        return
    # not a spinner, which would leave the cursor hidden after Ctrl-C
    session.err.print(
        f"waiting for the server at {session.server}; loading and measuring the model may take a minute",
        soft_wrap=True,
    )
    client.wait_until_ready(seconds - 1.0)


def _print_model(session: Session, model: Model) -> None:
    session.out.print(
        f"model {printable(model.name)}: {printable(model.backbone)}, weights {printable(model.weights)}, "
        f"{model.dim} dimensions, {printable(model.provider)}",
        soft_wrap=True,
    )


def _print_import(session: Session, report: ImportReport) -> None:
    if report.imported or report.failed or report.stopped:
        print_report(session, report)
    else:
        session.out.print(f"nothing to import: all {report.skipped:,} products of the catalog exist and are unchanged")
        print_notes(session, report)


def example(client: Client, catalog: CatalogFile) -> Product | None:
    """Return a product of a catalog for the query, None where the server has none of its first ones.

    It is a red striped one if there is one, because its results are easy to judge.
    """
    # a catalog may have millions of products
    rows = [row for row in catalog.rows(_MAX_CANDIDATES) if isinstance(row, CatalogRow)]
    rows.sort(key=lambda row: not ("Red" in row.title and "striped" in row.title))
    for row in rows[:_MAX_TRIES]:
        with suppress(LookalikeError):  # a row that failed
            return client.get(row.product_id).product
    return None


def commands(connection: ConnectionOptions, product_id: str) -> list[str]:
    """Return shell commands that run the example query."""
    message = json.dumps({"product_id": product_id, "k": K})
    ours, theirs = tls_flags(connection.tls)
    return [
        shlex.join([_command(), "--server", connection.server, *ours, "search", "--id", product_id, "-k", str(K)]),
        shlex.join(["grpcurl", *theirs, "-d", message, connection.server, "lookalike.v1.SearchService/Search"]),
    ]


def tls_flags(tls: Tls | None) -> tuple[list[str], list[str]]:
    """Return the flags for the same connection of `lookalike` and of grpcurl."""
    if tls is None:
        return [], ["-plaintext"]
    certificate = [("--cert", "-cert", tls.certificate), ("--key", "-key", tls.key)]
    named = [each for each in (("--ca", "-cacert", tls.ca), *certificate) if each[2] is not None]
    ours = [word for flag, _, path in named for word in (flag, str(path))] or ["--tls"]
    return ours, [word for _, flag, path in named for word in (flag, str(path))]


def _command() -> str:
    # `make run` does not activate the environment, so the bare name would not be found
    invoked = Path(sys.argv[0])
    if invoked.name != "lookalike" or shutil.which("lookalike"):
        return "lookalike"
    return os.path.relpath(invoked)
