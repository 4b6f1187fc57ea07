"""From which size on a graph is faster than comparing all rows, and what M, ef and max_segment_rows cost and bring.

Two servers are up at once, one that compares all rows and one with graphs, and are searched in turns. Every size is a
category of the same catalog.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace

import numpy as np

from benchmarks.catalog import client, loads
from benchmarks.catalog.bench import CatalogBench
from benchmarks.catalog.our_server import Served, rest, served
from benchmarks.catalog.vectors import VectorSet, draw_clustered, recall
from benchmarks.rounds import Spread

MS = (8, 16, 32)
EFS = (32, 64, 100, 200)
USUAL_M, USUAL_EF = 16, 100
_QUERIES = 200
_ROUNDS = 3


@dataclass(frozen=True, slots=True)
class Point:
    """One size under one setting.

    Attributes:
        rows: Rows of the category.
        m: The graph's M.
        ef: Candidates weighed by a search.
        max_segment_rows: The most rows under one graph.
        flat_ms: p50 of the RPC where all rows are compared.
        graph_ms: p50 of the RPC by graph; None where the server answered without one.
        ratio: graph_ms over flat_ms, of adjacent turns.
        recall: recall@10 by graph.
    """

    rows: int
    m: int
    ef: int
    max_segment_rows: int
    flat_ms: Spread
    graph_ms: Spread | None
    ratio: Spread | None
    recall: float


@dataclass(slots=True)
class Crossover:
    """One run; what it has found so far can be read at any time."""

    bench: CatalogBench
    points: list[Point] = field(default_factory=list)

    def measure(self) -> None:
        """Measure all of M x ef with the largest segments, and smaller segments at the usual M and ef."""
        bench = self.bench
        vector_sets = [self._draw(rows) for rows in bench.sizes.crossover_rows]
        largest = max(bench.sizes.crossover_segments)
        with ExitStack() as stack:
            flat = stack.enter_context(self._served("flat", ("--full-scan-threshold", str(10**9)), vector_sets))
            for m in MS:
                for ef in EFS:
                    self._pair(flat, vector_sets, m, ef, largest)
            for max_segment_rows in bench.sizes.crossover_segments:
                several = [vectors for vectors in vector_sets if vectors.rows > max_segment_rows]
                if several and max_segment_rows != largest:
                    self._pair(flat, several, USUAL_M, USUAL_EF, max_segment_rows)

    def _draw(self, rows: int) -> VectorSet:
        folder = self.bench.scratch / f"crossover-{rows}"
        folder.mkdir()
        drawn = draw_clustered(folder, 1, rows, min(_QUERIES, self.bench.sizes.queries), self.bench.sizes.dim)
        return replace(drawn, label=f"r{rows}-")

    def _pair(self, flat: Served, vector_sets: list[VectorSet], m: int, ef: int, max_segment_rows: int) -> None:
        bench = self.bench
        bench.log(f"crossover: M {m}, ef {ef}, max_segment_rows {max_segment_rows}")
        # the graphs of one M are built once where the server keeps them, and again for each ef where it does not
        flags = ["--full-scan-threshold", "1", "--hnsw-m", str(m), "--hnsw-ef-search", str(ef)]
        with bench.or_skip(f"crossover M {m} ef {ef} max_segment_rows {max_segment_rows}"):
            name = f"graph-{m}-{max_segment_rows}"
            with self._served(name, [*flags, "--max-segment-rows", str(max_segment_rows)], vector_sets) as graph:
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
    def _served(self, name: str, flags: Sequence[str], vector_sets: list[VectorSet]) -> Iterator[Served]:
        """Run a server over all these sizes; its catalog is imported when the folder is new."""
        bench = self.bench
        data = bench.scratch / name
        known = data.exists()
        with served(bench.model, data, [*bench.sizes.flags, *flags]) as server:
            if not known:
                for vectors in vector_sets:
                    client.import_rows(server.address, vectors, 1)
            bench.rested(f"{name} {' '.join(flags)}", rest(server, bench.sizes.rest_seconds))
            yield server
