"""What an export is written to: a writer takes products one by one, and its files appear at the end or not at all.

The files are written under a temporary name beside where they will be, so an export that dies leaves none that looks
whole; what it leaves has a name that ends with `.partial`.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import IO, Protocol, Self

from lookalike_client.types import Exported


class ExportError(Exception):
    """The files cannot be written there, or not in this format, and why; written for the user."""


class ExportWriter(Protocol):
    """A context manager that leaves nothing behind unless it was finished.

    Attributes:
        notes: After `finish`, what the user should know of the files, a sentence each.
    """

    notes: Sequence[str]

    def __enter__(self) -> Self:
        """Begin; nothing is written yet."""

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Remove what is not finished."""

    def add(self, exported: Exported) -> None:
        """Write one product; all of them must have vectors of the same length.

        Raises:
            OSError: It cannot be written.
        """

    def finish(self) -> list[Path]:
        """Put the files where they belong, and return them.

        Raises:
            OSError: They cannot be written.
        """


def reject_existing(paths: Sequence[Path]) -> None:
    """Make sure that nothing is overwritten.

    Raises:
        ExportError: One of the paths exists.
    """
    for path in paths:
        if path.exists():
            raise ExportError(f"{path} exists; --force overwrites it")


def partial_name(name: str) -> str:
    """The name of what is not whole yet, different for every process."""
    return f".{name}.{os.getpid()}.partial"


def flush(file: IO[bytes] | IO[str]) -> None:
    """Have what was written on the disk, so that no power cut leaves a whole name on half a file."""
    file.flush()
    os.fsync(file.fileno())
