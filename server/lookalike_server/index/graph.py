"""What the index needs of a library of HNSW graphs; each library is imported in one file, `NAME_graph.py`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from importlib import import_module
from typing import IO, Protocol, Self

from lookalike_server.domain.inference import Floats, Metric
from lookalike_server.index.row_storage import Slots

LIBRARIES: Mapping[str, str] = {
    "faiss": "lookalike_server.index.faiss_graph.FaissGraph",
    "hnswlib": "lookalike_server.index.hnswlib_graph.HnswlibGraph",
}
"""The class of each library's graphs, by the value of the setting `graph_library`."""


@dataclass(frozen=True, slots=True)
class HnswSettings:
    """How graphs are built and searched.

    Attributes:
        m: Links of a node (M).
        ef_construction: Candidates considered while a node is linked.
        ef_search: Candidates considered by a query, and returned by it; more for queries that need more.
        library: The library that builds and searches them, a key of `LIBRARIES`.
    """

    m: int = 16
    ef_construction: int = 100
    ef_search: int = 56
    library: str = "faiss"


class Graph(Protocol):
    """A graph over vectors, called nodes, which are numbered from 0 as they are added.

    Searches may run at once with each other. One that may be searched is never added to: only a copy of it.
    """

    @classmethod
    def create(cls, dim: int, metric: Metric, settings: HnswSettings, capacity: int) -> Self:
        """Return an empty graph over vectors of `dim` dimensions, of length 1 where the metric is cosine."""

    @classmethod
    def read(cls, file: IO[bytes], dim: int, metric: Metric, settings: HnswSettings) -> Self:
        """Read what `write` wrote, which must be undamaged.

        Raises:
            ValueError: It is over vectors of another length or kind.
        """

    def write(self, file: IO[bytes]) -> None:
        """Write the whole graph.

        Raises:
            OSError: The disk is full or fails.
        """

    def __len__(self) -> int:
        """Return the number of nodes."""

    def copy(self, capacity: int) -> Self:
        """Return a graph of its own with the same nodes, with room for `capacity` in all."""

    def add(self, vectors: Floats, threads: int) -> None:
        """Add a node for each of the vectors, float32 [n, dim]."""

    def nearest(self, queries: Floats, count: int) -> tuple[Slots, Floats]:
        """Find about the `count` nodes nearest to each of the queries (float32 [m, dim]), and a few more.

        Returns:
            Nodes, int64 [m, n], -1 where fewer are found, and their approximate distances, float32 [m, n].
        """

    def margin(self, distance: float) -> float:
        """Return by how much two approximate distances of about this size may be in the wrong order."""


def graph_class(settings: HnswSettings) -> type[Graph]:
    """Return the class of the library's graphs, which is imported now.

    Raises:
        ImportError: The library is not installed.
    """
    module, name = LIBRARIES[settings.library].rsplit(".", 1)
    found: type[Graph] = getattr(import_module(module), name)
    return found
