"""Runs an import with progress, from whatever source, and says what became of the rows."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass

import click

from lookalike_client.cli.interrupt import interruptible
from lookalike_client.cli.progress import progress_on
from lookalike_client.cli.session import INTERRUPTED, CommandFailed, Session, printable, table
from lookalike_client.transfer.catalog_csv import CatalogError, FailedRow
from lookalike_client.transfer.import_batches import Source
from lookalike_client.transfer.importer import (
    ImportObserver,
    ImportProgress,
    ImportStoppedError,
    OverStream,
    existing_ids,
    import_batches,
)


@dataclass(frozen=True)
class ImportOptions:
    """How to import.

    Attributes:
        skip_existing: Leave out what the server holds already.
        batch: Products sent together.
        in_flight: Batches under way at once.
        limit: Only the first so many; None for all.
        streamed: Send each batch over a stream rather than as one message.
    """

    skip_existing: bool = False
    batch: int = 16
    in_flight: int = 4
    limit: int | None = None
    streamed: bool = False


@dataclass(frozen=True)
class ImportReport:
    """What became of a catalog's rows.

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


def run_import(session: Session, source: Source, options: ImportOptions) -> ImportReport:
    """Import with progress on standard error; returns also when it was interrupted or had to stop.

    Raises:
        LookalikeError: The server does not say what it holds already.
    """
    try:
        total = source.count(options.limit)
    except CatalogError as error:
        raise CommandFailed(str(error)) from error
    progress = ImportProgress()
    stopped: str | None = None
    interrupted = False
    begun = time.monotonic()
    with progress_on(session.err, total, source.unit, "importing") as observer:
        try:
            with interruptible():
                asyncio.run(_import(session, source, options, progress, observer))
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


async def _import(
    session: Session,
    source: Source,
    options: ImportOptions,
    progress: ImportProgress,
    observer: ImportObserver,
) -> None:
    async with session.async_client() as client:
        existing = await existing_ids(client) if options.skip_existing else set()
        batches = source.batches(size=options.batch, limit=options.limit, existing=existing)
        destination = OverStream(client) if options.streamed else client
        await import_batches(destination, batches, progress, observer, in_flight=options.in_flight)


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


def finish(session: Session, report: ImportReport, unit: str = "rows") -> None:
    """Leave with exit code 1 (130 when interrupted) unless every row, or whatever is counted, is in."""
    if report.stopped:
        done = report.imported + report.skipped
        session.err.print(
            f"lookalike: import stopped: {printable(report.stopped)}. {done:,} {unit} are in; "
            "the same command with --skip-existing continues.",
            soft_wrap=True,
        )
    if report.stopped or report.failed:
        click.get_current_context().exit(INTERRUPTED if report.interrupted else 1)
