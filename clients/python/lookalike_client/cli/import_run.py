"""Runs an import with progress on standard error, and prints its report."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial

import click

from lookalike_client.cli.interrupt import interruptible
from lookalike_client.cli.progress import progress_on
from lookalike_client.cli.session import INTERRUPTED, CommandFailed, Session, printable, table
from lookalike_client.transfer.catalog_error import CatalogError, FailedRow
from lookalike_client.transfer.import_batches import ImageRows, Source
from lookalike_client.transfer.importer import (
    ImportObserver,
    ImportProgress,
    ImportStoppedError,
    StreamDestination,
    import_batches,
)
from lookalike_client.transfer.stored_products import compare, existing_ids, stored_rows


@dataclass(frozen=True)
class ImportOptions:
    """How to import.

    Attributes:
        skip_existing: Skip products that the server already has.
        changed_only: Skip rows of a CSV that are as the server has them.
        batch: Products per batch.
        concurrency: Batches being sent at a time.
        limit: The most rows or products to import; None for all.
        streamed: Send each batch over a stream rather than as one message.
    """

    skip_existing: bool = False
    changed_only: bool = False
    batch: int = 16
    concurrency: int = 4
    limit: int | None = None
    streamed: bool = False


@dataclass(frozen=True)
class ImportReport:
    """The report of an import.

    Attributes:
        imported: Rows that are durable on the server.
        skipped: Rows whose product already existed; with `changed_only`, those that have not changed.
        failed: Rows that were not imported.
        seconds: How long the import took.
        rate: Rows imported per second.
        failures: The failed rows, at most the first 1000.
        stopped: Why the import stopped before the last row; None when it did not.
        interrupted: Whether the user stopped it.
        rows: All rows of the source: those imported, skipped and failed, unless the import stopped.
        added: Of the imported rows, those with new products; None where that was not looked up.
        changed: Of the imported rows, those that replaced a product; None where that was not looked up.
        missing: Products on the server that the file does not have; None where that was not looked up.
        deleted: How many of these were deleted.
        not_deleted: Why they were not, where that was asked for and not declined; None otherwise.
        notes: What else to know about the rows.
    """

    imported: int
    skipped: int
    failed: int
    seconds: float
    rate: float
    failures: list[FailedRow]
    stopped: str | None = None
    interrupted: bool = False
    rows: int = 0
    added: int | None = None
    changed: int | None = None
    missing: int | None = None
    deleted: int = 0
    not_deleted: str | None = None
    notes: list[str] = field(default_factory=list)


def run_import(
    session: Session,
    source: Source,
    options: ImportOptions,
    on_failure: Callable[[FailedRow], None] | None = None,
) -> ImportReport:
    """Import with progress on standard error; return a report also when the import was interrupted or stopped.

    Raises:
        LookalikeError: The server does not list its products, for `skip_existing` or `changed_only`.
    """
    try:
        total = source.count(options.limit)
    except CatalogError as error:
        raise CommandFailed(str(error)) from error
    progress = ImportProgress(on_failure=on_failure)
    missing: int | None = None
    stopped: str | None = None
    interrupted = False
    start = time.monotonic()
    with progress_on(session.err, total, source.unit, "importing") as observer:
        try:
            with interruptible():
                missing = asyncio.run(_import(session, source, options, progress, observer))
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
        rows=total,
        added=progress.imported - progress.changed if options.changed_only else None,
        changed=progress.changed if options.changed_only else None,
        missing=missing,
        notes=source.notes(),
    )


async def _import(
    session: Session,
    source: Source,
    options: ImportOptions,
    progress: ImportProgress,
    observer: ImportObserver,
) -> int | None:
    """Import; return how many products the server has and the source has not, where that was looked up."""
    async with session.async_client() as client:
        existing = await existing_ids(client) if options.skip_existing else set()
        stored, comparing = None, None
        if options.changed_only and isinstance(source, ImageRows):
            stored = await stored_rows(client)
            source = replace(source, stored=stored)
            comparing = partial(compare, client, source.compare_images)
        batches = source.batches(size=options.batch, limit=options.limit, existing=existing)
        destination = StreamDestination(client) if options.streamed else client
        await import_batches(
            destination,
            batches,
            progress,
            observer,
            concurrency=options.concurrency,
            compare=comparing,
        )
    return len(stored) if stored is not None and options.limit is None else None


def print_report(session: Session, report: ImportReport, unit: str = "rows") -> None:
    """Print the counts, each failed row with its reason, and the notes."""
    session.out.print(_counts(report, unit), soft_wrap=True)
    if report.failures:
        rows = table("row", "id", "reason", right=("row",))
        for row in report.failures:
            rows.add_row(str(row.number), printable(row.product_id), printable(row.reason))
        session.out.print(rows)
    if report.failed > len(report.failures):
        session.out.print(f"... and {report.failed - len(report.failures):,} more; --failed-rows FILE.csv has all")
    print_notes(session, report)


def print_notes(session: Session, report: ImportReport) -> None:
    """Print what else to know about the rows, and that the server has products without one."""
    notes = report.notes
    if report.missing and not report.deleted:
        notes = [
            *notes,
            f"the server has {report.missing:,} products that the file does not have;"
            " `lookalike import --delete-missing` deletes them",
        ]
    for note in notes:
        session.out.print(f"note: {printable(note)}", soft_wrap=True)


def _counts(report: ImportReport, unit: str) -> str:
    """Return a line whose counts add up to the rows."""
    speed = f"{report.seconds:.1f} s ({report.rate:.1f}/s)"
    if report.changed is None:
        counts = f"skipped {report.skipped:,}"
    else:
        counts = f"added {report.added:,}, changed {report.changed:,}, unchanged {report.skipped:,}"
    line = f"imported {report.imported:,} of {report.rows:,} {unit} in {speed}: {counts}, failed {report.failed:,}"
    unread = report.rows - report.imported - report.skipped - report.failed
    line += f", not reached {unread:,}" if unread > 0 else ""
    return line + (f"; deleted {report.deleted:,}" if report.deleted else "")


def finish(session: Session, report: ImportReport, unit: str = "rows") -> None:
    """Exit with status 1 (130 when interrupted) unless everything was imported, and deleted where that was asked."""
    if report.stopped:
        done = report.imported + report.skipped
        session.err.print(
            f"lookalike: import stopped: {printable(report.stopped)}. {done:,} {unit} are imported; "
            f"run the same command {'again' if report.changed is not None else 'with --skip-existing'} to continue.",
            soft_wrap=True,
        )
    if report.not_deleted:
        session.err.print(f"lookalike: products were not deleted: {printable(report.not_deleted)}", soft_wrap=True)
    if report.stopped or report.failed or report.not_deleted:
        click.get_current_context().exit(INTERRUPTED if report.interrupted else 1)
