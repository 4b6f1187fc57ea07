"""A catalog file that is missing or empty beside what only a catalog with products leaves behind.

SQLite takes an empty file for a new database, and deletes the write-ahead log beside it. So a start would begin with an
empty catalog, and delete the graphs of the one that was lost, as if everything were in order.
"""

from __future__ import annotations

from pathlib import Path

from lookalike_server.domain.errors import Code, LookalikeError
from lookalike_server.store.sqlite import FILE

_LEFT = (f"{FILE}-wal", "index/*.graph", "index/*.npz")


def why_lost(folder: Path) -> str | None:
    """Return a sentence where the catalog file of a folder is lost; None where it is there, or there never was one."""
    path = folder / FILE
    if path.is_symlink() and not path.exists():
        return f"{path} points to {path.readlink()}, which does not exist; is its disk mounted?"
    if path.exists() and path.stat().st_size:
        return None
    left = next((found for name in _LEFT for found in sorted(folder.glob(name)) if found.stat().st_size), None)
    if left is None:
        return None
    state = "is empty" if path.exists() else "is missing"
    return (
        f"{path} {state}, but {left} is of a catalog with products: restore a backup as {path}, or remove {left.parent}"
        " to begin with an empty catalog"
    )


def reject_lost_file(folder: Path) -> None:
    """Reject a folder whose catalog file is lost.

    Raises:
        LookalikeError: FAILED_PRECONDITION.
    """
    reason = why_lost(folder)
    if reason is not None:
        raise LookalikeError(Code.FAILED_PRECONDITION, reason)
