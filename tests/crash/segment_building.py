"""A start that seals: every category has a graph on disk, and so many rows beyond it that it is grown and kept again.

It is done over and over from a copy of the same folder, so that the nth call of its builder is the same each time.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from crash.graph_variants import graph_variant
from crash.graphs import GraphCatalog
from crash.shop import CATEGORIES
from crash.tracing import Fault, Injection
from support.serving import until

LEFT = "left.npz.part"
"""A file that a crash has left, which the start removes."""

FILE_CALLS = ("openat", "write", "fsync", "rename,renameat,renameat2", "unlink,unlinkat")
COMMIT_CALLS = ("pwrite64", "fdatasync")
"""Each is swept by itself, for strace counts each by itself."""

ALL = os.environ.get("CRASH_STRIDE") == "1"
_SOME = {
    "openat": (4,),  # the first three read
    "write": (20,),  # of about sixty for a graph
    "fsync": (1, 2),  # of the file, of the folder
    "rename,renameat,renameat2": (1,),
    "unlink,unlinkat": (2,),  # a replaced file, after what a crash had left
    "pwrite64": (12,),  # the start has written before
    "fdatasync": (3,),  # twice at the start, so of the third category's commit
}
_MOST = 500
_GRAPH = 72
"""Writes of a graph and a few of the next; the other categories' are the same."""


def sweep(calls: str) -> Iterable[int]:
    """Which of these calls to strike: a few, or with CRASH_STRIDE=1 each until there is none."""
    return range(1, _GRAPH if calls == "write" else _MOST) if ALL else _SOME[calls]


@dataclass(frozen=True)
class Sealed:
    """How a start went: its catalog, its exit status (None: it never served), what strace says, what was wrong."""

    catalog: GraphCatalog
    status: int | None
    trace: list[str]
    wrong: list[str]


async def before_sealing(folder: Path) -> GraphCatalog:
    """Make such a catalog, with no server running."""
    catalog = GraphCatalog(folder, seed=1, writers=24)
    everyone = catalog.writers
    # Each change but a few adds a new product: dead rows would have graphs rebuilt, and not grown.
    catalog.writers = everyone[:12]
    with catalog.served() as server:
        assert await catalog.change(server, 24) == []
        await until(lambda: len(catalog.manifest()) == len(CATEGORIES))
        assert server.stop(signal.SIGTERM) == 0
    catalog.writers = everyone[12:]
    with catalog.served(None, "--full-scan-threshold", "1000") as server:
        assert await catalog.change(server, 36) == []
        assert server.stop(signal.SIGTERM) == 0
    catalog.writers = everyone
    assert catalog.manifest().keys() == set(CATEGORIES)
    (catalog.index / LEFT).write_bytes(b"half a graph")
    return catalog


async def seal(base: GraphCatalog, at: Path, fault: Fault, nth: int, *bugs: str) -> Sealed:
    """Start over a copy in the folder `at`, with the nth such call struck, and end it once all is kept that can be."""
    catalog = base.copied(at / f"{nth}")
    injection = Injection(fault, nth, _paths(catalog, fault), at / "strace.log")
    before = base.manifest()
    wrong: list[str] = []

    def done() -> bool:
        now, warned = catalog.manifest(), catalog.warned_of()
        return all(now.get(category) != names or category in warned for category, names in before.items())

    status = None
    try:
        with catalog.served(injection.from_the_start(graph_variant("numbered", *bugs)[1:])) as server:
            await until(lambda: server.process.poll() is not None or done())
            if server.process.poll() is None and not fault.deadly:
                wrong += await catalog.faults_of(server, crashed=False)
            # A piece under way ends first, the removal of what was replaced too.
            status = server.stop(signal.SIGTERM)
    except AssertionError as error:
        if "ended before it served" not in str(error):
            raise
        wrong.append(str(error))
    return Sealed(catalog, status, injection.log.read_text(errors="replace").splitlines(), wrong)


def _paths(catalog: GraphCatalog, fault: Fault) -> list[Path]:
    """The files that the calls are about: all that is or will be in the folder of the graphs, or the store's log."""
    if fault.calls in COMMIT_CALLS:
        return [catalog.folder / "catalog.sqlite-wal"]
    new = [catalog.index / f"{number}.npz{end}" for number in range(9) for end in ("", ".part")]
    return [catalog.index, *catalog.index.iterdir(), *new]
