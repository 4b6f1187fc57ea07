"""A graph over some of a partition's rows, and how rows are added to it and looked up in it."""

from __future__ import annotations

import math
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from lookalike_server.domain.inference import Floats, Metric
from lookalike_server.index.device import SearchDevice
from lookalike_server.index.graph import Graph, HnswSettings, graph_class
from lookalike_server.index.nodes import NodeRows
from lookalike_server.index.pacing import Pacing
from lookalike_server.index.row_blocks import ANONYMOUS, MIN_FILE_BYTES, RowBlocks
from lookalike_server.index.row_storage import Rows, Slots, rows_in

_SEGMENT_BYTES = 1 << 30  # of the vectors of a graph, which is copied whenever it grows
_STEP_BYTES = 8 << 20  # of the vectors added to a graph before searches use it: the copy is small beside their cost
_MIN_WAITING_ROWS = 64  # where vectors are so long that fewer take half a millisecond
_MIN_STEP_ROWS = 256  # of such a step, where vectors are long
_LOOKED_UP_AT_ONCE = 1024  # nodes; new rows are added to the graph before more are looked up
_LOOKED_UP_BESIDE_SEARCHES = 128  # which takes the thread about as long, with its rests


@dataclass(frozen=True, slots=True)
class PartitionSettings:
    """How categories are searched.

    Attributes:
        dim: Dimensions of a vector.
        metric: How distance is measured.
        full_scan_threshold: The most rows that are all compared; with more, a graph is built.
        hnsw: How graphs are built and searched.
        max_segment_rows: The most nodes in one graph; see `segment_rows`.
        max_waiting_rows: As many rows as are compared in half a millisecond; see `waiting_rows`.
        max_shard_rows: The most rows of small categories in one matrix, fewer if they have more than 64 MiB.
        catch_up_seconds: How long without a change until the next search has all that wait added to a graph.
        memory: Where rows are.
        min_row_file_bytes: The least bytes of vectors that are worth a file for the next start.
        device: What searches large categories in the place of graphs; needs the metric cosine.
    """

    dim: int
    metric: Metric
    full_scan_threshold: int
    hnsw: HnswSettings
    max_segment_rows: int = 65_536
    max_waiting_rows: int = 512
    max_shard_rows: int = 65_536
    catch_up_seconds: float = math.inf
    memory: RowBlocks = ANONYMOUS
    min_row_file_bytes: int = MIN_FILE_BYTES
    device: SearchDevice | None = None

    @property
    def segment_rows(self) -> int:
        """The most nodes in one graph, with vectors of this length."""
        return min(self.max_segment_rows, max(_MIN_STEP_ROWS, rows_in(_SEGMENT_BYTES, self.dim)))

    @property
    def step_rows(self) -> int:
        """The most rows added to a graph before searches use it."""
        return max(_MIN_STEP_ROWS, rows_in(_STEP_BYTES, self.dim))

    @property
    def waiting_rows(self) -> int:
        """How many rows may wait to be added to a graph, while there is one."""
        return min(self.full_scan_threshold // 4, max(_MIN_WAITING_ROWS, self.max_waiting_rows))

    def needs_graph(self, waiting: int, *, has_graph: bool) -> bool:
        """Return whether so many rows in no graph are too many."""
        return waiting > (self.waiting_rows if has_graph else self.full_scan_threshold)


@dataclass(frozen=True, slots=True, eq=False)
class Segment:
    """A graph, the rows of its nodes, and what looking them up has shown.

    Attributes:
        graph: The graph.
        rows: The rows of each node.
        lost: bool [nodes], which nodes a search by their own vector does not find, so that their rows are compared.
        looked_up: int64 [nodes], how many nodes the graph had when each was looked up; 0 before.
        origin: Identifies a graph and all that it was extended to.
        is_unproven: Whether nodes are to be looked up.
    """

    graph: Graph
    rows: NodeRows
    lost: npt.NDArray[np.bool_]
    looked_up: npt.NDArray[np.int64]
    origin: object
    is_unproven: bool

    @classmethod
    def of(cls, graph: Graph, rows: NodeRows, lost: npt.NDArray[np.bool_]) -> Segment:
        """Return a segment whose nodes were looked up, those of them `lost` (bool [nodes]) without being found."""
        return cls(graph, rows, lost, np.full(len(lost), len(lost)), object(), is_unproven=False)

    def gone(self, live: npt.NDArray[np.bool_]) -> float:
        """Return which share of the nodes has no live row (bool [n], by slot), 0 to 1."""
        gone = np.ones(len(self.rows), dtype=np.bool_)
        gone[self.rows.nodes[live[self.rows.slots]]] = False
        return float(np.count_nonzero(gone)) / len(gone)

    @property
    def to_look_up(self) -> Slots:
        """The nodes to look up, int64: first those that never were, then those before the graph last grew."""
        behind = np.flatnonzero(self.looked_up < len(self.looked_up))
        return behind[np.argsort(self.looked_up[behind], kind="stable")]


def grown(segment: Segment | None, vectors: Rows, new: Slots, settings: PartitionSettings, pacing: Pacing) -> Segment:
    """Return a segment with these rows as well; without one, a new one.

    Args:
        segment: It is not changed: searches may use it.
        vectors: float32 [n, dim], all rows; of length 1 where the metric is cosine.
        new: int64 [m], those to add.
        settings: How the category is searched.
        pacing: Says when to work.

    Raises:
        MaintenanceStopped: The index is closing.
    """
    rows, distinct = (segment.rows if segment else NodeRows.none()).with_rows(vectors, new)
    if segment is not None and not len(distinct):
        return replace(segment, rows=rows)
    if segment is not None:
        graph, lost, done, origin = segment.graph.copy(len(rows)), segment.lost, segment.looked_up, segment.origin
    else:
        graph = graph_class(settings.hnsw).create(settings.dim, settings.metric, settings.hnsw, len(rows))
        lost, done, origin = np.empty(0, np.bool_), np.empty(0, np.int64), object()
    for threads, piece in _pieces(distinct, settings.dim, pacing):
        graph.add(vectors[piece], threads)
    added = len(distinct)
    lost, done = np.append(lost, np.zeros(added, np.bool_)), np.append(done, np.zeros(added, np.int64))
    return Segment(graph, rows, lost, done, origin, is_unproven=True)


def looked_up(segment: Segment, vectors: Rows, pacing: Pacing) -> Segment:
    """Look up some of the nodes that are due by their own vectors, as a search would.

    Every growth makes all nodes due, so beside upserts there are always some: they must not take a core from searches.

    Args:
        segment: It is not changed.
        vectors: float32 [n, dim], all rows.
        pacing: Says when to work.

    Raises:
        MaintenanceStopped: The index is closing.
    """
    due = segment.to_look_up[: _LOOKED_UP_BESIDE_SEARCHES if pacing.is_searched else _LOOKED_UP_AT_ONCE]
    lost, done = segment.lost.copy(), segment.looked_up.copy()
    done[due] = len(done)
    due = due[np.diff(segment.rows.starts)[due] > 0]  # a node without rows is never an answer
    for _, piece in _pieces(due, vectors.shape[1], pacing):
        began = time.monotonic()
        own = vectors[segment.rows.slots[segment.rows.starts[piece]]]
        found = nearest_nodes(segment.graph, own, 1)
        lost[piece] = [node not in nodes for node, nodes in zip(piece.tolist(), found, strict=True)]
        pacing.rest(time.monotonic() - began)
    return replace(segment, lost=lost, looked_up=done, is_unproven=bool((done < len(done)).any()))


def nearest_nodes(graph: Graph, queries: Floats, count: int) -> list[Slots]:
    """For each query, find the nodes that can be among its `count` nearest, by the precision of the graph.

    Args:
        graph: The graph.
        queries: float32 [m, dim].
        count: How many to find; those that the graph cannot tell from the last come on top.
    """
    return [_near(*found, count, graph) for found in zip(*graph.nearest(queries, count), strict=True)]


def _near(nodes: Slots, distances: Floats, count: int, graph: Graph) -> Slots:
    """Of the nodes that a graph found, nearest first, return the `count` first and those about as near as the last.

    Where it found fewer than it was asked for, -1 stands for the others.
    """
    if len(nodes) and nodes[-1] < 0:
        nodes, distances = nodes[nodes >= 0], distances[nodes >= 0]
    if len(nodes) <= count:
        return nodes
    last = float(distances[count - 1])
    return nodes[: np.searchsorted(distances, last + graph.margin(last), "right")]


def _pieces(slots: Slots, dim: int, pacing: Pacing) -> Iterable[tuple[int, Slots]]:
    """Yield the rows, or nodes, in pieces, each when it may be worked on, and with how many threads."""
    begin = 0
    while begin < len(slots):
        size, threads = pacing.next_piece()
        piece = slots[begin : begin + max(threads, rows_in(size, dim))]
        yield threads, piece
        begin += len(piece)


def slots_of(segments: Sequence[Segment]) -> Slots:
    """Return all rows of some segments, int64."""
    return np.concatenate([np.empty(0, dtype=np.int64), *(each.rows.slots for each in segments)])


def lost_slots_of(segments: Sequence[Segment]) -> Slots:
    """Return the rows of some segments that their graphs do not find, int64."""
    lost = (each.rows.slots[each.lost[each.rows.nodes]] for each in segments)
    return np.concatenate([np.empty(0, dtype=np.int64), *lost])
