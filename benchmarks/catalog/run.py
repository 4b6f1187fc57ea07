"""The order of a run: which server is up over which catalog for which part, and what it leaves behind."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

from benchmarks.catalog import building, client, index_runner, pressure, search, writes
from benchmarks.catalog.bench import CatalogBench
from benchmarks.catalog.footprint import Memory, memory
from benchmarks.catalog.json_pipe import worker
from benchmarks.catalog.memory import over_vectors
from benchmarks.catalog.our_server import Served, rest, served, settings_in_force
from benchmarks.catalog.placeholders import THRESHOLD, draw_placeholders, measure_placeholders
from benchmarks.catalog.real import real_vectors
from benchmarks.catalog.sizes import Sizes
from benchmarks.catalog.startup import StartQuery, start_queries, starts
from benchmarks.catalog.tiny import measure_tiny
from benchmarks.catalog.vectors import VectorSet, draw_clustered
from benchmarks.load import load_generator
from benchmarks.null_model import write_null_model
from benchmarks.scenarios.bench import Log

_EMPTY_REST = 30.0
_PATHS = {"model", "data_dir", "listen"}  # of this machine
_REAL_THRESHOLD = "100"  # so low that the real images get a graph


@dataclass(slots=True)
class CatalogRun:
    """One run over clustered vectors, and over the real images' where they are."""

    bench: CatalogBench
    parts: Sequence[str]
    indexes: Sequence[str]
    networks: list[Path]

    def measure(self) -> None:
        """Measure all parts that were chosen."""
        bench, sizes = self.bench, self.bench.sizes
        folder = bench.scratch / "clustered"
        folder.mkdir()
        bench.log(f"drawing {sizes.partitions} x {sizes.rows} vectors")
        vectors = draw_clustered(folder, sizes.partitions, sizes.rows, sizes.queries, sizes.dim)
        settings = settings_in_force(bench.model, sizes.flags)
        bench.ef = int(settings["hnsw_ef_search"])
        bench.notes["settings in force"] = {name: settings[name] for name in settings.keys() - _PATHS}
        few, empty = bench.scratch / "few", Memory(0, 0, 0)
        with ExitStack() as stack:
            with served(bench.model, few, sizes.flags) as server:
                bench.rested("empty", rest(server, _EMPTY_REST))
                empty = memory(server.pid)
                built = self._load(server, vectors)
                self._first_look(server, vectors, built, stack, empty)
                queries = self._start_queries(server, vectors, vectors.partitions)
            if "startup" in self.parts and queries:
                with bench.or_skip("start-up"):
                    self._start_up(vectors, few, queries)
            with served(bench.model, few, sizes.flags) as server:
                self._again(server, vectors, empty)
            if "upserts" in self.parts:
                with (
                    bench.or_skip("durable upserts, empty"),
                    served(bench.model, bench.scratch / "filling", sizes.flags) as server,
                ):
                    writes.over_sqlite(bench, server, vectors, loaded=False)
            if "pressure" in self.parts:
                pressure.others_beside_upserts(bench)
            if "upserts" in self.parts:
                writes.others_upsert(bench)
        if "build" in self.parts:
            with bench.or_skip("building"), self._scratch_server() as (server, _):
                building.over_bare(bench, server, vectors)
        if "tiny" in self.parts:
            self._tiny()
        if "recall" in self.parts:
            self._placeholders()
            self._real()

    def _load(self, server: Served, vectors: VectorSet) -> dict[str, Path]:
        """Import all rows; the other indexes are built meanwhile, as neither is measured."""
        bench = self.bench
        bench.log(f"importing {vectors.total} products")
        built: dict[str, Path] = {}
        with ThreadPoolExecutor(1) as thread:
            importing = thread.submit(client.import_rows, server.address, vectors, vectors.partitions)
            with bench.or_skip("other indexes"):
                built = index_runner.build(bench, vectors, [search.BARE, *self.indexes])
            bench.notes["import"] = importing.result()
        bench.log("waiting for the graphs")
        bench.rested("after the import", rest(server, bench.sizes.rest_seconds))
        return built

    def _first_look(
        self, server: Served, vectors: VectorSet, built: dict[str, Path], stack: ExitStack, empty: Memory
    ) -> None:
        """Measure a server that has just imported everything."""
        bench = self.bench
        index_runner.open_all(bench, vectors, built, stack)
        if "recall" in self.parts:
            with bench.or_skip("recall, clustered"):
                search.measure_recall(bench, server, vectors, search.DRAWN, 0.995)
        if "search" in self.parts:
            with bench.or_skip("search"):
                search.over_bare(bench, server, vectors)
        if "memory" in self.parts:
            self._memory(server, vectors, "after the import", empty)

    def _again(self, server: Served, vectors: VectorSet, empty: Memory) -> None:
        """Measure a server that was started on a full catalog; the last of it changes the catalog."""
        bench = self.bench
        bench.rested("after a start", rest(server, bench.sizes.rest_seconds))
        if "memory" in self.parts:
            self._memory(server, vectors, "after a start", empty)
        if "pressure" in self.parts:
            with bench.or_skip("p99 beside upserts"):
                pressure.beside_upserts(bench, server, vectors)
        if "upserts" in self.parts:
            with bench.or_skip("durable upserts, loaded"):
                writes.over_sqlite(bench, server, vectors, loaded=True)

    def _memory(self, server: Served, vectors: VectorSet, when: str, empty: Memory) -> None:
        bench = self.bench
        with bench.or_skip(f"memory {when}"):
            client.search_all(server.address, vectors, vectors.partitions)
            bench.rested(f"before memory {when}", rest(server, bench.sizes.rest_seconds))
            over_vectors(bench, vectors, when, empty, memory(server.pid))

    def _start_queries(self, server: Served, vectors: VectorSet, categories: int) -> list[StartQuery]:
        with self.bench.or_skip("start-up"):
            if "startup" in self.parts:
                return start_queries(server, vectors, categories)
        return []

    def _start_up(self, vectors: VectorSet, few: Path, queries: list[StartQuery]) -> None:
        bench, sizes = self.bench, self.bench.sizes
        many, none = bench.scratch / "many", bench.scratch / "none"
        bench.log(f"importing the same into {sizes.many} categories")
        with served(bench.model, many, sizes.flags) as server:
            client.import_rows(server.address, vectors, sizes.many)
            bench.rested("after the import into many", rest(server, sizes.rest_seconds))
            of_many = start_queries(server, vectors, sizes.many)
        with served(bench.model, none, sizes.flags):
            pass
        starts(bench, vectors, (few, queries), (many, of_many), none)

    @contextmanager
    def _scratch_server(self, *flags: str) -> Iterator[tuple[Served, Path]]:
        """Run an empty server; yield a folder too, that is removed after the block as the catalog is."""
        bench = self.bench
        with (
            tempfile.TemporaryDirectory(dir=bench.scratch) as folder,
            served(bench.model, Path(folder, "data"), (*bench.sizes.flags, *flags)) as server,
        ):
            yield server, Path(folder)

    def _tiny(self) -> None:
        bench, sizes = self.bench, self.bench.sizes
        with bench.or_skip("tiny categories"), self._scratch_server() as (server, folder):
            bench.log(f"drawing {sizes.tiny} vectors")
            measure_tiny(bench, server, draw_clustered(folder, 1, sizes.tiny, sizes.queries, sizes.dim))

    def _placeholders(self) -> None:
        bench, sizes = self.bench, self.bench.sizes
        flags = ("--full-scan-threshold", THRESHOLD)
        with bench.or_skip("placeholders"), self._scratch_server(*flags) as (server, folder):
            drawn = draw_placeholders(folder, sizes.placeholder_rows, sizes.placeholders, sizes.dim)
            measure_placeholders(bench, server, *drawn)

    def _real(self) -> None:
        bench = self.bench
        with bench.or_skip("recall, real images"):
            vectors = real_vectors(bench, self.networks)
            model = bench.scratch / "real-model"
            write_null_model(model, vectors.dim, "cosine")
            flags = (*bench.sizes.flags, "--full-scan-threshold", _REAL_THRESHOLD)
            with served(model, bench.scratch / "real-data", flags) as server:
                client.import_rows(server.address, vectors, 1)
                bench.rested("after the import of real images", rest(server, bench.sizes.rest_seconds))
                search.measure_recall(bench, server, vectors, "real images", 0.999)


@contextmanager
def catalog_bench(sizes: Sizes, scratch: Path, cache: Path, log: Log) -> Iterator[CatalogBench]:
    """Yield the means of measuring: a null model of the vectors' dimensions, and the processes that send load."""
    model = scratch / "model"
    write_null_model(model, sizes.dim, "cosine")
    with load_generator() as load, load_generator() as background, worker("benchmarks.catalog.sqlite_alone") as alone:
        yield CatalogBench(sizes, scratch, cache, model, load, background, alone, log)


def found_so_far(bench: CatalogBench) -> dict[str, object]:
    """Return what is not in the results, for the JSON file."""
    side_by_side = {
        row: {name: asdict(cell) for name, cell in cells.items()} for row, cells in bench.side_by_side.items()
    }
    return {"side_by_side": side_by_side, "notes": bench.notes, "sizes": asdict(bench.sizes)}
