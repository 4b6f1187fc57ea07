"""The catalog's SQLite file: connections, the folder's lock, and the schema; the only module that imports `sqlite3`.

WAL with synchronous=FULL: a commit survives a power cut. One connection writes and checkpoints (in the writer thread),
all others are read-only, which also avoids the WAL-reset bug of SQLite before 3.51.3.
"""

from __future__ import annotations

import fcntl
import sqlite3
from pathlib import Path
from typing import IO, TypeAlias

from lookalike_server.domain.errors import Code, LookalikeError
from lookalike_server.domain.inference import Model
from lookalike_server.store.migrations import MIGRATIONS
from lookalike_server.store.wal import Wal

FILE = "catalog.sqlite"
"""The name of the catalog file in its folder."""

Connection: TypeAlias = sqlite3.Connection
Cursor: TypeAlias = sqlite3.Cursor
SqliteError = sqlite3.Error
FILE_ERRORS = (OSError, sqlite3.Error, UnicodeDecodeError)
"""What using a file may raise; the last one where a damaged schema is quoted by an error of SQLite's."""

SQLITE_VERSION = sqlite3.sqlite_version


def connect(path: Path, mode: str) -> Connection:
    """Open a file with mode "ro" to read it, or "rwc" to write it and create it if it is missing."""
    # isolation_level None: transactions begin where the code says so, never implicitly.
    return sqlite3.connect(
        f"{path.absolute().as_uri()}?mode={mode}", uri=True, isolation_level=None, check_same_thread=False, timeout=10.0
    )


def lock_folder(folder: Path) -> IO[str]:
    """Lock a catalog's folder against other writers until the returned file is closed.

    Raises:
        LookalikeError: FAILED_PRECONDITION if another process has the lock.
    """
    lock = (folder / "lock").open("w")
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        lock.close()
        raise LookalikeError(
            Code.FAILED_PRECONDITION,
            f"another server is using {folder}; stop it (or the reembed command) or choose another --data-dir",
        ) from None
    return lock


def prepare(connection: Connection, path: Path, model: Model, wal: Wal) -> None:
    """Configure the connection that writes, migrate the file, and bind it to the model if it holds no embeddings.

    Raises:
        LookalikeError: FAILED_PRECONDITION if a newer version wrote the file, or it holds embeddings of another model.
        sqlite3.Error: The file is not a catalog, or cannot be written.
    """
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    if version > len(MIGRATIONS):
        raise LookalikeError(
            Code.FAILED_PRECONDITION,
            f"{path} was written by a newer version of lookalike-server; use that version",
        )
    if version == 0:
        connection.execute("PRAGMA auto_vacuum = INCREMENTAL")  # possible before the first page only; see `vacuum`
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = FULL")
    wal.reset()  # what a crash left in the WAL may be in memory only
    connection.execute("PRAGMA foreign_keys = ON")
    for number, script in enumerate(MIGRATIONS[version:], start=version + 1):
        connection.executescript(f"BEGIN; {script} PRAGMA user_version = {number}; COMMIT;")
    found = connection.execute("SELECT value FROM meta WHERE key = 'model_digest'").fetchone()
    if found is not None and found[0] != model.digest and _holds_rows(connection):
        raise LookalikeError(
            Code.FAILED_PRECONDITION,
            f"{path} holds embeddings of model {found[0][:12]}, but {model.name} is {model.digest[:12]}, and distances"
            " between embeddings of two models mean nothing. Convert the catalog with `lookalike-server reembed`, or"
            " serve the model it was made with",
        )
    connection.execute("INSERT OR REPLACE INTO meta VALUES ('model_digest', ?)", (model.digest,))


def _holds_rows(connection: Connection) -> bool:
    return connection.execute("SELECT 1 FROM embeddings LIMIT 1").fetchone() is not None
