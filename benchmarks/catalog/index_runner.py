"""The other indexes made ready: built into files by one process, read by a fresh one that is measured from then on."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path

from benchmarks.catalog.bench import CatalogBench, Cell
from benchmarks.catalog.footprint import memory
from benchmarks.catalog.json_pipe import Worker, worker
from benchmarks.catalog.memory import MEMORY, remark
from benchmarks.catalog.search import RECALL, mean_of
from benchmarks.catalog.startup import START
from benchmarks.catalog.vectors import Stock, nearest, recall
from benchmarks.environment import ROOT, threads
from benchmarks.peers.environments import made_from
from benchmarks.rounds import Spread

_BUILD_SECONDS = 900.0
_MODULE = "benchmarks.catalog.index_worker"


def environment() -> Path:
    """The interpreter of the other indexes; hnswlib is compiled there with what our own server's is."""
    lock = Path(__file__).parent / "requirements.lock"
    return made_from(lock, "index", build=ROOT / "server" / "build.lock")


def build(bench: CatalogBench, stock: Stock, names: list[str]) -> dict[str, Path]:
    """Build each into files of its own; those that could be.

    Files that a search does not change are kept for the next run: building them takes longer than all figures together.
    """
    built: dict[str, Path] = {}
    python = environment()
    for name in names:
        with bench.or_skip(name), worker(_MODULE, name, python=python) as process:
            about = process.do("about")
            kept = bench.cache / f"{name}-{about['version']}-{stock.name()}"
            if kept.is_dir():
                bench.notes[f"built {name}"] = about | {"kept from an earlier run": True}
                built[name] = kept
                continue
            folder = bench.scratch / f"engine-{name}"
            folder.mkdir()
            bench.say(f"building {name}")
            seconds = process.do("build", _BUILD_SECONDS, stock=stock.told(), folder=str(folder), threads=threads())[
                "seconds"
            ]
            bench.notes[f"built {name}"] = about | {"seconds": seconds}
            built[name] = folder if about["writes_its_files"] else folder.rename(kept)
    return built


def open_all(bench: CatalogBench, stock: Stock, built: dict[str, Path], stack: ExitStack) -> None:
    """A fresh process each, which reads the files: its time to a first answer, what it finds, and its memory."""
    if not built:
        return
    python = environment()
    for name, folder in built.items():
        with bench.or_skip(name):
            bench.say(f"opening {name}")
            times = []
            for _ in range(max(1, bench.sizes.starts - 1)):
                with worker(_MODULE, name, python=python) as process:
                    times.append(_open(process, stock, folder))
            process = stack.enter_context(worker(_MODULE, name, python=python))
            process.do("ready", stock=stock.told())
            before = memory(process.pid)
            times.append(_open(process, stock, folder))
            shares = recall(stock, process.do("answers", 600.0)["rows"])
            after = memory(process.pid)
            bench.engines[name] = process
            bench.put(RECALL, name, Cell(mean_of(shares, bench.sizes.rounds)))
            bench.put(START, name, Cell(Spread.of(times), "in a process that has imported the library"))
            over = (after.total - before.total) / stock.raw_bytes
            bench.put(MEMORY, name, Cell(Spread.of([over]), remark(before, after, stock)))


def _open(process: Worker, stock: Stock, folder: Path) -> float:
    """Seconds from its files to its first answer, which is only held to be sane: recall has a figure of its own."""
    process.do("ready", stock=stock.told())
    opened = process.do("open", 300.0, folder=str(folder))
    truth, _ = nearest(stock.part("rows", 0), stock.part("queries", 0)[:1])
    if not set(truth[0].tolist()) & set(opened["rows"]):
        raise ValueError("its first answer has nothing of the truth")
    return float(opened["seconds"])
