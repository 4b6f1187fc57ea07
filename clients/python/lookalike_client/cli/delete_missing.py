"""Deletes the products that a catalog no longer has, once the user has agreed."""

from __future__ import annotations

from dataclasses import replace

import click

from lookalike_client.cli.import_run import ImportReport
from lookalike_client.cli.session import Session, printable
from lookalike_client.errors import LookalikeError
from lookalike_client.transfer.catalog_error import CatalogError
from lookalike_client.transfer.import_batches import Source

_PER_REQUEST = 1000
_NAMED = 5


def remove_missing(session: Session, source: Source, report: ImportReport, *, yes: bool) -> ImportReport:
    """Delete the server's products that the source does not have; a row that failed still has its product.

    Nothing is deleted where the import stopped, a row has no id that can be read, or the source is empty.

    Returns:
        The report with the counts of missing and deleted products, or why none was deleted.
    """
    if report.stopped or not report.rows:
        return replace(report, not_deleted="the import stopped" if report.stopped else "there are no rows")
    try:
        ids = set(source.ids())
        if "" in ids:
            return replace(report, not_deleted="a row has no id that can be read, so its product would go too")
        return _remove(session, ids, report, yes=yes)
    except click.Abort:
        return replace(report, not_deleted="nobody confirmed it; --yes deletes without asking")
    except CatalogError as error:
        return replace(report, not_deleted=str(error))
    except LookalikeError as error:
        return replace(report, not_deleted=session.explain(error))


def _remove(session: Session, ids: set[str], report: ImportReport, *, yes: bool) -> ImportReport:
    with session.client() as client:
        stored = [product.id for product in client.products(page_size=1000)]
        missing = [each for each in stored if each not in ids]
        report = replace(report, missing=len(missing))
        if not missing or not (yes or _confirmed(missing, len(stored))):
            return report
        deleted = 0
        for begin in range(0, len(missing), _PER_REQUEST):
            deleted += sum(status.ok for status in client.delete(missing[begin : begin + _PER_REQUEST]))
    return replace(report, deleted=deleted)


def _confirmed(missing: list[str], stored: int) -> bool:
    named = ", ".join(printable(each) for each in missing[:_NAMED]) + (", ..." if len(missing) > _NAMED else "")
    question = f"Delete {len(missing):,} of the server's {stored:,} products, which the file does not have ({named})?"
    return click.confirm(question, err=True)
