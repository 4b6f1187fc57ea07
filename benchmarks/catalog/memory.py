"""Memory over the vectors' own size: of the server with its products less that of the same server without any."""

from __future__ import annotations

from benchmarks.catalog.bench import OURS, CatalogBench, Cell, at_most
from benchmarks.catalog.footprint import Memory
from benchmarks.catalog.vectors import VectorSet
from benchmarks.rounds import Spread

MEMORY = "memory over the raw vectors"
_ANONYMOUS, _FILE = 1.15, 1.05


def over_vectors(bench: CatalogBench, vectors: VectorSet, when: str, empty: Memory, full: Memory) -> None:
    """Record the memory of a server that has imported, searched and become idle."""
    raw = vectors.raw_bytes
    versus = f"{raw / 2**20:.0f} MiB"
    parts = (
        ("anonymous memory", (full.anonymous - empty.anonymous) / raw, _ANONYMOUS),
        ("file-backed memory", (full.file - empty.file) / raw, _FILE),
    )
    for kind, over, limit in parts:
        bench.add(
            f"{kind} over the raw vectors, {when}",
            versus,
            Spread.of([over]),
            f"<= {limit}",
            at_most(limit),
            proportional=(full.proportional - empty.proportional) / raw,
            mib={"empty": _mib(empty), "full": _mib(full)},
        )
    bench.put(MEMORY, OURS, Cell(Spread.of([(full.total - empty.total) / raw]), remark(empty, full, vectors)))


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
