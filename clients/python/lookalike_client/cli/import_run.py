"""Runs an import with progress on standard error, and prints its report."""

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
    StreamDestination,
    existing_ids,
    import_batches,
)


@dataclass(frozen=True)
class ImportOptions:
    """How to import.

    Attributes:
        skip_existing: Skip products that the server already has.
        batch: Products per batch.
        concurrency: Batches being sent at a time.
        limit: The most rows or products to import; None for all.
        streamed: Send each batch over a stream rather than as one message.
    """

    skip_existing: bool = False
    batch: int = 16
    concurrency: int = 4
    limit: int | None = None
    streamed: bool = False


@dataclass(frozen=True)
class ImportReport:
    """The report of an import.

    Attributes:
        imported: Rows that are durable on the server.
        skipped: Rows whose product already existed.
        failed: Rows that were not imported.
        seconds: How long the import took.
        rate: Rows imported per second.
        failures: The failed rows, at most the first 1000.
        stopped: Why the import stopped before the last row; None when it did not.
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
    """Import with progress on standard error; return a report also when the import was interrupted or stopped.

    Raises:
        LookalikeError: The server does not list its products, for `skip_existing`.
    """
    try:
        total = source.count(options.limit)
    except CatalogError as error:
        raise CommandFailed(str(error)) from error
    progress = ImportProgress()
    stopped: str | None = None
    interrupted = False
    start = time.monotonic()
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
    seconds = time.monotonic() - start
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
        destination = StreamDestination(client) if options.streamed else client
        await import_batches(destination, batches, progress, observer, concurrency=options.concurrency)


def print_report(session: Session, report: ImportReport) -> None:
    """Print the counts, and each failed row with its reason."""
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
    """Exit with status 1 (130 when interrupted) unless everything was imported."""
    if report.stopped:
        done = report.imported + report.skipped
        session.err.print(
            f"lookalike: import stopped: {printable(report.stopped)}. {done:,} {unit} are imported; "
            "run the same command with --skip-existing to continue.",
            soft_wrap=True,
        )
    if report.stopped or report.failed:
        click.get_current_context().exit(INTERRUPTED if report.interrupted else 1)
