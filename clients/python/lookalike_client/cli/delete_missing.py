"""Deletes the products that a catalog no longer has, once the user has agreed."""

from __future__ import annotations

from dataclasses import replace

import click

from lookalike_client.cli.import_run import ImportReport
from lookalike_client.cli.session import Session, printable
from lookalike_client.transfer.import_batches import Source

_PER_REQUEST = 1000
_NAMED = 5


def remove_missing(session: Session, source: Source, report: ImportReport, *, yes: bool) -> ImportReport:
    """Delete the server's products that the source does not have; a row that failed still has its product.

    Nothing is deleted where the import stopped, a row has no id that can be read, or the source is empty.

    Returns:
        The report with the counts of missing and deleted products.

    Raises:
        LookalikeError: The server rejects a call or does not respond.
    """
    ids = set(source.ids())
    if report.stopped or not report.rows or "" in ids:
        reason = (
            "the import stopped"
            if report.stopped
            else "a row has no readable id"
            if report.rows
            else "there are no rows"
        )
        return replace(report, not_deleted=reason)
    with session.client() as client:
        stored = [product.id for product in client.products(page_size=1000)]
        missing = [each for each in stored if each not in ids]
        report = replace(report, missing=len(missing))
        if not missing:
            return report
        if not yes:
            try:
                if not _confirmed(missing, len(stored)):
                    return report
            except click.Abort:
                return replace(report, not_deleted="nobody confirmed it; --yes deletes without asking")
        deleted = 0
        for begin in range(0, len(missing), _PER_REQUEST):
            deleted += sum(status.ok for status in client.delete(missing[begin : begin + _PER_REQUEST]))
    return replace(report, deleted=deleted)


def _confirmed(missing: list[str], stored: int) -> bool:
    named = ", ".join(printable(each) for each in missing[:_NAMED]) + (", ..." if len(missing) > _NAMED else "")
    question = f"Delete {len(missing):,} of the server's {stored:,} products, which the file does not have ({named})?"
    return click.confirm(question, err=True)
