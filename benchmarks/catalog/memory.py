"""Memory over the vectors' own size: of the server with its products less that of the same one without any."""

from __future__ import annotations

from benchmarks.catalog.bench import OURS, CatalogBench, Cell, at_most
from benchmarks.catalog.footprint import Memory
from benchmarks.catalog.vectors import Stock
from benchmarks.rounds import Spread

MEMORY = "memory over the raw vectors"


def over_vectors(bench: CatalogBench, stock: Stock, when: str, empty: Memory, full: Memory) -> None:
    """Put down the figure of a server that has loaded, searched and come to rest."""
    over = Spread.of([(full.total - empty.total) / stock.raw_bytes])
    bench.add(
        f"memory over the raw vectors, {when}",
        f"{stock.raw_bytes / 2**20:.0f} MiB",
        over,
        "<= 1.35",
        at_most(1.35),
        anonymous=(full.anonymous - empty.anonymous) / stock.raw_bytes,
        file_backed=(full.file - empty.file) / stock.raw_bytes,
        proportional=(full.proportional - empty.proportional) / stock.raw_bytes,
        mib={"empty": _mib(empty), "full": _mib(full)},
    )
    bench.put(MEMORY, OURS, Cell(over, remark(empty, full, stock)))


def remark(empty: Memory, full: Memory, stock: Stock) -> str:
    """How much of it is the process's own and how much are pages of files, both over the raw vectors."""
    anonymous = (full.anonymous - empty.anonymous) / stock.raw_bytes
    return f"anonymous {anonymous:.2f}, file-backed {(full.file - empty.file) / stock.raw_bytes:.2f}"


def _mib(memory: Memory) -> dict[str, float]:
    return {
        "anonymous": round(memory.anonymous / 2**20, 1),
        "file": round(memory.file / 2**20, 1),
        "proportional": round(memory.proportional / 2**20, 1),
    }
