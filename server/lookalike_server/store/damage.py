"""What the store does once its file turns out to be damaged: it says so, stores nothing more, and reads what it can.

SQLite notices damage where a statement comes upon it. Whoever called gets an error with the remedy; the first one is
reported, so that health says NOT_SERVING. A write into such a file could spread the damage, so all are rejected until
the file is replaced.
"""

from __future__ import annotations

import threading
from collections.abc import Callable

from lookalike_server.domain.errors import Code, LookalikeError, ServerError

REMEDY = "`lookalike-server verify` says what is damaged; restore a backup in its place"
"""What to do about a damaged file, for the operator."""

_NAMES = ("SQLITE_CORRUPT", "SQLITE_NOTADB", "SQLITE_FORMAT")


class DamagedFileError(ServerError):
    """The file holds what cannot be; callers learn what its operator can do."""

    def __init__(self, reason: str) -> None:
        super().__init__(LookalikeError(Code.DATA_LOSS, f"the server's catalog is damaged: {REMEDY}"))
        self.args = (reason,)


def is_damage(error: Exception) -> bool:
    """Whether an exception says that the file is damaged."""
    name = str(getattr(error, "sqlite_errorname", ""))
    # A text that is none has no error name, and cannot be quoted by an error either.
    is_no_text = isinstance(error, UnicodeDecodeError) or "Could not decode to UTF-8" in str(error)
    return isinstance(error, DamagedFileError) or name.startswith(_NAMES) or is_no_text


class Damage:
    """Whether a catalog's file is damaged. Thread-safe."""

    def __init__(self, report: Callable[[Exception], None] = lambda _: None) -> None:
        """Call `report` with the first error that says so, in whichever thread that occurs."""
        self._report = report
        self._lock = threading.Lock()
        self._first: Exception | None = None

    def public_error(self, error: Exception) -> Exception:
        """Return an error as callers get it: `DamagedFileError` where the file is, else as it is."""
        if not is_damage(error):
            return error
        with self._lock:
            first, self._first = self._first, self._first or error
        if first is None:
            self._report(error)
        if isinstance(error, DamagedFileError):
            return error
        fault = DamagedFileError(str(error))
        fault.__cause__ = error
        return fault

    def raise_if_damage(self, error: Exception) -> None:
        """Raise `DamagedFileError` where this error says that the file is damaged; else do nothing."""
        if is_damage(error):
            raise self.public_error(error)

    def check_writable(self) -> None:
        """Reject a write.

        Raises:
            DamagedFileError: The file is known to be damaged.
        """
        if self._first is not None:
            raise DamagedFileError(f"nothing is stored in a damaged file: {self._first}")
