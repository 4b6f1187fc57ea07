"""One node for all rows with the same embedding: a graph over hundreds of equal vectors loses others beside them.

HNSW links a node to its nearest ones, so equal vectors fill each other's links and a search that ends among them never
leaves. Rows are the same where all bytes of their vectors are.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import xxhash

from lookalike_server.index.row_storage import Rows, Slots, copies

Prints = npt.NDArray[np.uint64]


@dataclass(frozen=True, slots=True, eq=False)
class NodeRows:
    """Which rows each node of a graph stands for; none where all were deleted.

    Attributes:
        slots: int64 [rows], the rows in the order of their nodes.
        nodes: int64 [rows], the node of each, ascending.
        starts: int64 [nodes + 1], where the rows of each node begin.
        prints: uint64 [nodes], a hash of each node's vector.
        empty: How many nodes have no row.
    """

    slots: Slots
    nodes: Slots
    starts: Slots
    prints: Prints
    empty: int

    @classmethod
    def of(cls, slots: Slots, nodes: Slots, prints: Prints) -> NodeRows:
        """Arrange rows, int64 [rows], by their nodes, int64 [rows] in any order."""
        order = np.argsort(nodes, kind="stable")
        nodes = nodes[order]
        starts = np.searchsorted(nodes, np.arange(len(prints) + 1))
        return cls(slots[order], nodes, starts, prints, int(np.count_nonzero(np.diff(starts) == 0)))

    @classmethod
    def none(cls) -> NodeRows:
        """Return the rows of a graph without nodes."""
        return cls.of(np.empty(0, np.int64), np.empty(0, np.int64), np.empty(0, np.uint64))

    def __len__(self) -> int:
        """Return the number of nodes."""
        return len(self.prints)

    def of_nodes(self, nodes: Slots) -> tuple[Slots, Slots]:
        """Return the rows of these nodes, and for each row the position in `nodes` of its node: int64 [n] both."""
        if not self.empty and len(self.slots) == len(self):  # one row each
            return self.slots[nodes], np.arange(len(nodes))
        begins, counts = self.starts[nodes], self.starts[nodes + 1] - self.starts[nodes]
        positions = np.repeat(np.arange(len(nodes)), counts)
        within = np.arange(len(positions)) - np.repeat(np.cumsum(counts) - counts, counts)
        return self.slots[begins[positions] + within], positions

    def moved(self, to: Slots) -> NodeRows:
        """Return the rows after each slot became `to[slot]`, -1 where it is gone."""
        slots = to[self.slots]
        kept = slots >= 0
        return self.of(slots[kept], self.nodes[kept], self.prints)

    def with_rows(self, vectors: Rows, new: Slots) -> tuple[NodeRows, Slots]:
        """Add rows: to the node of their vector, or to a node of their own.

        Args:
            vectors: float32 [n, dim], all rows.
            new: int64 [m], those to add.

        Returns:
            All rows, and those whose vectors the new nodes are, in the order of these.
        """
        prints = fingerprints(vectors, new)
        # Of each vector the first row, if a node has none: the nodes' come before the new ones.
        with_row = np.flatnonzero(np.diff(self.starts))
        known = np.concatenate([self.prints[with_row], prints])
        rows = np.concatenate([self.slots[self.starts[:-1][with_row]], new])
        _, first, inverse = np.unique(known, return_index=True, return_inverse=True)
        first = first[inverse]
        alone = first == np.arange(len(known))
        same = np.flatnonzero(~alone[len(with_row) :]) + len(with_row)
        differ = same[~_equal(vectors, rows[same], rows[first[same]])]  # whose hashes are the same by chance
        alone[differ], first[differ] = True, differ
        nodes = np.empty(len(known), dtype=np.int64)
        nodes[: len(with_row)] = with_row
        is_new = np.flatnonzero(alone[len(with_row) :])
        nodes[len(with_row) + is_new] = len(self) + np.arange(len(is_new))
        after = self.of(
            np.concatenate([self.slots, new]),
            np.concatenate([self.nodes, nodes[first][len(with_row) :]]),
            np.concatenate([self.prints, prints[is_new]]),
        )
        return after, new[is_new]


def fingerprints(vectors: Rows, slots: Slots) -> Prints:
    """Return a hash of each of these rows (int64 [m]): uint64 [m]."""
    hashes = (xxhash.xxh3_64_intdigest(row) for rows in copies(vectors, slots) for row in rows)
    return np.fromiter(hashes, dtype=np.uint64, count=len(slots))


def _equal(vectors: Rows, some: Slots, others: Slots) -> npt.NDArray[np.bool_]:
    if not len(some):
        return np.empty(0, dtype=np.bool_)
    pairs = zip(copies(vectors, some), copies(vectors, others), strict=True)
    return np.concatenate([(one == other).all(axis=1) for one, other in pairs])
