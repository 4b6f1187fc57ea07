"""Graphs on disk, so that a restart need not build them (see `trusted_files.py`).

A file is a line of JSON, which says what graph it is, some NumPy arrays about its nodes and rows, and what the library
writes. No vector of it reaches a result: distances are measured with the store's vectors.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Sequence
from typing import IO

import numpy as np

from lookalike_server.domain.catalog import SegmentFile
from lookalike_server.domain.events import GraphFileFailed, GraphFileUnusable, Observer
from lookalike_server.index.graph import graph_class
from lookalike_server.index.nodes import NodeRows
from lookalike_server.index.row_storage import Slots
from lookalike_server.index.segment import PartitionSettings, Segment
from lookalike_server.index.trusted_files import GRAPH, TrustedFiles

FORMAT = 2

SavedSegment = tuple[Slots, Segment]
"""The labels of a segment's rows, int64 [rows], and the segment; as it is read, its rows are positions in these."""

_MIN_GROWTH = 9 / 8  # of a graph that is worth another file


class GraphFiles:
    """The files of all categories. Only one thread at a time may load or save those of one category."""

    def __init__(self, files: TrustedFiles, settings: PartitionSettings, observer: Observer) -> None:
        """Use those of these files that are graphs."""
        self._files = files
        self._settings = settings
        self._observer = observer
        self._saved: dict[str, dict[Segment, SegmentFile]] = {}

    def load(self, category: str) -> list[SavedSegment]:
        """Read the usable segments of a category, oldest first, and drop the files of the others."""
        segments: list[SavedSegment] = []
        saved: dict[Segment, SegmentFile] = {}
        for file in self._files.of(category, GRAPH):
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
        self._saved[category] = saved
        self._files.replace(category, GRAPH, list(saved.values()))

    def write(self, labels: Slots, segment: Segment) -> SegmentFile:
        """Write a segment to a new file, which is whole and flushed on return, and gone after an error.

        Raises:
            OSError: The disk is full or fails.
        """
        return self._files.write(GRAPH, lambda file: encode(file, labels, segment, self._settings))

    def _read(self, file: SegmentFile) -> SavedSegment:
        with (self._files.folder / file.name).open("rb") as opened:
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
