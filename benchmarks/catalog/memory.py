"""Memory over the vectors' own size: of the server with its products less that of the same server without any."""

from __future__ import annotations

from benchmarks.catalog.bench import OURS, CatalogBench, Cell, at_most
from benchmarks.catalog.footprint import Memory
from benchmarks.catalog.vectors import VectorSet
from benchmarks.rounds import Spread

MEMORY = "memory over the raw vectors"


def over_vectors(bench: CatalogBench, vectors: VectorSet, when: str, empty: Memory, full: Memory) -> None:
    """Record the memory of a server that has imported, searched and become idle."""
    over = Spread.of([(full.total - empty.total) / vectors.raw_bytes])
    bench.add(
        f"memory over the raw vectors, {when}",
        f"{vectors.raw_bytes / 2**20:.0f} MiB",
        over,
        "<= 1.35",
        at_most(1.35),
        anonymous=(full.anonymous - empty.anonymous) / vectors.raw_bytes,
        file_backed=(full.file - empty.file) / vectors.raw_bytes,
        proportional=(full.proportional - empty.proportional) / vectors.raw_bytes,
        mib={"empty": _mib(empty), "full": _mib(full)},
    )
    bench.put(MEMORY, OURS, Cell(over, remark(empty, full, vectors)))


def remark(empty: Memory, full: Memory, vectors: VectorSet) -> str:
    """Return how much is the process's own memory and how much are pages of files, both over the raw vectors."""
    anonymous = (full.anonymous - empty.anonymous) / vectors.raw_bytes
    return f"anonymous {anonymous:.2f}, file-backed {(full.file - empty.file) / vectors.raw_bytes:.2f}"


def _mib(memory: Memory) -> dict[str, float]:
    return {
        "anonymous": round(memory.anonymous / 2**20, 1),
        "file": round(memory.file / 2**20, 1),
        "proportional": round(memory.proportional / 2**20, 1),
    }
