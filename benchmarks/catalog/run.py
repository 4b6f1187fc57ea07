"""The order of a run: which server is up over which catalog for which figure, and what it leaves behind."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

from benchmarks.catalog import index_runner, pressure, search, writes
from benchmarks.catalog.bench import CatalogBench
from benchmarks.catalog.footprint import Memory, memory
from benchmarks.catalog.json_pipe import worker
from benchmarks.catalog.memory import over_vectors
from benchmarks.catalog.our_server import Served, rest, served, settings_in_force
from benchmarks.catalog.real import real_stock
from benchmarks.catalog.sizes import Sizes
from benchmarks.catalog.startup import Question, questions, starts
from benchmarks.catalog.vectors import Stock, draw_clustered
from benchmarks.figures.bench import Say
from benchmarks.null_model import write_null_model

_LOAD_SECONDS = 900.0
_EMPTY_REST = 30.0
_PLACES = {"model", "data", "listen"}  # where things lie on this machine
_REAL_FLAT_LIMIT = "100"  # so low that the real images get a graph


@dataclass(slots=True)
class CatalogRun:
    """One run over clustered vectors, and over the real images' where they are."""

    bench: CatalogBench
    parts: Sequence[str]
    indexes: Sequence[str]
    networks: list[Path]

    def measure(self) -> None:
        """Everything that was asked for."""
        bench, sizes = self.bench, self.bench.sizes
        folder = bench.scratch / "clustered"
        folder.mkdir()
        bench.say(f"drawing {sizes.partitions} x {sizes.rows} vectors")
        stock = draw_clustered(folder, sizes.partitions, sizes.rows, sizes.queries, sizes.dim)
        settings = settings_in_force(bench.model, sizes.flags)
        bench.notes["settings in force"] = {name: settings[name] for name in settings.keys() - _PLACES}
        few, empty = bench.scratch / "few", Memory(0, 0, 0)
        with ExitStack() as stack:
            with served(bench.model, few, sizes.flags) as server:
                bench.rested("empty", rest(server, _EMPTY_REST))
                empty = memory(server.pid)
                built = self._load(server, stock)
                self._first_look(server, stock, built, stack, empty)
                asked = self._questions(server, stock, stock.partitions)
            if "startup" in self.parts and asked:
                with bench.or_skip("start-up"):
                    self._start_up(stock, few, asked)
            with served(bench.model, few, sizes.flags) as server:
                self._again(server, stock, empty)
            if "upserts" in self.parts:
                with (
                    bench.or_skip("durable upserts, empty"),
                    served(bench.model, bench.scratch / "filling", sizes.flags) as server,
                ):
                    writes.over_sqlite(bench, server, stock, loaded=False)
            if "pressure" in self.parts:
                pressure.others_beside_upserts(bench)
            if "upserts" in self.parts:
                writes.others_upsert(bench)
        if "recall" in self.parts:
            self._real()

    def _load(self, server: Served, stock: Stock) -> dict[str, Path]:
        """Import all rows; the other indexes are built meanwhile, as neither is a figure."""
        bench = self.bench
        bench.say(f"importing {stock.total} products")
        bench.caller.begin("load", address=server.address, stock=stock.told(), categories=stock.partitions)
        built: dict[str, Path] = {}
        with bench.or_skip("other indexes"):
            built = index_runner.build(bench, stock, [search.RAW, *self.indexes])
        bench.notes["import"] = bench.caller.end(_LOAD_SECONDS)
        bench.say("waiting for the graphs")
        bench.rested("after the import", rest(server, bench.sizes.rest_seconds))
        return built

    def _first_look(
        self, server: Served, stock: Stock, built: dict[str, Path], stack: ExitStack, empty: Memory
    ) -> None:
        """What is measured of a server that has just imported everything."""
        bench = self.bench
        index_runner.open_all(bench, stock, built, stack)
        if "recall" in self.parts:
            with bench.or_skip("recall, clustered"):
                search.found_of_truth(bench, server, stock, search.DRAWN)
        if "search" in self.parts:
            with bench.or_skip("search"):
                search.over_raw(bench, server, stock)
        if "memory" in self.parts:
            self._memory(server, stock, "after the import", empty)

    def _again(self, server: Served, stock: Stock, empty: Memory) -> None:
        """What is measured of a server that was started on a full catalog; the last of it changes the catalog."""
        bench = self.bench
        bench.rested("after a start", rest(server, bench.sizes.rest_seconds))
        if "memory" in self.parts:
            self._memory(server, stock, "after a start", empty)
        if "pressure" in self.parts:
            with bench.or_skip("p99 beside upserts"):
                pressure.beside_upserts(bench, server, stock)
        if "upserts" in self.parts:
            with bench.or_skip("durable upserts, loaded"):
                writes.over_sqlite(bench, server, stock, loaded=True)

    def _memory(self, server: Served, stock: Stock, when: str, empty: Memory) -> None:
        bench = self.bench
        with bench.or_skip(f"memory {when}"):
            bench.caller.do("answers", 600.0, address=server.address, stock=stock.told(), categories=stock.partitions)
            bench.rested(f"before memory {when}", rest(server, bench.sizes.rest_seconds))
            over_vectors(bench, stock, when, empty, memory(server.pid))

    def _questions(self, server: Served, stock: Stock, categories: int) -> list[Question]:
        with self.bench.or_skip("start-up"):
            if "startup" in self.parts:
                return questions(server, stock, categories)
        return []

    def _start_up(self, stock: Stock, few: Path, asked: list[Question]) -> None:
        bench, sizes = self.bench, self.bench.sizes
        many, none = bench.scratch / "many", bench.scratch / "none"
        bench.say(f"importing the same into {sizes.many} categories")
        with served(bench.model, many, sizes.flags) as server:
            bench.caller.do("load", _LOAD_SECONDS, address=server.address, stock=stock.told(), categories=sizes.many)
            bench.rested("after the import into many", rest(server, sizes.rest_seconds))
            of_many = questions(server, stock, sizes.many)
        with served(bench.model, none, sizes.flags):
            pass
        starts(bench, stock, (few, asked), (many, of_many), none)

    def _real(self) -> None:
        bench = self.bench
        with bench.or_skip("recall, real images"):
            stock = real_stock(bench, self.networks)
            model = bench.scratch / "real-model"
            write_null_model(model, stock.dim, "cosine")
            flags = (*bench.sizes.flags, "--full-scan-threshold", _REAL_FLAT_LIMIT)
            with served(model, bench.scratch / "real-data", flags) as server:
                bench.caller.do("load", _LOAD_SECONDS, address=server.address, stock=stock.told(), categories=1)
                bench.rested("after the import of real images", rest(server, bench.sizes.rest_seconds))
                search.found_of_truth(bench, server, stock, "real images")


@contextmanager
def catalog_bench(sizes: Sizes, scratch: Path, cache: Path, say: Say) -> Iterator[CatalogBench]:
    """The means of measuring: a null model as wide as the vectors, and the processes that call."""
    model = scratch / "model"
    write_null_model(model, sizes.dim, "cosine")
    callers = "benchmarks.catalog.caller"
    with worker(callers) as caller, worker(callers) as writer, worker("benchmarks.catalog.sqlite_alone") as alone:
        yield CatalogBench(sizes, scratch, cache, model, caller, writer, alone, say)


def found_so_far(bench: CatalogBench) -> dict[str, object]:
    """For the JSON file: what is not in the figures."""
    beside = {row: {name: asdict(cell) for name, cell in cells.items()} for row, cells in bench.beside.items()}
    return {"side_by_side": beside, "notes": bench.notes, "sizes": asdict(bench.sizes)}
