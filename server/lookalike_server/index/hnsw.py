"""A sealed HNSW graph over slots of a partition; the only place that imports `hnswlib`.

Sealed: built once, then only queried, because hnswlib's queries are safe beside each other but not beside adds,
resizes or saves. Its own deletion is not used: it loses rows when labels return.
"""

from __future__ import annotations

from dataclasses import dataclass

import hnswlib
import numpy as np

from lookalike_server.domain import Floats, Metric
from lookalike_server.index.flat import Slots


@dataclass(frozen=True, slots=True)
class HnswSettings:
    """How graphs are built and searched.

    Attributes:
        m: Links a node keeps (hnswlib's M).
        ef_construction: Candidates weighed while a node is linked.
        ef_search: Candidates weighed by a query; raised to the number of rows wanted where that is larger.
    """

    m: int = 16
    ef_construction: int = 200
    ef_search: int = 100


class HnswGraph:
    """Approximate nearest slots among those it was built from."""

    def __init__(self, vectors: Floats, slots: Slots, metric: Metric, settings: HnswSettings) -> None:
        """Build the graph.

        Args:
            vectors: float32 [n, dim], n >= 1; of length 1 where the metric is cosine.
            slots: int64 [n], the slot of each.
            metric: How distance is measured.
            settings: How to build and search it.
        """
        # 'ip' on vectors of length 1 is cosine without hnswlib normalising each of them again.
        space = "ip" if metric is Metric.COSINE else "l2"
        self._index = hnswlib.Index(space=space, dim=vectors.shape[1])
        self._index.init_index(max_elements=len(slots), M=settings.m, ef_construction=settings.ef_construction)
        self._index.set_ef(settings.ef_search)
        # One thread: searches and the model share the cores with this.
        self._index.add_items(vectors, slots, num_threads=1)
        self._size = len(slots)

    def nearest(self, vectors: Floats, rows: int) -> Slots:
        """Find about the `rows` nearest slots to each of the vectors (float32 [m, dim]): int64 [m, rows or all].

        Raises:
            RuntimeError: The graph reaches fewer rows than were asked for.
        """
        labels, _ = self._index.knn_query(vectors, k=min(rows, self._size), num_threads=1)
        slots: Slots = labels.astype(np.int64)
        return slots
