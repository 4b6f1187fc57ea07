"""Begins SQLite's log (the WAL) anew where what is in it may be in memory only: after a failed flush, or a crash.

A flush that succeeds says nothing about one that failed before it: Linux forgets the pages that it could not write
(fsyncgate). SQLite writes the frames of the next commit over those of the failed one, and that is not enough: ext4
leaves blocks that were new when the flush failed marked as never written, whatever is written to them later, and after
a power cut they read as zeros. So what the log holds is put into the catalogue's file, and the log is cut to nothing,
blocks and all. The same could befall new blocks of the catalogue's file, so it is made to grow first: by zeros, flushed
before anything counts on them, and taken back where that fails.

Not covered: a checkpoint that SQLite does within a commit, and that fails while it makes the file grow. SQLite tells
nobody, repeats it, and empties the log; the file's new blocks are then as unsure as the log's would be.
"""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path
from typing import Any

_PIECE = 1 << 20  # bytes written at a time


def renew(connection: Any) -> bool:
    """Put what the log holds into the file and empty it; False when somebody who reads is in the way.

    Raises:
        OSError: The disk is full, or still fails; nothing is lost, and it can be tried again.
        sqlite3.Error: As above.
    """
    _, _, name = connection.execute("PRAGMA database_list").fetchone()
    path = Path(name)
    log = path.with_name(f"{path.name}-wal")
    if not log.exists() or log.stat().st_size == 0:
        return True
    (pages,) = connection.execute("PRAGMA page_count").fetchone()
    (size,) = connection.execute("PRAGMA page_size").fetchone()
    _grow(path, pages * size)
    (busy, *_) = connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
    return not busy


def _grow(path: Path, size: int) -> None:
    """Make the file at least so long, its new blocks on disk."""
    before = path.stat().st_size
    if before >= size:
        return
    # Never closed: that would take from SQLite the locks it has on the file. This happens after a failure, not often.
    descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    try:
        end = before
        while end < size:
            end += os.pwrite(descriptor, bytes(min(_PIECE, size - end)), end)
        os.fsync(descriptor)
    except OSError:
        with suppress(OSError):
            os.ftruncate(descriptor, before)
        raise
