"""A range of a partition's rows and the graph over them; the rows may be deleted, but not changed."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from lookalike_server.domain.inference import Metric
from lookalike_server.index.brute_force import FlatView
from lookalike_server.index.hnsw import HnswGraph, HnswSettings
from lookalike_server.index.projection import Projection

_RETEST_ROWS = 4096  # of a segment, after which its projection is tested on all of them again
_SLACK = 2  # times the candidates that would suffice if the live rows were spread evenly


@dataclass(frozen=True, slots=True)
class PartitionSettings:
    """How categories are searched.

    Attributes:
        dim: Dimensions of a vector.
        metric: How distance is measured.
        full_scan_threshold: The most rows that are all compared; with more, a graph is built, and then up to a quarter
            as many newer rows may wait to be added to it.
        hnsw: How graphs are built.
        max_segment_rows: The most rows in one graph.
    """

    dim: int
    metric: Metric
    full_scan_threshold: int
    hnsw: HnswSettings
    max_segment_rows: int = 16_384

    def needs_graph(self, rows: int, segments: Sequence[Segment]) -> bool:
        """Return whether too many of the rows are in none of the segments."""
        limit = self.full_scan_threshold // 4 if segments else self.full_scan_threshold
        return rows - end_of(segments) > limit


@dataclass(frozen=True, slots=True, eq=False)
class Segment:
    """The slots from `begin` to before `end`, and a graph over their offsets from `begin` (None: all were deleted)."""

    graph: HnswGraph | None
    begin: int
    end: int

    def candidates_for(self, view: FlatView, rows: int) -> int:
        """Return how many candidates to request from the graph so that the `rows` nearest live ones are among them."""
        if self.graph is None:
            return 0
        rows = self.graph.candidates_for(rows)
        live = int(np.count_nonzero(view.live[self.begin : self.end]))
        hidden = len(self.graph) - live
        if hidden <= 0:
            return rows
        return min(rows + hidden, math.ceil(_SLACK * rows * len(self.graph) / max(1, live)))


def end_of(segments: Sequence[Segment]) -> int:
    """Return the first slot that is in no segment."""
    return segments[-1].end if segments else 0


def build_segment(
    view: FlatView, begin: int, settings: PartitionSettings, earlier: Projection | None = None
) -> Segment | None:
    """Build the segment that begins at a slot, with as many rows as there are and a segment may have.

    Returns None if a graph over them is not worth building (see `HnswGraph.build`).
    """
    end = min(len(view.live), begin + settings.max_segment_rows)
    offsets = np.flatnonzero(view.live[begin:end])
    graph = None
    if len(offsets):
        graph = HnswGraph.build(view.vectors.part(begin, end), offsets, settings.metric, settings.hnsw, earlier)
        if graph is None:
            return None
    return Segment(graph, begin, end)


def extend_segment(segment: Segment, view: FlatView, settings: PartitionSettings) -> Segment | None:
    """Extend a segment by the rows after it, which must fit into it.

    It is rebuilt if its projection does not preserve their neighbors; None as in `build_segment`.
    """
    if segment.graph is None:
        return build_segment(view, segment.begin, settings)
    end = len(view.live)
    rows = view.vectors.part(segment.begin, end)
    offsets = np.flatnonzero(view.live[segment.begin : end])
    new = offsets[offsets >= segment.end - segment.begin]
    if not len(new):
        return Segment(segment.graph, segment.begin, end)
    graph = segment.graph.extend(rows, new)
    # With more rows, neighbors are closer to each other, so the projection is tested on all rows from time to time.
    retest = len(offsets) // _RETEST_ROWS > (len(offsets) - len(new)) // _RETEST_ROWS
    if not (graph.projection_suffices(rows, offsets) if retest else graph.finds_neighbors(rows, offsets, new)):
        return build_segment(view, segment.begin, settings)
    return Segment(graph, segment.begin, end)


def shared_projection(segments: Sequence[Segment]) -> Projection | None:
    """Return the latest projection of any segment."""
    return next((each.graph.projection for each in reversed(segments) if each.graph and each.graph.projection), None)
