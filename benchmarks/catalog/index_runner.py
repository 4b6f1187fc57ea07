"""The other indexes made ready: built into files by one process, read by a fresh one that is measured from then on."""

from __future__ import annotations

import tempfile
from contextlib import ExitStack
from pathlib import Path

from benchmarks.catalog.bench import CatalogBench, Cell
from benchmarks.catalog.footprint import memory
from benchmarks.catalog.index_adapters import EF_CONSTRUCTION, M
from benchmarks.catalog.json_pipe import Worker, worker
from benchmarks.catalog.memory import MEMORY, remark
from benchmarks.catalog.search import RECALL, mean_of
from benchmarks.catalog.startup import START
from benchmarks.catalog.vectors import VectorSet, nearest, recall
from benchmarks.environment import ROOT, threads
from benchmarks.peers.environments import made_from
from benchmarks.rounds import Spread

_BUILD_SECONDS = 900.0
_MODULE = "benchmarks.catalog.index_worker"


def environment() -> Path:
    """Return the interpreter of the other indexes; hnswlib is compiled there as our own server's is."""
    lock = Path(__file__).parent / "requirements.lock"
    return made_from(lock, "index", build=ROOT / "server" / "build.lock")


def build(bench: CatalogBench, vectors: VectorSet, names: list[str]) -> dict[str, Path]:
    """Build each index into files of its own; return the folders of those that could be built.

    Files that a search does not change are kept for the next run: building them takes longer than all measurements.
    """
    built: dict[str, Path] = {}
    python = environment()
    for name in names:
        with bench.or_skip(name), worker(_MODULE, name, python=python) as process:
            about = process.do("about")
            kept = bench.cache / f"{name}-{about['version']}-{M}-{EF_CONSTRUCTION}-{vectors.name()}"
            if kept.is_dir():
                bench.notes[f"built {name}"] = about | {"kept from an earlier run": True}
                built[name] = kept
                continue
            folder = bench.scratch / f"index-{name}"
            folder.mkdir()
            bench.log(f"building {name}")
            seconds = process.do(
                "build", _BUILD_SECONDS, vectors=vectors.to_json(), folder=str(folder), threads=threads()
            )["seconds"]
            bench.notes[f"built {name}"] = about | {"seconds": seconds}
            built[name] = folder if about["writes_its_files"] else folder.rename(kept)
    return built


def build_once(bench: CatalogBench, name: str, vectors: VectorSet, threads: int) -> float:
    """Build an index into files that are removed, and return the seconds that it took."""
    with (
        worker(_MODULE, name, python=environment()) as process,
        tempfile.TemporaryDirectory(dir=bench.scratch) as folder,
    ):
        arguments = {"vectors": vectors.to_json(), "folder": folder, "threads": threads}
        return float(process.do("build", _BUILD_SECONDS, **arguments)["seconds"])


def open_all(bench: CatalogBench, vectors: VectorSet, built: dict[str, Path], stack: ExitStack) -> None:
    """Read each index in a fresh process: its time to a first answer, its recall, and its memory."""
    if not built:
        return
    python = environment()
    for name, folder in built.items():
        with bench.or_skip(name):
            bench.log(f"opening {name}")
            times = []
            for _ in range(max(1, bench.sizes.starts - 1)):
                with worker(_MODULE, name, python=python) as process:
                    times.append(_open(process, vectors, folder, bench.ef))
            process = stack.enter_context(worker(_MODULE, name, python=python))
            process.do("ready", vectors=vectors.to_json())
            before = memory(process.pid)
            times.append(_open(process, vectors, folder, bench.ef))
            shares = recall(vectors, process.do("answers", 600.0)["rows"])
            after = memory(process.pid)
            bench.indexes[name] = process
            bench.put(RECALL, name, Cell(mean_of(shares, bench.sizes.rounds)))
            bench.put(START, name, Cell(Spread.of(times), "in a process that has imported the library"))
            over = (after.total - before.total) / vectors.raw_bytes
            bench.put(MEMORY, name, Cell(Spread.of([over]), remark(before, after, vectors)))


def _open(process: Worker, vectors: VectorSet, folder: Path, ef: int) -> float:
    """Return the seconds from its files to its first answer, which is only checked for plausibility."""
    process.do("ready", vectors=vectors.to_json())
    opened = process.do("open", 300.0, folder=str(folder), ef=ef)
    truth, _ = nearest(vectors.part("rows", 0), vectors.part("queries", 0)[:1])
    if not set(truth[0].tolist()) & set(opened["rows"]):
        raise ValueError("its first answer has none of the nearest rows")
    return float(opened["seconds"])
