"""Durable upserts: our server under load over SQLite alone with the same rows in the same transactions."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.catalog import loads
from benchmarks.catalog.bench import OURS, CatalogBench, Cell, at_least
from benchmarks.catalog.footprint import transactions
from benchmarks.catalog.our_server import FILE, Served, backup
from benchmarks.catalog.vectors import VectorSet
from benchmarks.rounds import Spread
from lookalike_loadtest.worker_messages import WorkerConfig

UPSERTS = "durable upserts/s"
PRODUCTS_A_CALL = (1, 64)
_DEADLINE = 30.0
_ROUNDS = 5
_APART = 10_000_000  # between the ids of new products of one call size and the other


def over_sqlite(bench: CatalogBench, server: Served, vectors: VectorSet, *, loaded: bool) -> None:
    """Measure a closed loop, with one product a call and with many, and SQLite alone in turns.

    Args:
        bench: The means of measuring.
        server: Ours, with every row (and then random ones are replaced) or with none (then rows are added).
        vectors: The vectors.
        loaded: Whether it has every row.
    """
    state = "loaded" if loaded else "empty"
    for products in PRODUCTS_A_CALL:
        what = f"durable upserts, {state} catalog, {products} a call"
        bench.log(f"{what}: concurrency {bench.sizes.concurrency}")
        with bench.or_skip(what):
            copy = bench.scratch / f"alone-{state}-{products}.sqlite"
            if loaded:
                backup(server.data, copy)
            else:
                bench.sqlite_alone.do("make", like=str(server.data / FILE), path=str(copy))
            first = None if loaded else (1 + PRODUCTS_A_CALL.index(products)) * _APART
            found = Turns(bench, server, vectors, copy, products, first).run()
            _record(bench, what, found, table=loaded and products == PRODUCTS_A_CALL[0])


@dataclass(slots=True)
class Turns:
    """Turns of the server and of SQLite alone over a copy of its file; rates in products a second."""

    bench: CatalogBench
    server: Served
    vectors: VectorSet
    copy: Path
    products: int
    first: int | None
    ours: list[float] = field(default_factory=list)
    alone: list[float] = field(default_factory=list)
    batches: list[float] = field(default_factory=list)
    sqlite: str = ""

    def run(self) -> Turns:
        """Run all turns."""
        sizes = self.bench.sizes
        stored = [0, 0]  # new products so far, by the server and by SQLite alone
        for seed in range(min(sizes.rounds, _ROUNDS)):
            before = transactions(self.server.data / FILE)
            outcome = self.bench.load.run(
                self._upserts(seed, stored[0]), sizes.seconds, concurrency=sizes.concurrency, deadline=_DEADLINE
            ).check(all_answered=True)
            products = int(outcome.judged.sum())
            after = transactions(self.server.data / FILE)
            if before is None or after is None or after <= before:
                raise ValueError("the size of the server's transactions cannot be determined from outside")
            self.batches.append(products / (after - before))
            # what the server still has to do for its graphs must not slow SQLite: it is paused meanwhile
            with _paused(self.server.pid):
                batch = max(1, round(self.batches[-1]))
                sqlite = self.bench.sqlite_alone.do(
                    "upsert",
                    path=str(self.copy),
                    vectors=self.vectors.to_json(),
                    categories=self.vectors.partitions,
                    batch=batch,
                    seconds=sizes.seconds,
                    seed=seed,
                    first=None if self.first is None else self.first + stored[1],
                )
            self.ours.append(products / outcome.elapsed)
            self.alone.append(sqlite["upserts"] / sqlite["seconds"])
            self.sqlite = sqlite["sqlite"]
            stored = [stored[0] + products, stored[1] + sqlite["upserts"]]
        return self

    def _upserts(self, seed: int, stored: int) -> WorkerConfig:
        address, categories = self.server.address, self.vectors.partitions
        if self.first is None:
            return loads.replacements(address, self.vectors, categories, seed, self.products)
        return loads.additions(address, self.vectors, categories, self.first + stored, self.products)


def _record(bench: CatalogBench, what: str, found: Turns, *, table: bool) -> None:
    batch = Spread.of(found.batches).median
    bench.add(
        what,
        f"SQLite alone, {batch:.1f} rows a transaction",
        Spread.of([a / b for a, b in zip(found.ours, found.alone, strict=True)]),
        ">= 0.7",
        at_least(0.7),
        upserts_per_second=found.ours,
        sqlite_upserts_per_second=found.alone,
        rows_a_transaction=found.batches,
        concurrency=bench.sizes.concurrency,
        sqlite=found.sqlite,
        filesystem=_filesystem(bench.scratch),
    )
    if table:
        bench.put(UPSERTS, OURS, Cell(Spread.of(found.ours), "on disk when answered (WAL, synchronous=FULL)"))


def others_upsert(bench: CatalogBench) -> None:
    """Measure the updates of the other indexes, and what of them is on disk when they return."""
    for name, index in bench.indexes.items():
        with bench.or_skip(f"upserts of {name}"):
            about = index.do("about")
            if not about["writes_its_files"]:
                bench.put(UPSERTS, name, Cell(None, about["durability"]))
                continue
            rates = []
            for turn in range(min(bench.sizes.rounds, 3)):
                done = index.do(
                    "upsert", seconds=bench.sizes.seconds, concurrency=bench.sizes.concurrency, seed=100 + turn
                )
                rates.append(done["upserts"] / done["seconds"])
            bench.put(UPSERTS, name, Cell(Spread.of(rates), about["durability"]))


@contextmanager
def _paused(pid: int) -> Iterator[None]:
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


def _filesystem(folder: Path) -> str:
    """Return the kind of file system that a folder is on: what "durable" means depends on it."""
    best, kind = "", "unknown"
    for line in Path("/proc/self/mounts").read_text(encoding="utf-8").splitlines():
        _, where, what, *_ = line.split()
        if folder.resolve().is_relative_to(where) and len(where) >= len(best):
            best, kind = where, what
    return kind
