"""From which size on a graph is faster than comparing all rows, and what M, ef and max_segment_rows cost and bring.

Vectors are of few, the usual and very many dimensions; M and ef are varied with the usual ones alone. Two servers are
up at once, one that compares all rows and one with graphs, and are searched in turns. Every size is a category of the
same catalog.
"""

from __future__ import annotations

import statistics
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

import numpy as np

from benchmarks.catalog import client, loads
from benchmarks.catalog.bench import CatalogBench
from benchmarks.catalog.our_server import Served, rest, served
from benchmarks.catalog.vectors import VectorSet, draw_clustered, recall
from benchmarks.null_model import write_null_model
from benchmarks.rounds import Spread

MS = (8, 16, 32)
EFS = (32, 48, 64, 128)
USUAL_M, USUAL_EF = 16, 48
_QUERIES = 200
_ROUNDS = 3

Serve = Callable[[str, Sequence[str]], AbstractContextManager[Served]]
"""Runs a server of this name, with these flags."""


@dataclass(frozen=True, slots=True)
class Point:
    """One size under one setting.

    Attributes:
        dim: Dimensions of a vector.
        rows: Rows of the category.
        m: The graph's M.
        ef: Candidates weighed by a search.
        max_segment_rows: The most rows under one graph.
        flat_ms: p50 of the RPC where all rows are compared.
        graph_ms: p50 of the RPC by graph; None where the server answered without one.
        ratio: graph_ms over flat_ms, of adjacent turns.
        recall: recall@10 by graph.
    """

    dim: int
    rows: int
    m: int
    ef: int
    max_segment_rows: int
    flat_ms: Spread
    graph_ms: Spread | None
    ratio: Spread | None
    recall: float


def pays_from(points: Sequence[Point]) -> dict[int, int | None]:
    """Return, by dimensions, from how many rows on a graph at the usual settings was faster at every size measured.

    None: at no size, or not at the largest.
    """
    found: dict[int, int | None] = {}
    largest = max((point.max_segment_rows for point in points), default=0)
    usual = [point for point in points if (point.m, point.ef, point.max_segment_rows) == (USUAL_M, USUAL_EF, largest)]
    for point in sorted(usual, key=lambda point: point.rows, reverse=True):
        faster = point.ratio is not None and point.ratio.median < 1
        if point.dim not in found:
            found[point.dim] = point.rows if faster else None
        elif faster and found[point.dim] == _larger(usual, point):
            found[point.dim] = point.rows
    return dict(sorted(found.items()))


def _larger(points: Sequence[Point], than: Point) -> int:
    """Return the next larger size of the same dimensions."""
    return min(point.rows for point in points if point.dim == than.dim and point.rows > than.rows)


@dataclass(slots=True)
class Crossover:
    """One run; what it has found so far can be read at any time."""

    bench: CatalogBench
    points: list[Point] = field(default_factory=list)

    def measure(self) -> None:
        """Measure the usual settings with vectors of each length, and all others with the usual length."""
        for dim in self.bench.sizes.crossover_dims:
            with self.bench.or_skip(f"crossover, {dim} dimensions"):
                self._measure(dim)

    def _measure(self, dim: int) -> None:
        """Measure all of M x ef with the largest segments, and smaller segments at the usual M and ef."""
        bench, sizes = self.bench, self.bench.sizes
        largest = max(sizes.crossover_segments)
        usual = dim == sizes.dim
        with tempfile.TemporaryDirectory(dir=bench.scratch) as created:
            folder = Path(created)
            model = folder / "model"
            write_null_model(model, dim, "cosine")
            allowed = [rows for rows in sizes.crossover_rows if 4 * dim * rows <= sizes.crossover_bytes]
            vector_sets = [self._draw(folder, rows, dim) for rows in allowed]
            serve = partial(self._served, model, folder, vector_sets)
            with serve("flat", ("--full-scan-threshold", str(10**9))) as flat:
                for m in MS if usual else (USUAL_M,):
                    for ef in EFS if usual else (USUAL_EF,):
                        self._pair(flat, serve, vector_sets, m, ef, largest)
                for max_segment_rows in sizes.crossover_segments if usual else ():
                    several = [vectors for vectors in vector_sets if vectors.rows > max_segment_rows]
                    if several and max_segment_rows != largest:
                        self._pair(flat, serve, several, USUAL_M, USUAL_EF, max_segment_rows)

    def _draw(self, parent: Path, rows: int, dim: int) -> VectorSet:
        folder = parent / f"crossover-{rows}"
        folder.mkdir()
        drawn = draw_clustered(folder, 1, rows, min(_QUERIES, self.bench.sizes.queries), dim, spares=1)
        return replace(drawn, label=f"r{rows}-")

    def _pair(
        self, flat: Served, serve: Serve, vector_sets: list[VectorSet], m: int, ef: int, max_segment_rows: int
    ) -> None:
        bench = self.bench
        dim = vector_sets[0].dim
        bench.log(f"crossover: {dim} dimensions, M {m}, ef {ef}, max_segment_rows {max_segment_rows}")
        # the graphs of one M are built once where the server keeps them, and again for each ef where it does not
        flags = ["--full-scan-threshold", "1", "--hnsw-m", str(m), "--hnsw-ef-search", str(ef)]
        with bench.or_skip(f"crossover, {dim} dimensions, M {m} ef {ef} max_segment_rows {max_segment_rows}"):
            name = f"graph-{m}-{max_segment_rows}"
            with serve(name, [*flags, "--max-segment-rows", str(max_segment_rows)]) as graph:
                for vectors in vector_sets:
                    self.points.append(self._point(flat, graph, vectors, m, ef, max_segment_rows))

    def _point(self, flat: Served, graph: Served, vectors: VectorSet, m: int, ef: int, max_segment_rows: int) -> Point:
        bench = self.bench
        seconds = bench.sizes.seconds / 2

        def turn(server: Served) -> float:
            outcome = bench.load.run(loads.searches(server.address, vectors, 1), seconds, concurrency=1)
            return 1e3 * float(np.median(outcome.check(all_answered=True).latency))

        rows, exact = client.search_all(graph.address, vectors, 1)
        found = statistics.fmean(recall(vectors, rows))
        turns = [(turn(flat), turn(graph)) for _ in range(min(_ROUNDS, bench.sizes.rounds))]
        flat_ms = Spread.of([each for each, _ in turns])
        by_graph = not any(exact)
        return Point(
            vectors.dim,
            vectors.rows,
            m,
            ef,
            max_segment_rows,
            flat_ms,
            Spread.of([each for _, each in turns]) if by_graph else None,
            Spread.of([b / a for a, b in turns]) if by_graph else None,
            found,
        )

    @contextmanager
    def _served(
        self, model: Path, folder: Path, vector_sets: list[VectorSet], name: str, flags: Sequence[str]
    ) -> Iterator[Served]:
        """Run a server over all these sizes; its catalog is imported when the folder is new."""
        bench = self.bench
        data = folder / name
        known = data.exists()
        with served(model, data, [*bench.sizes.flags, *flags]) as server:
            if not known:
                for vectors in vector_sets:
                    client.import_rows(server.address, vectors, 1)
            bench.rested(
                f"{vector_sets[0].dim} dimensions, {name} {' '.join(flags)}", rest(server, bench.sizes.rest_seconds)
            )
            yield server
