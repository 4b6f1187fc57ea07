"""What `verify --quick` looks at: as much of a catalog as can be seen within seconds, however large it is.

It leaves out what has to read everything: the checksums of embeddings, the sha256 of images and of index files,
attributes, references between tables, and whether tables and their indexes agree. SQLite's `quick_check` reads every
page, and is ended when its time is up.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

QUICK_SECONDS = 5.0
"""For which SQLite's check may run."""

_AGAIN_SECONDS = 0.05
_DIGEST = 64  # hexadecimal digits
_FIRST = ("meta", "segments", "products", "idempotency_keys")  # small, and needed by every start


def quick_problems(folder: Path, connection: Any, version: int, seconds: float) -> Iterator[str]:
    """Yield a sentence for every problem.

    Args:
        folder: Of the catalog.
        connection: Reads its file.
        version: Of its schema, from 1 on.
        seconds: For which SQLite's check may run.
    """
    yield from _digest(connection)
    yield from _manifest(folder, connection, version)
    yield from _pages(connection, seconds)


def _digest(connection: Any) -> Iterator[str]:
    """Check that a catalog with embeddings says which model made them, and that the first has whole numbers."""
    found = connection.execute("SELECT value FROM meta WHERE key = 'model_digest'").fetchone()
    vector = connection.execute("SELECT length(vector) FROM embeddings LIMIT 1").fetchone()
    if vector is None:
        return
    if found is None or len(found[0]) != _DIGEST or not set(found[0]) <= set("0123456789abcdef"):
        yield "the catalog does not say which model made its embeddings: meta.model_digest is missing or no sha256"
    if not vector[0] or vector[0] % 4:
        yield f"the first embedding has {vector[0]} bytes, which are no float32 values"


def _manifest(folder: Path, connection: Any, version: int) -> Iterator[str]:
    """Compare the sizes of the index's files; one that is gone is none, because a server replaces them meanwhile."""
    rows = connection.execute("SELECT category, file, size FROM segments") if version >= 3 else ()
    for category, name, size in rows:
        try:
            found = (folder / "index" / name).stat().st_size
        except FileNotFoundError:
            continue
        if found != size:
            yield (
                f"index/{name} of category {category!r} has {found} bytes, not {size}. The next start makes it again"
            )


def _pages(connection: Any, seconds: float) -> Iterator[str]:
    """Run SQLite's `quick_check`, the small tables first, until the time is up."""
    tables = [name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
    end = time.monotonic() + seconds
    for table in sorted(tables, key=lambda name: (name not in _FIRST, name)):
        if table.startswith("sqlite_"):
            continue
        if time.monotonic() >= end:
            return
        with interrupted_after(connection, end - time.monotonic()) as expired:
            try:
                for (found,) in connection.execute(f"PRAGMA quick_check('{table}')"):
                    # Where it was interrupted it may say anything.
                    if found != "ok" and not expired.is_set():
                        yield f"table {table}: {found}"
            except Exception:
                if not expired.is_set():
                    raise


@contextmanager
def interrupted_after(connection: Any, seconds: float) -> Iterator[threading.Event]:
    """Interrupt what the connection runs after this time; the event says whether that happened.

    A progress handler would be simpler, but SQLite before 3.42 calls none while it checks pages.
    """
    expired, done = threading.Event(), threading.Event()

    def interrupt() -> None:
        if not done.wait(max(0.0, seconds)):
            expired.set()
            # Again and again, because an interrupt that comes just before a statement starts does nothing.
            while True:
                connection.interrupt()
                if done.wait(_AGAIN_SECONDS):
                    return

    thread = threading.Thread(target=interrupt, name="quick-check-timer", daemon=True)
    thread.start()
    try:
        yield expired
    finally:
        done.set()
        thread.join()
