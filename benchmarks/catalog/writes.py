"""Durable upserts: what many callers reach over what SQLite alone does with the same rows in the same transactions."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.catalog.bench import OURS, CatalogBench, Cell, at_least
from benchmarks.catalog.footprint import transactions
from benchmarks.catalog.our_server import FILE, Served, backup
from benchmarks.catalog.vectors import Stock
from benchmarks.rounds import Spread

UPSERTS = "durable upserts/s"
PRODUCTS_A_CALL = (1, 64)
_ROUNDS = 5
_APART = 10_000_000  # between the ids of new products of one call size and the other


def over_sqlite(bench: CatalogBench, server: Served, stock: Stock, *, loaded: bool) -> None:
    """Closed loop of all callers, with one product a call and with many, and SQLite alone in turns.

    Args:
        bench: The means.
        server: Ours, with every row (and then random ones are replaced) or with none (then rows are added).
        stock: The vectors.
        loaded: Which of the two.
    """
    state = "loaded" if loaded else "empty"
    for products in PRODUCTS_A_CALL:
        what = f"durable upserts, {state} catalog, {products} a call"
        bench.say(f"{what}: {bench.sizes.callers} callers")
        with bench.or_skip(what):
            copy = bench.scratch / f"alone-{state}-{products}.sqlite"
            if loaded:
                backup(server.data, copy)
            else:
                bench.alone.do("make", like=str(server.data / FILE), path=str(copy))
            first = None if loaded else (1 + PRODUCTS_A_CALL.index(products)) * _APART
            found = Turns(bench, server, stock, copy, products, first).run()
            _put_down(bench, what, found, table=loaded and products == PRODUCTS_A_CALL[0])


@dataclass(slots=True)
class Turns:
    """Turns of the server's callers and of SQLite alone over a copy of its file."""

    bench: CatalogBench
    server: Served
    stock: Stock
    copy: Path
    products: int
    first: int | None
    ours: list[float] = field(default_factory=list)
    alone: list[float] = field(default_factory=list)
    batches: list[float] = field(default_factory=list)
    sqlite: str = ""

    def run(self) -> Turns:
        """All turns; rates in products a second."""
        sizes = self.bench.sizes
        told: dict[str, Any] = {"stock": self.stock.told(), "categories": self.stock.partitions}
        told["seconds"] = sizes.seconds
        stored = [0, 0]  # new products so far, by the server's callers and by SQLite alone
        for seed in range(min(sizes.rounds, _ROUNDS)):
            before = transactions(self.server.data / FILE)
            done = self.bench.caller.do(
                "upsert",
                address=self.server.address,
                callers=sizes.callers,
                products=self.products,
                seed=seed,
                first=None if self.first is None else self.first + stored[0],
                **told,
            )
            after = transactions(self.server.data / FILE)
            if before is None or after is None or after <= before:
                raise ValueError("the size of the server's transactions cannot be told from outside")
            self.batches.append(done["upserts"] / (after - before))
            # What the server still has to do for its graphs must not slow its rival: it is held while SQLite runs.
            with _held(self.server.pid):
                batch = max(1, round(self.batches[-1]))
                rival = self.bench.alone.do(
                    "upsert",
                    path=str(self.copy),
                    batch=batch,
                    seed=seed,
                    first=None if self.first is None else self.first + stored[1],
                    **told,
                )
            self.ours.append(done["upserts"] / done["seconds"])
            self.alone.append(rival["upserts"] / rival["seconds"])
            self.sqlite = rival["sqlite"]
            stored = [stored[0] + done["upserts"], stored[1] + rival["upserts"]]
        return self


def _put_down(bench: CatalogBench, what: str, found: Turns, *, table: bool) -> None:
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
        callers=bench.sizes.callers,
        sqlite=found.sqlite,
        filesystem=_filesystem(bench.scratch),
    )
    if table:
        bench.put(UPSERTS, OURS, Cell(Spread.of(found.ours), "on disk when answered (WAL, synchronous=FULL)"))


def others_upsert(bench: CatalogBench) -> None:
    """The other indexes' updates, and what of them is on disk when they return."""
    for name, engine in bench.engines.items():
        with bench.or_skip(f"upserts of {name}"):
            about = engine.do("about")
            if not about["writes_its_files"]:
                bench.put(UPSERTS, name, Cell(None, about["durability"]))
                continue
            rates = []
            for turn in range(min(bench.sizes.rounds, 3)):
                done = engine.do("upsert", seconds=bench.sizes.seconds, callers=bench.sizes.callers, seed=100 + turn)
                rates.append(done["upserts"] / done["seconds"])
            bench.put(UPSERTS, name, Cell(Spread.of(rates), about["durability"]))


@contextmanager
def _held(pid: int) -> Iterator[None]:
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


def _filesystem(folder: Path) -> str:
    """The kind of file system that a folder is on: what "durable" means depends on it."""
    best, kind = "", "unknown"
    for line in Path("/proc/self/mounts").read_text(encoding="utf-8").splitlines():
        _, where, what, *_ = line.split()
        if folder.resolve().is_relative_to(where) and len(where) >= len(best):
            best, kind = where, what
    return kind
