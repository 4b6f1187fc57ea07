"""The interface of an export's writer: it takes products one by one, and its files appear complete or not at all.

The files are written under temporary names in the same folder, so that an export that is killed leaves no file that
looks complete; the names of what it leaves end with `.partial`.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import IO, Protocol, Self

from lookalike_client.types import ExportedProduct


class ExportError(Exception):
    """Why the files cannot be written there or in this format; written for the user."""


class ExportWriter(Protocol):
    """A context manager that removes its files unless `finish` was called.

    Attributes:
        notes: After `finish`, what the user should know about the files, one sentence each.
    """

    notes: Sequence[str]

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Remove incomplete files."""

    def add(self, exported: ExportedProduct) -> None:
        """Write one product; all must have vectors of the same dimension.

        Raises:
            OSError: It cannot be written.
        """

    def finish(self) -> list[Path]:
        """Move the files to their final names, and return these.

        Raises:
            OSError: They cannot be written.
        """


def reject_existing(paths: Sequence[Path]) -> None:
    """Reject a path that would be overwritten.

    Raises:
        ExportError: One of the paths exists.
    """
    for path in paths:
        if path.exists():
            raise ExportError(f"{path} exists; --force overwrites it")


def partial_name(name: str) -> str:
    """Return the temporary name of an incomplete file, different for each process."""
    return f".{name}.{os.getpid()}.partial"


def flush(file: IO[bytes] | IO[str]) -> None:
    """Flush a file to the disk, so that no power cut leaves the final name on half a file."""
    file.flush()
    os.fsync(file.fileno())
