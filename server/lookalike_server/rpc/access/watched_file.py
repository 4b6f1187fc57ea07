"""A file of credentials that is read again when it changes, while calls go on with what was read last."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Generic, TypeVar

from lookalike_server.domain.errors import LookalikeError
from lookalike_server.domain.events import CredentialsFileRejected, CredentialsFileReloaded, Observer

CHECK_SECONDS = 1.0
"""How often calls look whether the file has changed; a look takes a few microseconds."""

T = TypeVar("T")


class WatchedFile(Generic[T]):
    """What a file says. It lives on one event loop and needs no task: the next call looks.

    Attributes:
        content: What the last readable version said.
    """

    def __init__(
        self,
        path: Path,
        read: Callable[[Path], T],
        observer: Observer,
        on_change: Callable[[], None] = lambda: None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Read the file for the first time.

        Args:
            path: The file; a symbolic link that is pointed elsewhere is a change too.
            read: Raises LookalikeError where it cannot be used.
            observer: Receives what became of later versions.
            on_change: Called once there is new content.
            clock: A monotonic clock.

        Raises:
            LookalikeError: As `read` does.
        """
        self._path = path
        self._read = read
        self._observer = observer
        self._on_change = on_change
        self._clock = clock
        self._next_look = clock() + CHECK_SECONDS
        # Before it is read, so that what is written meanwhile is a change.
        self._version = file_version(self._path)
        self.content = read(path)

    def refresh(self) -> None:
        """Read the file again if it has changed, which is looked at once a second; costs next to nothing otherwise."""
        now = self._clock()
        if now >= self._next_look:
            self._next_look = now + CHECK_SECONDS
            version = file_version(self._path)
            if version != self._version:
                self._reload(version)

    def reload(self) -> None:
        """Read the file again now, changed or not."""
        self._reload(file_version(self._path))

    def _reload(self, version: tuple[int, ...] | None) -> None:
        self._version = version
        try:
            self.content = self._read(self._path)
        except LookalikeError as error:
            self._observer(CredentialsFileRejected(str(self._path), error.message))
            return
        self._on_change()
        self._observer(CredentialsFileReloaded(str(self._path)))


def file_version(path: Path) -> tuple[int, ...] | None:
    """Return what differs once a file has been changed, replaced, or opened to others; None where there is none."""
    try:
        status = path.stat()
    except OSError:
        return None
    # The time of the last change of the inode covers its permissions too.
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns
