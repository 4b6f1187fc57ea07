"""The audit log: a line of JSON for each write, before its caller has the response.

Processes that take calls append to the same file. A line is one write of the system, so lines never mix; it is in the
operating system's memory when the response is sent, and no flush is waited for.
"""

from __future__ import annotations

import fcntl
import json
import os
import threading
from collections.abc import Callable, Iterable, Sequence
from contextvars import ContextVar
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path
from typing import Any, Protocol

from lookalike_server.domain.errors import Code, LookalikeError
from lookalike_server.domain.events import AuditLogFailed, Observer

_MAX_ID = 256  # characters; a valid id has at most so many bytes, and what is longer was rejected
_MAX_IDS = 1000  # of a request; one with more was rejected


class AuditLog:
    """Appends lines, and starts a new file when one is full: FILE.1 is then the one before, FILE.2 the one before that.

    Where others have moved the file, the next line goes to a new one of its name, so any log rotation works.
    """

    def __init__(self, path: Path, max_bytes: int, max_files: int, observer: Observer) -> None:
        """Open the file, which is created for this user only where it is missing.

        Args:
            path: The file.
            max_bytes: Its size from which on a new one is started.
            max_files: How many there are in all; the oldest is deleted.
            observer: Receives the errors of later writes, which fail no call.

        Raises:
            LookalikeError: FAILED_PRECONDITION where it cannot be written.
        """
        self._path = path
        self._max_bytes = max_bytes
        self._max_files = max_files
        self._observer = observer
        self._lock = threading.Lock()
        self._file: int | None = None
        try:
            self._current()
        except OSError as error:
            raise LookalikeError(Code.FAILED_PRECONDITION, f"cannot write the audit log: {error}") from None

    def write(self, line: dict[str, object]) -> None:
        """Append a line; an error is reported and fails nothing."""
        data = json.dumps(line).encode() + b"\n"
        with self._lock:
            try:
                file = self._current()
                size = os.fstat(file).st_size
                if size and size + len(data) > self._max_bytes:
                    self._rotate(file)
                    file = self._current()
                os.write(file, data)
            except OSError as error:
                self._observer(AuditLogFailed(str(self._path), error))

    def close(self) -> None:
        """Close the file; a call that ends even later opens it again."""
        with self._lock:
            if self._file is not None:
                os.close(self._file)
                self._file = None

    def _current(self) -> int:
        """Return the open file, which is the one that has the name at present."""
        if self._file is not None:
            if self._has_the_name(self._file):
                return self._file
            os.close(self._file)
            self._file = None
        flags = os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC
        self._file = os.open(self._path, flags, 0o600)
        return self._file

    def _rotate(self, full: int) -> None:
        fcntl.flock(full, fcntl.LOCK_EX)
        try:
            if not self._has_the_name(full):
                return  # another process was faster
            for number in range(self._max_files - 1, 0, -1):
                newer = self._path if number == 1 else self._numbered(number - 1)
                if newer.exists():
                    newer.replace(self._numbered(number))
            if self._max_files == 1:
                self._path.unlink()
        finally:
            fcntl.flock(full, fcntl.LOCK_UN)

    def _has_the_name(self, file: int) -> bool:
        try:
            return os.path.samestat(os.fstat(file), self._path.stat())
        except FileNotFoundError:
            return False

    def _numbered(self, number: int) -> Path:
        return self._path.with_name(f"{self._path.name}.{number}")


class Status(Protocol):
    """The part of an item's status that the log has."""

    @property
    def id(self) -> str:
        """The product's id, as it was sent."""

    @property
    def status(self) -> Any:
        """Its `google.rpc.Status`."""


@dataclass(slots=True)
class AuditedCall:
    """A call that writes.

    Attributes:
        log: Where its lines go.
        facts: Of the call, for each of its lines.
        code_name: From the number of a code to its name.
        ids: What it names, once that is known.
        failed: The code of each of these that failed.
    """

    log: AuditLog
    facts: dict[str, object]
    code_name: Callable[[int], str]
    ids: Sequence[str] = ()
    failed: dict[str, str] = field(default_factory=dict)

    def end(self, outcome: str) -> None:
        """Write the line of the call; that of a stream only where it failed, because its items have theirs."""
        if self.ids or outcome != "OK":
            self._write(outcome, self.ids, self.failed)

    def note_results(self, results: Iterable[Status]) -> None:
        """Take the outcome of each item."""
        for each in results:
            if each.status.code:
                self.failed[each.id[:_MAX_ID]] = self.code_name(each.status.code)

    def write_item(self, result: Status) -> None:
        """Write the line of an item of a stream."""
        self._write(self.code_name(result.status.code), (result.id,), {})

    def _write(self, outcome: str, ids: Sequence[str], failed: dict[str, str]) -> None:
        line = {"time": datetime.now(UTC).isoformat(timespec="milliseconds"), **self.facts, "outcome": outcome}
        line["ids"] = [each[:_MAX_ID] for each in ids]
        self.log.write(line | ({"failed": failed} if failed else {}))


AUDITED: ContextVar[AuditedCall | None] = ContextVar("audited", default=None)
"""The write that the current task serves; None without an audit log."""


def note_ids(ids: Iterable[str]) -> None:
    """Say which products the current call is about to write."""
    audited = AUDITED.get()
    if audited is not None:
        audited.ids = tuple(islice(ids, _MAX_IDS))


def note_results(results: Iterable[Status]) -> None:
    """Say what became of each of them."""
    audited = AUDITED.get()
    if audited is not None:
        audited.note_results(results)


def note_item(result: Status) -> None:
    """Say what became of an item of the current stream."""
    audited = AUDITED.get()
    if audited is not None:
        audited.write_item(result)
