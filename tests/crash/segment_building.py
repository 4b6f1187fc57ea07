"""A start that extends and saves the segment of every category, because there are many rows that are in no graph.

It is repeated from copies of one folder, so that the nth call of the maintenance thread is the same each time.
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

LEFT = "left.graph.part"
"""A file that a crash has left, which the start deletes."""

FILE_CALLS = ("openat", "write", "fsync", "rename,renameat,renameat2", "unlink,unlinkat")
COMMIT_CALLS = ("pwrite64", "fdatasync")
"""Each is swept by itself, because strace counts each by itself."""

OF_ROWS = (("write", 5), ("write", 6), ("fsync", 3), ("fsync", 4), ("rename,renameat,renameat2", 2))
"""Calls on the first file of rows, which follow those on the first graph where both are saved."""

ALL = os.environ.get("CRASH_STRIDE") == "1"
_SOME = {
    "openat": (4,),  # the first three read
    "write": (2,),  # of a few per graph
    "fsync": (1, 2),  # of the file, of the folder
    "rename,renameat,renameat2": (1,),
    "unlink,unlinkat": (2,),  # of a replaced file, after the one that a crash left
    "pwrite64": (12,),  # after the writes of the start
    "fdatasync": (3,),  # twice at the start, so of the third category's commit
}
_LIMIT = 500
_GRAPH = 12
"""Writes of a graph and a few of the next; the other categories' are the same."""


def sweep(calls: str) -> Iterable[int]:
    """Return which of these calls to fail: a few, or with CRASH_STRIDE=1 each until there are no more."""
    return range(1, _GRAPH if calls == "write" else _LIMIT) if ALL else _SOME[calls]


@dataclass(frozen=True)
class BuildRun:
    """A start: its catalog, its exit status (None: it never served), strace's log, and what was wrong."""

    catalog: GraphCatalog
    status: int | None
    trace: list[str]
    wrong: list[str]


async def before_building(folder: Path) -> GraphCatalog:
    """Make such a catalog, with no server running."""
    catalog = GraphCatalog(folder, seed=1, writers=24)
    everyone = catalog.writers
    # Nearly every change adds a product: deleted rows would have graphs compacted instead of extended.
    catalog.writers = everyone[:12]
    with catalog.served() as server:
        assert await catalog.change(server, 24) == []
        # A graph that the next start has to compact would be dropped there, where so few rows need none.
        await until(lambda: len(catalog.manifest()) == len(CATEGORIES) and catalog.is_compacted())
        assert server.stop(signal.SIGTERM) == 0
    catalog.writers = everyone[12:]
    with catalog.served(None, "--full-scan-threshold", "1000") as server:
        assert await catalog.change(server, 36) == []
        assert server.stop(signal.SIGTERM) == 0
    catalog.writers = everyone
    assert catalog.manifest().keys() == set(CATEGORIES)
    (catalog.index / LEFT).write_bytes(b"half a graph")
    return catalog


async def build(base: GraphCatalog, at: Path, fault: Fault, nth: int, *bugs: str) -> BuildRun:
    """Start on a copy in the folder `at`, let the nth such call fail, and stop once all is saved that can be."""
    catalog = base.copy_to(at / f"{nth}")
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
            # A running step ends first, and deletes the files that it replaced.
            status = server.stop(signal.SIGTERM)
    except AssertionError as error:
        if "ended before it served" not in str(error):
            raise
        wrong.append(str(error))
    return BuildRun(catalog, status, injection.log.read_text(errors="replace").splitlines(), wrong)


def _paths(catalog: GraphCatalog, fault: Fault) -> list[Path]:
    """The files of the calls: all that are or will be in the folder of the graphs, or the store's WAL."""
    if fault.calls in COMMIT_CALLS:
        return [catalog.folder / "catalog.sqlite-wal"]
    names = [f"{number}{kind}" for number in range(9) for kind in (".graph", ".rows")]
    new = [catalog.index / f"{name}{end}" for name in names for end in ("", ".part")]
    return [catalog.index, *catalog.index.iterdir(), *new]
