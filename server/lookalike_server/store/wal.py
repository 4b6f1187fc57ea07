"""SQLite's write-ahead log: when it is checkpointed into the catalog file, and how it is reset after a disk failure.

A flush that succeeds says nothing about one that failed before it: Linux forgets the pages that it could not write
(fsyncgate). SQLite overwrites the frames of the failed commit with those of the next one, which is not enough: ext4
leaves blocks that were new when the flush failed marked as never written, whatever is written to them later, and after
a power cut they read as zeros. So the contents of the WAL are copied into the catalog file, and the WAL is truncated to
nothing, blocks and all. The same could happen to new blocks of the catalog file, so the file is extended first: with
zeros, flushed before anything relies on them, and removed again if that fails.

For the same reason checkpoints run here and not by SQLite within a commit, where their errors are ignored.
"""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path
from typing import Any

CHECKPOINT_BYTES = 16 << 20
"""About how many bytes are written between checkpoints; SQLite's own 4 MiB would checkpoint four times as often."""

RESTART_BYTES = 64 << 20
"""The size from which a checkpoint waits for readers, so that the WAL does not grow for as long as readers overlap."""

_CHUNK = 1 << 20  # bytes written at a time
_RESTART_SECONDS = 0.05  # that such a checkpoint waits; a reader takes milliseconds


class Wal:
    """The write-ahead log of the connection that writes. Used by the thread that owns the connection."""

    def __init__(self, connection: Any, restart_bytes: int = RESTART_BYTES) -> None:
        """Turn off SQLite's automatic checkpoints."""
        _, _, name = connection.execute("PRAGMA database_list").fetchone()
        connection.execute("PRAGMA wal_autocheckpoint = 0")
        self._connection = connection
        self._path = Path(name)
        self._log = self._path.with_name(f"{self._path.name}-wal")
        self._restart_bytes = restart_bytes
        self._descriptor: int | None = None
        self._written = 0

    def record_write(self, size: int) -> bool:
        """Count about `size` bytes written, and return whether it is time for a checkpoint."""
        self._written += size
        return self._written >= CHECKPOINT_BYTES

    def checkpoint(self) -> None:
        """Copy into the file what no reader blocks; the WAL is written from its start again once no reader uses it.

        Where readers overlap there always is one, so a large WAL makes new ones read the file alone, and waits for the
        others a little.

        Raises:
            OSError: The disk is full or fails; the contents of the WAL are safe, and a retry is possible.
            sqlite3.Error: The disk fails: neither the WAL nor the file can be trusted until `reset`.
        """
        self._written = 0
        self.preallocate()
        self._connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()
        if self._log.exists() and self._log.stat().st_size >= self._restart_bytes:
            (milliseconds,) = self._connection.execute("PRAGMA busy_timeout").fetchone()
            self._connection.execute(f"PRAGMA busy_timeout = {_RESTART_SECONDS * 1e3:.0f}")
            try:
                self._connection.execute("PRAGMA wal_checkpoint(RESTART)").fetchone()
            finally:
                self._connection.execute(f"PRAGMA busy_timeout = {milliseconds}")

    def reset(self) -> bool:
        """Copy the WAL into the file and truncate it; return False if a reader blocks that.

        Raises:
            OSError: The disk is full, or still fails; nothing is lost, and a retry is possible.
            sqlite3.Error: As `checkpoint`.
        """
        if not self._log.exists() or self._log.stat().st_size == 0:
            return True
        self.preallocate()
        (busy, *_) = self._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
        return not busy

    def close(self) -> None:
        """Close the file; only after the connection is closed."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

    def preallocate(self) -> None:
        """Extend the file to the length that the WAL will give it, with its new blocks on disk.

        Raises:
            OSError: The disk is full or fails; the file is as long as before.
        """
        (pages,) = self._connection.execute("PRAGMA page_count").fetchone()
        (size,) = self._connection.execute("PRAGMA page_size").fetchone()
        before = self._path.stat().st_size
        if before >= pages * size:
            return
        if self._descriptor is None:
            # Open as long as the connection: closing it would release the locks that SQLite holds on the file.
            self._descriptor = os.open(self._path, os.O_RDWR | os.O_CLOEXEC)
        _fill(self._descriptor, before, pages * size)


def _fill(descriptor: int, before: int, end: int) -> None:
    try:
        written = before
        while written < end:
            written += os.pwrite(descriptor, bytes(min(_CHUNK, end - written)), written)
        os.fsync(descriptor)
    except OSError:
        with suppress(OSError):
            os.ftruncate(descriptor, before)
        raise
