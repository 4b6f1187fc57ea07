"""`quickstart`: what `make run` shows: the server gets a catalog and answers one query about it."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import sys
from itertools import islice
from pathlib import Path

import click
from grpc import StatusCode

from lookalike_client.cli.import_command import FILE, open_catalog
from lookalike_client.cli.import_run import ImportOptions, ImportReport, finish, print_report, run_import
from lookalike_client.cli.query import print_answer
from lookalike_client.cli.server import warn_of_random_weights
from lookalike_client.cli.session import CommandFailed, Session, pass_session, printable
from lookalike_client.client import Client
from lookalike_client.errors import LookalikeError
from lookalike_client.transfer.import_batches import ImageRows
from lookalike_client.types import Model, Product

K = 5
_LOOKED_THROUGH = 10_000


@click.command()
@click.option("--catalog", metavar="CATALOG.csv", type=FILE, required=True, help="As for `import`.")
@click.option(
    "--category-column", metavar="NAME", default="gender", show_default=True, help="The column that partitions."
)
@click.option(
    "--wait",
    "wait_s",
    metavar="SECONDS",
    type=click.FloatRange(min=0, min_open=True),
    default=600.0,
    show_default=True,
    help="How long to wait for the server at most.",
)
@pass_session
def quickstart(session: Session, catalog: Path, category_column: str, wait_s: float) -> None:
    """Wait for the server, import a catalog, and ask one example query."""
    file = open_catalog(catalog, category_column)
    with session.client() as client:
        _wait(session, client, wait_s)
        model = client.model()
        if not session.as_json:
            _print_model(session, model)
        if model.is_random:
            warn_of_random_weights(session, model.weights)
        report = run_import(session, ImageRows(file), ImportOptions(skip_existing=True))
        if not session.as_json:
            _print_import(session, report)
        if report.stopped:
            finish(session, report)
        question = example(client)
        if question is None:
            raise CommandFailed(f"no product of {catalog} is in the server, so there is nothing to ask")
        answer = client.search(product_id=question.id, k=K)
    if session.as_json:
        session.print_json({"model": model, "import": report, "question": question, "answer": answer})
        return
    session.out.print()
    session.out.print(
        printable(f"Which products look like {question.title or 'this one'!r} ({question.id}, {question.category})?"),
        style="bold",
        soft_wrap=True,
    )
    print_answer(session, answer)
    session.out.print("\nAsk the same yourself:", style="bold")
    for command in commands(session.server, question.id):
        session.out.print(f"  {command}", soft_wrap=True)


def _wait(session: Session, client: Client, seconds: float) -> None:
    try:
        client.wait_until_ready(min(seconds, 1.0))
    except LookalikeError as error:
        if error.code is not StatusCode.DEADLINE_EXCEEDED or seconds <= 1.0:
            raise
    else:
        return
    # a line and no spinner, which would hide the cursor of whoever presses Ctrl-C
    session.err.print(
        f"waiting for the server at {session.server}; loading and measuring the model may take a minute",
        soft_wrap=True,
    )
    client.wait_until_ready(seconds - 1.0)


def _print_model(session: Session, model: Model) -> None:
    session.out.print(
        f"model {printable(model.name)}: {printable(model.backbone)}, weights {printable(model.weights)}, "
        f"{model.dim} numbers, {printable(model.provider)}",
        soft_wrap=True,
    )


def _print_import(session: Session, report: ImportReport) -> None:
    if report.imported or report.failed or report.stopped:
        print_report(session, report)
    else:
        session.out.print(f"nothing to import: all {report.skipped:,} products of the catalog are there")


def example(client: Client) -> Product | None:
    """A product to ask with: a red striped one if there is one, because its answers are easy to judge."""
    first = None
    # the first pages are enough to find one, and a catalog may have millions
    for product in islice(client.products(), _LOOKED_THROUGH):
        first = first or product
        if "Red" in product.title and "striped" in product.title:
            return product
    return first


def commands(server: str, product_id: str) -> list[str]:
    """The example query as command lines for a shell."""
    message = json.dumps({"product_id": product_id, "k": K})
    return [
        shlex.join([_command(), "--server", server, "search", "--id", product_id, "-k", str(K)]),
        shlex.join(["grpcurl", "-plaintext", "-d", message, server, "lookalike.v1.SearchService/Search"]),
    ]


def _command() -> str:
    # from an environment that is not activated, as `make run` calls it, the bare name would not be found
    invoked = Path(sys.argv[0])
    if invoked.name != "lookalike" or shutil.which("lookalike"):
        return "lookalike"
    return os.path.relpath(invoked)
