"""Graphs on disk, so that a restart need not build them. A cache: missing, damaged and unknown files are rebuilt.

A file appears whole or not at all: it is written under a temporary name, flushed and renamed, then its folder is
flushed. It is trusted only once the store's manifest has its size and sha256, which is a transaction of the catalog.
Files that are not in the manifest are deleted at the next start. A file is a line of JSON, which says what graph it is,
some NumPy arrays about its nodes and rows, and what the library writes. No vector of it reaches a result: distances are
measured with the store's vectors.
"""

from __future__ import annotations

import hashlib
import json
import os
import uuid
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import IO

import numpy as np

from lookalike_server.domain.catalog import SegmentFile
from lookalike_server.domain.events import GraphFileFailed, GraphFileUnusable, Observer
from lookalike_server.domain.protocols import SegmentManifest
from lookalike_server.index.graph import graph_class
from lookalike_server.index.nodes import NodeRows
from lookalike_server.index.row_storage import Slots
from lookalike_server.index.segment import PartitionSettings, Segment

FORMAT = 2

SavedSegment = tuple[Slots, Segment]
"""The labels of a segment's rows, int64 [rows], and the segment; as it is read, its rows are positions in these."""

_MIN_GROWTH = 9 / 8  # of a graph that is worth another file


class GraphFiles:
    """The files of all categories. Only one thread at a time may load or save those of one category."""

    def __init__(
        self, folder: Path, manifest: SegmentManifest, settings: PartitionSettings, observer: Observer
    ) -> None:
        """Use a folder, created if missing, and delete the files in it that the manifest does not name."""
        self._folder = folder
        self._manifest = manifest
        self._settings = settings
        self._observer = observer
        self._files = dict(manifest.segments())
        self._saved: dict[str, dict[Segment, SegmentFile]] = {}
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

    def load(self, category: str) -> list[SavedSegment]:
        """Read the usable segments of a category, oldest first, and drop the files of the others."""
        segments: list[SavedSegment] = []
        saved: dict[Segment, SegmentFile] = {}
        for file in self._files.get(category, ()):
            try:
                labels, segment = self._read(file)
            except (OSError, ValueError) as error:
                self._observer(GraphFileUnusable(category, file.name, str(error)))
            else:
                segments.append((labels, segment))
                saved[segment] = file
        self._replace(category, saved)
        return segments

    def save(self, category: str, segments: Sequence[tuple[Segment, Callable[[], Slots]]]) -> None:
        """Make these the only graphs on disk; errors of the disk or the store are reported and leave graphs unsaved.

        Args:
            category: Whose segments.
            segments: All of them, oldest first, each with a function that returns the labels of its rows, int64 [rows].
        """
        before = self._saved.get(category, {})
        if _grew_little(list(before), [segment for segment, _ in segments]):
            return
        files = {segment.graph: file for segment, file in before.items()}
        try:
            self._replace(
                category,
                {segment: files.get(segment.graph) or self.write(labels(), segment) for segment, labels in segments},
            )
        except OSError as error:
            self._observer(GraphFileFailed(category, error))

    def _replace(self, category: str, saved: dict[Segment, SegmentFile]) -> None:
        """Record the files in the manifest, and only then delete those that are no longer in it."""
        self._saved[category] = saved
        before, after = self._files.get(category, []), list(saved.values())
        if before == after:
            return
        try:
            self._manifest.replace_segments(category, after).result()
            self._files[category] = after
            for file in set(before) - set(after):
                (self._folder / file.name).unlink(missing_ok=True)
        except Exception as error:  # noqa: BLE001 - an error of a cache must stop nothing
            self._observer(GraphFileFailed(category, error))

    def write(self, labels: Slots, segment: Segment) -> SegmentFile:
        """Write a segment to a new file, which is whole and flushed on return, and gone after an error.

        Raises:
            OSError: The disk is full or fails.
        """
        name = f"{uuid.uuid4().hex}.graph"
        part = self._folder / f"{name}.part"
        try:
            with part.open("w+b") as file:
                encode(file, labels, segment, self._settings)
                file.flush()
                os.fsync(file.fileno())
                # Read back, because the manifest must describe what the file system has.
                size = file.tell()
                file.seek(0)
                sha256 = hashlib.file_digest(file, "sha256").hexdigest()
            part.rename(self._folder / name)
            _sync(self._folder)
        except OSError:
            for path in (part, self._folder / name):  # the second one, if the folder could not be flushed
                path.unlink(missing_ok=True)
            raise
        return SegmentFile(name, size, sha256)

    def _read(self, file: SegmentFile) -> SavedSegment:
        with (self._folder / file.name).open("rb") as opened:
            size = os.fstat(opened.fileno()).st_size
            if size != file.size:
                raise ValueError(f"its size is {size} bytes, not {file.size}")
            # Before it is decoded, because libraries crash on a damaged graph.
            if hashlib.file_digest(opened, "sha256").hexdigest() != file.sha256:
                raise ValueError("it is damaged: its sha256 differs")
            opened.seek(0)
            return _decode(opened, self._settings)


def _grew_little(before: Sequence[Segment], after: Sequence[Segment]) -> bool:
    """Whether only the last graph grew, and so little that a restart adds the rows faster than a file is written."""
    if not before or len(before) != len(after):
        return False
    *same, last = zip(before, after, strict=True)
    if any(one.graph is not other.graph for one, other in same) or last[0].origin is not last[1].origin:
        return False
    return last[0].graph is last[1].graph or len(last[1].rows) <= _MIN_GROWTH * len(last[0].rows)


def encode(file: IO[bytes], labels: Slots, segment: Segment, settings: PartitionSettings) -> None:
    """Write a segment and the labels of its rows (int64 [rows])."""
    file.write(json.dumps(_kind(settings)).encode() + b"\n")
    for array in (labels, segment.rows.nodes, segment.rows.prints, segment.lost):
        np.lib.format.write_array(file, array, allow_pickle=False)
    segment.graph.write(file)


def _decode(file: IO[bytes], settings: PartitionSettings) -> SavedSegment:
    line = file.readline(1 << 16)
    if not line.startswith(b"{"):
        raise ValueError("an earlier version wrote it")
    kind = json.loads(line)
    if kind != _kind(settings):
        raise ValueError(f"it was built with other settings: {kind}")
    labels, nodes, prints, lost = (np.lib.format.read_array(file, allow_pickle=False) for _ in range(4))
    graph = graph_class(settings.hnsw).read(file, settings.dim, settings.metric, settings.hnsw)
    return labels, Segment.of(graph, NodeRows.of(np.arange(len(labels)), nodes, prints), lost)


def _kind(settings: PartitionSettings) -> dict[str, object]:
    """Return all that a graph depends on besides its rows; how it is searched may change."""
    hnsw = settings.hnsw
    return {
        "format": FORMAT,
        "library": hnsw.library,
        "m": hnsw.m,
        "ef_construction": hnsw.ef_construction,
        "dim": settings.dim,
        "metric": settings.metric.value,
    }


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
