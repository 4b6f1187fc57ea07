"""SQLite's log (the WAL): when it is put into the catalog's file, and how it is begun again after the disk failed.

A flush that succeeds says nothing about one that failed before it: Linux forgets the pages that it could not write
(fsyncgate). SQLite writes the frames of the next commit over those of the failed one, and that is not enough: ext4
leaves blocks that were new when the flush failed marked as never written, whatever is written to them later, and after
a power cut they read as zeros. So what the log holds is put into the catalog's file, and the log is cut to nothing,
blocks and all. The same could befall new blocks of the catalog's file, so it is made to grow first: by zeros, flushed
before anything counts on them, and taken back where that fails.

For the same reason the log is put into the file here and not by SQLite within a commit: there it tells nobody of an
error, and goes on.
"""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path
from typing import Any

AUTOMATIC = "PRAGMA wal_autocheckpoint = 0"
"""What every connection that writes is told: not to do by itself what `Wal` does."""

LONG = 16 << 20
"""About so many bytes of log are put into the file at once; SQLite's own 4 MiB would do it four times as often."""

_PIECE = 1 << 20  # bytes written at a time


class Wal:
    """The log of the connection that writes. Used by the thread that has the connection."""

    def __init__(self, connection: Any) -> None:
        """Take over from SQLite when the log is put into the file."""
        _, _, name = connection.execute("PRAGMA database_list").fetchone()
        connection.execute(AUTOMATIC)
        self._connection = connection
        self._path = Path(name)
        self._descriptor: int | None = None
        self._written = 0

    def wrote(self, size: int) -> bool:
        """Take note that about so many bytes were written; whether it is time for a checkpoint."""
        self._written += size
        return self._written >= LONG

    def checkpoint(self) -> None:
        """Put into the file what no reader is in the way of; the log is then written from its start again.

        Raises:
            OSError: The disk is full or fails; what the log holds is safe, and it can be tried again.
            sqlite3.Error: The disk fails: what is in the log and in the file is to be doubted until `renew`.
        """
        self._written = 0
        self._grow()
        self._connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()

    def reset(self) -> bool:
        """Put what the log holds into the file and empty it; False when somebody who reads is in the way.

        Raises:
            OSError: The disk is full, or still fails; nothing is lost, and it can be tried again.
            sqlite3.Error: As above.
        """
        log = self._path.with_name(f"{self._path.name}-wal")
        if not log.exists() or log.stat().st_size == 0:
            return True
        self._grow()
        (busy, *_) = self._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
        return not busy

    def close(self) -> None:
        """Give up the file; only after the connection is closed."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

    def _grow(self) -> None:
        """Make the file as long as the log will make it, its new blocks on disk."""
        (pages,) = self._connection.execute("PRAGMA page_count").fetchone()
        (size,) = self._connection.execute("PRAGMA page_size").fetchone()
        before = self._path.stat().st_size
        if before >= pages * size:
            return
        if self._descriptor is None:
            # Kept open as long as the connection is: closing it would take from SQLite the locks it has on the file.
            self._descriptor = os.open(self._path, os.O_RDWR | os.O_CLOEXEC)
        _fill(self._descriptor, before, pages * size)


def _fill(descriptor: int, before: int, end: int) -> None:
    try:
        written = before
        while written < end:
            written += os.pwrite(descriptor, bytes(min(_PIECE, end - written)), written)
        os.fsync(descriptor)
    except OSError:
        with suppress(OSError):
            os.ftruncate(descriptor, before)
        raise
