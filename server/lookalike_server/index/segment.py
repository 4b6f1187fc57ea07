"""Rows of a partition that change no more but die, and the graph over them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from lookalike_server.domain.inference import Metric
from lookalike_server.index.brute_force import View
from lookalike_server.index.hnsw import HnswGraph, HnswSettings
from lookalike_server.index.projection import Projection

_DENSER = 4096  # rows
_SLACK = 2  # times as many candidates are asked of a graph as should do where rows are spread evenly


@dataclass(frozen=True, slots=True)
class PartitionSettings:
    """When a category is searched how.

    Attributes:
        dim: Numbers in a vector.
        metric: How distance is measured.
        full_scan_threshold: Rows up to which every one is compared; beyond, a graph is built over them, and then a quarter as
            many may wait to join it.
        hnsw: How graphs are built.
        max_segment_rows: The most rows under one graph.
    """

    dim: int
    metric: Metric
    full_scan_threshold: int
    hnsw: HnswSettings
    max_segment_rows: int = 16_384

    def wants_graph(self, rows: int, segments: Sequence[Segment]) -> bool:
        """Whether of so many rows too many are in none of the segments."""
        limit = self.full_scan_threshold // 4 if segments else self.full_scan_threshold
        return rows - end_of(segments) > limit


@dataclass(frozen=True, slots=True, eq=False)
class Segment:
    """The slots from `begin` to before `end`, and their graph, by offsets from `begin` (None: all were dead)."""

    graph: HnswGraph | None
    begin: int
    end: int

    def wanted(self, view: View, rows: int) -> int:
        """How many rows its graph should be asked for, so that the `rows` nearest live ones are among them."""
        if self.graph is None:
            return 0
        rows = self.graph.weighed(rows)
        live = int(np.count_nonzero(view.live[self.begin : self.end]))
        hidden = len(self.graph) - live
        if hidden <= 0:
            return rows
        return min(rows + hidden, math.ceil(_SLACK * rows * len(self.graph) / max(1, live)))


def end_of(segments: Sequence[Segment]) -> int:
    """The first slot that is in no segment."""
    return segments[-1].end if segments else 0


def build_segment(
    view: View, begin: int, settings: PartitionSettings, earlier: Projection | None = None
) -> Segment | None:
    """The segment that begins at a slot, with as many rows as there are and a segment may have.

    None where a graph over them does not pay (see `HnswGraph.built`).
    """
    end = min(len(view.live), begin + settings.max_segment_rows)
    offsets = np.flatnonzero(view.live[begin:end])
    graph = None
    if len(offsets):
        graph = HnswGraph.built(view.vectors.part(begin, end), offsets, settings.metric, settings.hnsw, earlier)
        if graph is None:
            return None
    return Segment(graph, begin, end)


def extend_segment(segment: Segment, view: View, settings: PartitionSettings) -> Segment | None:
    """The segment with the rows after it too; there must be room for them.

    It is rebuilt where its projection does not do for them; None as of `sealed`.
    """
    if segment.graph is None:
        return build_segment(view, segment.begin, settings)
    end = len(view.live)
    rows = view.vectors.part(segment.begin, end)
    offsets = np.flatnonzero(view.live[segment.begin : end])
    new = offsets[offsets >= segment.end - segment.begin]
    if not len(new):
        return Segment(segment.graph, segment.begin, end)
    graph = segment.graph.extended(rows, new)
    # The more rows, the closer they are: now and then the projection is tried on all of them.
    denser = len(offsets) // _DENSER > (len(offsets) - len(new)) // _DENSER
    if not (graph.still_keeps(rows, offsets) if denser else graph.finds(rows, offsets, new)):
        return build_segment(view, segment.begin, settings)
    return Segment(graph, segment.begin, end)


def shared_projection(segments: Sequence[Segment]) -> Projection | None:
    """The latest projection that any of them has."""
    return next((each.graph.projection for each in reversed(segments) if each.graph and each.graph.projection), None)
