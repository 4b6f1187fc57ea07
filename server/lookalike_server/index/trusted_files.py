"""The folder of the index's files, which are a cache: missing, damaged and unknown ones are made again.

A file appears whole or not at all: it is written under a temporary name, flushed and renamed, then its folder is
flushed. It is trusted only once the store's manifest has its size and sha256, which is a transaction of the catalog.
Files that are not in the manifest are deleted at the next start.
"""

from __future__ import annotations

import hashlib
import os
import uuid
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import IO

from lookalike_server.domain.catalog import SegmentFile
from lookalike_server.domain.events import GraphFileFailed, Observer
from lookalike_server.domain.protocols import SegmentManifest
from lookalike_server.flushing import flush

GRAPH = ".graph"
ROWS = ".rows"
PART = ".part"


class TrustedFiles:
    """The files of all categories, of two kinds, which their names end with.

    Any thread may read; only one thread at a time may replace those of one category.
    """

    def __init__(self, folder: Path, manifest: SegmentManifest, observer: Observer) -> None:
        """Use a folder, created if missing, and delete the files in it that the manifest does not name."""
        self.folder = folder
        self._manifest = manifest
        self._observer = observer
        self._files = dict(manifest.segments())
        names = {file.name for files in self._files.values() for file in files}
        try:
            folder.mkdir(exist_ok=True)
            found = list(folder.iterdir())
        except OSError as error:
            observer(GraphFileFailed(folder.name, error))
            found = []
        for path in found:
            # Folders are not ours, such as lost+found at the root of a file system.
            if path.name not in names and not path.is_dir():
                try:
                    path.unlink()
                except OSError as error:
                    observer(GraphFileFailed(path.name, error))

    def categories(self) -> set[str]:
        """Return the categories that have files."""
        return {category for category, files in list(self._files.items()) if files}

    def has(self, category: str) -> bool:
        """Return whether a category has files."""
        return bool(self._files.get(category))

    def of(self, category: str, kind: str) -> list[SegmentFile]:
        """Return the files of a category that are `ROWS`, or `GRAPH`, oldest first."""
        # Graphs had other names in earlier versions.
        return [file for file in self._files.get(category, ()) if file.name.endswith(ROWS) == (kind == ROWS)]

    def replace(self, category: str, kind: str, after: Sequence[SegmentFile]) -> None:
        """Record the files of one kind in the manifest, and only then delete those that are no longer in it."""
        before = self.of(category, kind)
        if before == list(after):
            return
        others = [file for file in self._files.get(category, ()) if file not in before]
        try:
            self._manifest.replace_segments(category, [*after, *others]).result()
            self._files[category] = [*after, *others]
            for file in set(before) - set(after):
                (self.folder / file.name).unlink(missing_ok=True)
        except Exception as error:  # noqa: BLE001 - an error of a cache must stop nothing
            self._observer(GraphFileFailed(category, error))

    def write(self, kind: str, encode: Callable[[IO[bytes]], None]) -> SegmentFile:
        """Write a new file, which is whole and flushed on return, and gone after an error.

        Args:
            kind: How its name ends.
            encode: Writes its contents; the name of what it writes to is the file's and `PART`.

        Raises:
            OSError: The disk is full or fails.
            Exception: `encode` raised it.
        """
        name = f"{uuid.uuid4().hex}{kind}"
        part = self.folder / f"{name}{PART}"
        try:
            with part.open("w+b") as file:
                encode(file)
                file.flush()
                os.fsync(file.fileno())
                # Read back, because the manifest must describe what the file system has.
                size = file.tell()
                file.seek(0)
                sha256 = hashlib.file_digest(file, "sha256").hexdigest()
            part.rename(self.folder / name)
            flush(self.folder)
        except BaseException:
            for path in (part, self.folder / name):  # the second one, if the folder could not be flushed
                path.unlink(missing_ok=True)
            raise
        return SegmentFile(name, size, sha256)
