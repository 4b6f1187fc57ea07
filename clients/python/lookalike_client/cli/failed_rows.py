"""Writes the failed rows of an import to a file, which has room for all of them."""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from lookalike_client.cli.session import CommandFailed
from lookalike_client.transfer.catalog_error import FailedRow


@contextmanager
def failed_rows_file(path: Path | None, inputs: set[Path | None]) -> Iterator[Callable[[FailedRow], None] | None]:
    """Return a function that writes a row to the file, which is overwritten; None without a file."""
    if path is None:
        yield None
        return
    if any(each is not None and path.exists() and path.samefile(each) for each in inputs):
        raise CommandFailed(f"--failed-rows would overwrite the catalog {path}")
    try:
        file = path.open("w", encoding="utf-8", newline="")
    except OSError as error:
        raise CommandFailed(f"{path}: {error.strerror}") from error
    with file:
        writer = csv.writer(file)
        writer.writerow(["row", "id", "reason"])
        yield lambda row: writer.writerow([row.number, row.product_id, row.reason])
