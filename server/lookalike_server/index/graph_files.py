"""Graphs on disk, so that a restart need not build them. A cache: missing, damaged and unknown files are rebuilt.

A file appears whole or not at all: it is written under a temporary name, flushed and renamed, then its folder is
flushed. It is trusted only once the store's manifest has its size and sha256, which is a transaction of the catalog.
Files that are not in the manifest are deleted at the next start. A file is a NumPy `.npz` of the rows' labels by offset
and of `HnswGraph.arrays`. No vector of it reaches a result: distances are measured with the store's vectors.
"""

from __future__ import annotations

import hashlib
import io
import os
import uuid
from collections.abc import Sequence
from pathlib import Path
from typing import IO, Any

import numpy as np

from lookalike_server.domain.catalog import SegmentFile
from lookalike_server.domain.events import GraphFileFailed, GraphFileUnusable, Observer
from lookalike_server.domain.protocols import SegmentManifest
from lookalike_server.index.hnsw import HnswGraph
from lookalike_server.index.partition import LabeledGraph
from lookalike_server.index.row_storage import Slots
from lookalike_server.index.segment import PartitionSettings

FORMAT = 1

_MIN_GROWTH = 9 / 8  # of a graph that is worth another file
_FORMAT = "format"
_LABELS = "labels"


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
        self._saved: dict[str, dict[HnswGraph, SegmentFile]] = {}
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

    def load(self, category: str) -> list[LabeledGraph]:
        """Read the usable graphs of a category, oldest first, and drop the files of the others."""
        graphs: list[LabeledGraph] = []
        saved: dict[HnswGraph, SegmentFile] = {}
        for file in self._files.get(category, ()):
            try:
                labels, graph = self._read(file)
            except (OSError, ValueError) as error:
                self._observer(GraphFileUnusable(category, file.name, str(error)))
            else:
                graphs.append((labels, graph))
                saved[graph] = file
        self._replace(category, saved)
        return graphs

    def save(self, category: str, graphs: Sequence[LabeledGraph]) -> None:
        """Make these the only graphs on disk; errors of the disk or the store are reported and leave graphs unsaved."""
        before = self._saved.get(category, {})
        if _grew_little(list(before), [graph for _, graph in graphs]):
            return
        try:
            self._replace(category, {graph: before.get(graph) or self.write(labels, graph) for labels, graph in graphs})
        except OSError as error:
            self._observer(GraphFileFailed(category, error))

    def _replace(self, category: str, saved: dict[HnswGraph, SegmentFile]) -> None:
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

    def write(self, labels: Slots, graph: HnswGraph) -> SegmentFile:
        """Write a graph to a new file, which is whole and flushed on return, and gone after an error.

        Raises:
            OSError: The disk is full or fails.
        """
        name = f"{uuid.uuid4().hex}.npz"
        part = self._folder / f"{name}.part"
        try:
            with part.open("w+b") as file:
                encode(file, labels, graph)
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

    def _read(self, file: SegmentFile) -> LabeledGraph:
        with (self._folder / file.name).open("rb") as opened:
            size = os.fstat(opened.fileno()).st_size
            if size != file.size:
                raise ValueError(f"its size is {size} bytes, not {file.size}")
            data = opened.read()
        # Before it is decoded, because hnswlib crashes on a damaged graph.
        if hashlib.sha256(data).hexdigest() != file.sha256:
            raise ValueError("it is damaged: its sha256 differs")
        return _decode(io.BytesIO(data), self._settings)


def _grew_little(before: Sequence[HnswGraph], after: Sequence[HnswGraph]) -> bool:
    """Whether only the last graph grew, and so little that a restart adds the rows faster than a file is written."""
    if not before or len(before) != len(after) or list(before[:-1]) != list(after[:-1]):
        return False
    return before[-1].origin is after[-1].origin and len(after[-1]) <= _MIN_GROWTH * len(before[-1])


def encode(file: IO[bytes], labels: Slots, graph: HnswGraph) -> None:
    """Write the labels of a graph's rows (int64 [n]) and the graph as `.npz`."""
    arrays: dict[str, Any] = {_FORMAT: np.asarray(FORMAT), _LABELS: labels, **graph.arrays()}
    np.savez(file, **arrays)


def _decode(file: IO[bytes], settings: PartitionSettings) -> LabeledGraph:
    with np.load(file, allow_pickle=False) as arrays:
        values = dict(arrays)
    if values.pop(_FORMAT) != FORMAT:
        raise ValueError("its format version is unknown")
    labels = values.pop(_LABELS)
    return labels, HnswGraph.from_arrays(values, settings.dim, settings.metric, settings.hnsw)


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
