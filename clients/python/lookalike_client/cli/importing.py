"""`import`: put a catalogue's products into the server, and say what became of them."""

from __future__ import annotations

import asyncio
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import click

from lookalike_client.catalog_csv import CatalogError, CatalogFile, FailedRow
from lookalike_client.cli.import_progress import ProgressBar, ProgressLines
from lookalike_client.cli.session import INTERRUPTED, CommandFailed, Session, pass_session, printable, table
from lookalike_client.import_batches import read_batches
from lookalike_client.importer import ImportProgress, ImportStoppedError, existing_ids, import_batches

CATALOG = click.Path(exists=True, dir_okay=False, readable=True, path_type=Path)


@dataclass(frozen=True)
class ImportOptions:
    """How to import."""

    skip_existing: bool = False
    batch: int = 16
    in_flight: int = 4
    limit: int | None = None


@dataclass(frozen=True)
class ImportReport:
    """What became of a catalogue's rows.

    Attributes:
        imported: Rows that are on the server's disk.
        skipped: Rows whose product was there already.
        failed: Rows that are not in.
        seconds: How long it took.
        rate: Rows imported a second.
        failures: The failed rows, at most the first 1000.
        stopped: Why not all rows were tried; None when they were.
        interrupted: Whether the user stopped it.
    """

    imported: int
    skipped: int
    failed: int
    seconds: float
    rate: float
    failures: list[FailedRow]
    stopped: str | None = None
    interrupted: bool = False


@click.command("import")
@click.argument("catalog", metavar="CATALOG.csv", type=CATALOG)
@click.option(
    "--category-column", metavar="NAME", default="gender", show_default=True, help="The column that partitions."
)
@click.option("--skip-existing", is_flag=True, help="Leave out products that the server holds already.")
@click.option("--batch", type=click.IntRange(1, 1000), default=16, show_default=True, help="Products a request.")
@click.option("--in-flight", type=click.IntRange(1, 64), default=4, show_default=True, help="Requests at once.")
@click.option("--limit", type=click.IntRange(min=1), metavar="N", help="Only the first N rows.")
@pass_session
def import_command(
    session: Session,
    catalog: Path,
    category_column: str,
    skip_existing: bool,
    batch: int,
    in_flight: int,
    limit: int | None,
) -> None:
    """Put a catalogue's products into the server.

    CATALOG.csv has the columns product_id, gender (or --category-column), title and image, a path relative to
    the file; every further column becomes an attribute. Bad rows are listed, and the others are imported.
    """
    options = ImportOptions(skip_existing=skip_existing, batch=batch, in_flight=in_flight, limit=limit)
    report = run_import(session, open_catalog(catalog, category_column), options)
    if session.as_json:
        session.print_json(report)
    else:
        print_report(session, report)
    finish(session, report)


def open_catalog(path: Path, category_column: str) -> CatalogFile:
    """The catalogue, or the command's failure."""
    try:
        return CatalogFile(path, category_column)
    except CatalogError as error:
        raise CommandFailed(str(error)) from error


def run_import(session: Session, catalog: CatalogFile, options: ImportOptions) -> ImportReport:
    """Import with progress on standard error; returns also when it was interrupted or had to stop.

    Raises:
        LookalikeError: The server does not say what it holds already.
    """
    try:
        total = catalog.count(options.limit)
    except CatalogError as error:
        raise CommandFailed(str(error)) from error
    shown = ProgressBar if session.err.is_terminal else ProgressLines
    progress = ImportProgress()
    stopped: str | None = None
    interrupted = False
    begun = time.monotonic()
    with shown(session.err, total) as observer:
        try:
            with _interruptible():
                asyncio.run(_import(session, catalog, options, progress, observer))
        except ImportStoppedError as error:
            stopped = session.explain(error.error)
        except CatalogError as error:
            stopped = str(error)
        except KeyboardInterrupt:
            stopped, interrupted = "interrupted", True
    seconds = time.monotonic() - begun
    return ImportReport(
        imported=progress.imported,
        skipped=progress.skipped,
        failed=progress.failed,
        seconds=seconds,
        rate=progress.imported / seconds if seconds else 0.0,
        failures=sorted(progress.failures, key=lambda row: row.number),
        stopped=stopped,
        interrupted=interrupted,
    )


@contextmanager
def _interruptible() -> Iterator[None]:
    """Let asyncio take Ctrl-C, which then cancels the import rather than end the process."""
    before = signal.getsignal(signal.SIGINT)
    if before is signal.SIG_IGN or threading.current_thread() is not threading.main_thread():
        yield
        return
    signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


async def _import(
    session: Session,
    catalog: CatalogFile,
    options: ImportOptions,
    progress: ImportProgress,
    observer: ProgressBar | ProgressLines,
) -> None:
    async with session.async_client() as client:
        existing = await existing_ids(client) if options.skip_existing else set()
        batches = read_batches(catalog, size=options.batch, limit=options.limit, existing=existing)
        await import_batches(client, batches, progress, observer, in_flight=options.in_flight)


def print_report(session: Session, report: ImportReport) -> None:
    """What became of the rows, and each failed one with its reason."""
    session.out.print(
        f"imported {report.imported:,} in {report.seconds:.1f} s ({report.rate:.1f}/s), "
        f"skipped {report.skipped:,}, failed {report.failed:,}",
        soft_wrap=True,
    )
    if report.failures:
        rows = table("row", "id", "reason", right=("row",))
        for row in report.failures:
            rows.add_row(str(row.number), printable(row.product_id), printable(row.reason))
        session.out.print(rows)
    if report.failed > len(report.failures):
        session.out.print(f"... and {report.failed - len(report.failures):,} more")


def finish(session: Session, report: ImportReport) -> None:
    """Leave with exit code 1 (130 when interrupted) unless every row is in."""
    if report.stopped:
        done = report.imported + report.skipped
        session.err.print(
            f"lookalike: import stopped: {printable(report.stopped)}. {done:,} rows are in; "
            "the same command with --skip-existing continues.",
            soft_wrap=True,
        )
    if report.stopped or report.failed:
        click.get_current_context().exit(INTERRUPTED if report.interrupted else 1)
