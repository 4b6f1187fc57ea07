"""Gives the space of deleted rows back to the disk, in steps that are a transaction each.

SQLite keeps the pages of deleted rows for new ones. A catalog made by this version has `auto_vacuum = INCREMENTAL`: its
last pages can be moved into free ones a few at a time, and the file ends where they were. One of an earlier version is
rewritten as a whole first, in one transaction, which also sets that.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

from lookalike_server.domain.errors import Code, LookalikeError
from lookalike_server.store.damage import REMEDY, is_damage
from lookalike_server.store.lost_file import reject_lost_file
from lookalike_server.store.migrations import MIGRATIONS
from lookalike_server.store.sqlite import FILE, FILE_ERRORS, connect, lock_folder
from lookalike_server.store.wal import Wal

STEP_PAGES = 1024
"""Pages that a step moves: 4 MiB."""

_INCREMENTAL = 2

Progress = Callable[[int, int], None]
"""Receives how many bytes were given back so far, and how many there are to give in all."""


def vacuum(folder: Path, progress: Progress) -> tuple[int, int]:
    """Shrink the catalog in a folder that no server uses; return its bytes before and after.

    It can be stopped at any time, by an exception of `progress` too: each step is whole or was not begun, and the next
    run goes on where this one stopped.

    Raises:
        LookalikeError: FAILED_PRECONDITION if there is no catalog, a server uses it, it is damaged, a newer version
            wrote it, or the disk is full.
    """
    path = folder / FILE
    if not path.is_file():
        raise LookalikeError(
            Code.FAILED_PRECONDITION, f"{path} does not exist; set --data-dir to the folder of a catalog"
        )
    reject_lost_file(folder)
    try:
        with lock_folder(folder), closing(connect(path, "rwc")) as connection:
            (version,) = connection.execute("PRAGMA user_version").fetchone()
            if not 0 < version <= len(MIGRATIONS):
                raise LookalikeError(
                    Code.FAILED_PRECONDITION, f"{path} is not a catalog of this version or an earlier one"
                )
            connection.execute("PRAGMA journal_mode = WAL")
            connection.execute("PRAGMA synchronous = FULL")
            wal = Wal(connection)
            wal.reset()
            before = path.stat().st_size
            _shrink(connection, wal, progress)
            wal.reset()  # which also cuts the file
            return before, path.stat().st_size
    except FILE_ERRORS as error:
        remedy = REMEDY if is_damage(error) else "the same command resumes where this one stopped"
        raise LookalikeError(Code.FAILED_PRECONDITION, f"cannot shrink {path}: {error}; {remedy}") from error


def _shrink(connection: Any, wal: Wal, progress: Progress) -> None:
    size = _pragma(connection, "page_size")
    total = _pragma(connection, "freelist_count") * size
    progress(0, total)
    if _pragma(connection, "auto_vacuum") != _INCREMENTAL:
        connection.execute("PRAGMA auto_vacuum = INCREMENTAL")
        connection.execute("VACUUM")
        wal.checkpoint()
        progress(total, total)
    while (left := _pragma(connection, "freelist_count")) > 0:
        connection.execute("BEGIN IMMEDIATE")
        release(connection, STEP_PAGES)
        connection.execute("COMMIT")
        if wal.record_write(2 * STEP_PAGES * size):
            wal.checkpoint()
        progress(total - max(0, left - STEP_PAGES) * size, total)


def release(connection: Any, pages: int) -> None:
    """Give up to so many free pages back, in the transaction that is open."""
    for _ in range(pages):
        # One by one, because Python's module takes one step of a statement without columns, which is one page.
        connection.execute("PRAGMA incremental_vacuum(1)")


def _pragma(connection: Any, name: str) -> int:
    (value,) = connection.execute(f"PRAGMA {name}").fetchone()
    return int(value)
