"""Graphs on disk, so that a start builds none again. A cache: what is missing, damaged or strange is rebuilt.

A file appears whole or not at all: written under a temporary name, flushed, renamed, its folder flushed; and it counts
only once the store's manifest, in the catalog's own transaction, vouches for its size and sha256. What the manifest
does not name is swept away at the next start. A file is a NumPy `.npz`: the labels of the rows by offset, and the graph
as `HnswGraph.arrays` gives it. It holds no vector that is ever shown: distances are measured on the store's.
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
from lookalike_server.domain.protocols import Manifest
from lookalike_server.index.hnsw import HnswGraph
from lookalike_server.index.partition import KeptGraph
from lookalike_server.index.row_storage import Slots
from lookalike_server.index.segment import PartitionSettings

FORMAT = 1

_GROWTH = 9 / 8  # of a graph that is not worth another file
_FORMAT = "format"
_LABELS = "labels"


class GraphFiles:
    """The files of all categories. Of one category only one thread at a time loads or keeps."""

    def __init__(self, folder: Path, manifest: Manifest, settings: PartitionSettings, observer: Observer) -> None:
        """Use a folder, made when missing, and sweep away what the manifest does not name."""
        self._folder = folder
        self._manifest = manifest
        self._settings = settings
        self._observer = observer
        self._named = dict(manifest.segments())
        self._kept: dict[str, dict[HnswGraph, SegmentFile]] = {}
        names = {file.name for files in self._named.values() for file in files}
        try:
            folder.mkdir(exist_ok=True)
            found = list(folder.iterdir())
        except OSError as error:
            observer(GraphFileFailed(folder.name, error))
            found = []
        for path in found:
            # Folders are not ours: at the top of a file system there is a lost+found.
            if path.name not in names and not path.is_dir():
                try:
                    path.unlink()
                except OSError as error:
                    observer(GraphFileFailed(path.name, error))

    def named(self) -> set[str]:
        """The categories that have files."""
        return {category for category, files in list(self._named.items()) if files}

    def load(self, category: str) -> list[KeptGraph]:
        """Read the graphs of a category that are good, oldest first, and give up the files of the others."""
        graphs: list[KeptGraph] = []
        kept: dict[HnswGraph, SegmentFile] = {}
        for file in self._named.get(category, ()):
            try:
                labels, graph = self._read(file)
            except (OSError, ValueError) as error:
                self._observer(GraphFileUnusable(category, file.name, str(error)))
            else:
                graphs.append((labels, graph))
                kept[graph] = file
        self._replace(category, kept)
        return graphs

    def keep(self, category: str, graphs: Sequence[KeptGraph]) -> None:
        """Have files for these graphs and no others; where the disk or the store rejects, they are only not kept."""
        before = self._kept.get(category, {})
        if _nearly(list(before), [graph for _, graph in graphs]):
            return
        try:
            self._replace(
                category, {graph: before.get(graph) or self._write(labels, graph) for labels, graph in graphs}
            )
        except OSError as error:
            self._observer(GraphFileFailed(category, error))

    def _replace(self, category: str, kept: dict[HnswGraph, SegmentFile]) -> None:
        """Put the files into the manifest, and only then remove those that are no longer in it."""
        self._kept[category] = kept
        before, after = self._named.get(category, []), list(kept.values())
        if before == after:
            return
        try:
            self._manifest.keep_segments(category, after).result()
            self._named[category] = after
            for file in set(before) - set(after):
                (self._folder / file.name).unlink(missing_ok=True)
        except Exception as error:  # noqa: BLE001 - whatever rejects, a cache is no reason to stop
            self._observer(GraphFileFailed(category, error))

    def _write(self, labels: Slots, graph: HnswGraph) -> SegmentFile:
        name = f"{uuid.uuid4().hex}.npz"
        part = self._folder / f"{name}.part"
        try:
            with part.open("w+b") as file:
                _encode(file, labels, graph)
                file.flush()
                os.fsync(file.fileno())
                # Read back, for what is vouched for is what the disk has.
                size = file.tell()
                file.seek(0)
                sha256 = hashlib.file_digest(file, "sha256").hexdigest()
            part.rename(self._folder / name)
            _sync(self._folder)
        except OSError:
            for path in (part, self._folder / name):  # under its name, where only the folder could not be flushed
                path.unlink(missing_ok=True)
            raise
        return SegmentFile(name, size, sha256)

    def _read(self, file: SegmentFile) -> KeptGraph:
        with (self._folder / file.name).open("rb") as opened:
            size = os.fstat(opened.fileno()).st_size
            if size != file.size:
                raise ValueError(f"it has {size} bytes, not {file.size}")
            data = opened.read()
        # Before anything is made of it: hnswlib dies of a damaged graph.
        if hashlib.sha256(data).hexdigest() != file.sha256:
            raise ValueError("its sha256 is another: it is damaged")
        return _decoded(io.BytesIO(data), self._settings)


def _nearly(before: Sequence[HnswGraph], after: Sequence[HnswGraph]) -> bool:
    """Whether only the last graph grew, and by little: a start has the rest join it sooner than it is written."""
    if not before or len(before) != len(after) or list(before[:-1]) != list(after[:-1]):
        return False
    return before[-1].origin is after[-1].origin and len(after[-1]) <= _GROWTH * len(before[-1])


def _encode(file: IO[bytes], labels: Slots, graph: HnswGraph) -> None:
    arrays: dict[str, Any] = {_FORMAT: np.asarray(FORMAT), _LABELS: labels, **graph.arrays()}
    np.savez(file, **arrays)


def _decoded(file: IO[bytes], settings: PartitionSettings) -> KeptGraph:
    with np.load(file, allow_pickle=False) as arrays:
        found = dict(arrays)
    if found.pop(_FORMAT) != FORMAT:
        raise ValueError("it is of another version")
    labels = found.pop(_LABELS)
    return labels, HnswGraph.from_arrays(found, settings.dim, settings.metric, settings.hnsw)


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
