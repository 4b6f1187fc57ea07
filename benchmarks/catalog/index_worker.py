"""The process that measures one other index: `python -m benchmarks.catalog.index_worker NAME` does its tasks."""

from __future__ import annotations

import gc
import itertools
import random
import sys
import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.catalog.index_adapters import ENGINES, PACKAGES, Engine
from benchmarks.catalog.json_pipe import work
from benchmarks.catalog.vectors import Floats, K, Stock

Answer = Mapping[str, Any]

_PATIENCE = 2.0  # times the length of a schedule, until what is late is given up


class Measured:
    """The tasks, on one engine."""

    def __init__(self, name: str) -> None:
        """Import the library."""
        self._name = name
        self._engine: Engine = ENGINES[name]()
        self._stock = Stock("", 0, 0, 0, 0)
        self._queries: list[tuple[int, Floats]] = []

    def about(self) -> Answer:
        """Its version, and what it cannot do."""
        return {
            "version": metadata.version(PACKAGES[self._name]),
            "no_updates": self._engine.no_updates,
            "durability": self._engine.durability,
            "writes_its_files": self._engine.writes_its_files,
        }

    def build(self, stock: str, folder: str, threads: int) -> Answer:
        """Index every row and write the files."""
        begun = time.perf_counter()
        self._engine.build(Stock.heard(stock), Path(folder), threads)
        return {"seconds": time.perf_counter() - begun}

    def ready(self, stock: str) -> Answer:
        """Have the queries in memory, so that what is measured after it is the index alone."""
        self._stock = Stock.heard(stock)
        queries = np.array(self._stock.array("queries"))
        self._queries = [(at // self._stock.queries, queries[at]) for at in self._stock.in_turns()]
        return {}

    def open(self, folder: str) -> Answer:
        """Read the files and answer a first query: seconds, and the answer."""
        begun = time.perf_counter()
        self._engine.open(self._stock, Path(folder))
        partition, query = self._queries[0]
        found = self._engine.search(partition, query)
        seconds = time.perf_counter() - begun
        return {"seconds": seconds, "rows": [int(row) + partition * self._stock.rows for row in found]}

    def search(self, seconds: float) -> Answer:
        """One query after the other: seconds of each."""
        gc.collect()
        search, asked = self._engine.search, itertools.cycle(self._queries)
        taken: list[float] = []
        until = time.perf_counter() + seconds
        while (begun := time.perf_counter()) < until:
            partition, query = next(asked)
            search(partition, query)
            taken.append(time.perf_counter() - begun)
        return {"seconds": taken}

    def answers(self) -> Answer:
        """Every query once, in order: row numbers over all partitions."""
        queries = self._stock.array("queries")
        rows = []
        for at in range(len(queries)):
            partition = at // self._stock.queries
            found = self._engine.search(partition, np.array(queries[at]))
            rows.append([int(row) + partition * self._stock.rows for row in found])
        return {"rows": rows}

    def pressure(self, seconds: float, searches: float, upserts: float, seed: int) -> Answer:
        """Open loops of searches and, in a thread beside them, of replacements (0: none), each so many a second."""
        gc.collect()
        asked = itertools.cycle(self._queries)
        taken: list[float] = []

        given_up = time.perf_counter() + _PATIENCE * seconds

        def search(due: float) -> None:
            if time.perf_counter() > given_up:
                taken.append(given_up - due)  # hopelessly late: it would have taken at least so long
                return
            partition, query = next(asked)
            if len(self._engine.search(partition, query)) != K:
                raise RuntimeError("an answer is too short")
            taken.append(time.perf_counter() - due)

        replace = self._replacing(seed)
        done: list[float] = []
        failures: list[Exception] = []

        def replacing() -> None:
            def once(due: float) -> None:
                del due
                replace()
                done.append(time.perf_counter())

            try:
                _open_loop(once, upserts, seconds, seed + 1, dropping=True)
            except Exception as error:  # noqa: BLE001 - it is told below
                failures.append(error)

        beside = threading.Thread(target=replacing)
        begun = time.perf_counter()
        if upserts:
            beside.start()
        _open_loop(search, searches, seconds, 1)
        if upserts:
            beside.join()
        if failures:
            raise failures[0]
        return {"seconds": taken, "upserts": len(done), "elapsed": max(done, default=begun) - begun}

    def upsert(self, seconds: float, callers: int, seed: int) -> Answer:
        """Closed loop of so many threads."""
        begun = time.perf_counter()

        def caller(number: int) -> int:
            replace, done = self._replacing(seed + number), 0
            while time.perf_counter() - begun < seconds:
                replace()
                done += 1
            return done

        with ThreadPoolExecutor(callers) as pool:
            done = sum(pool.map(caller, range(callers)))
        return {"upserts": done, "seconds": time.perf_counter() - begun}

    def _replacing(self, seed: int) -> Callable[[], None]:
        replacements = self._stock.replacements(seed)

        def replace() -> None:
            row, vector = next(replacements)
            self._engine.replace(row, np.array(vector))

        return replace


def _open_loop(act: Callable[[float], None], rate: float, seconds: float, seed: int, *, dropping: bool = False) -> None:
    """Act by a schedule (Poisson arrivals); what is late is done at once, and timed from when it was due.

    `dropping` leaves undone what is still due when the schedule is over: the rate reached is then told, and is less.
    """
    schedule = random.Random(seed)  # noqa: S311 - a load, not a secret
    begun = due = time.perf_counter()
    while (due := due + schedule.expovariate(rate)) < begun + seconds:
        if (wait := due - time.perf_counter()) > 0:
            time.sleep(wait)
        elif dropping and time.perf_counter() > begun + seconds:
            return
        act(due)


if __name__ == "__main__":
    measured = Measured(sys.argv[1])
    names = ("about", "build", "ready", "open", "search", "answers", "pressure", "upsert")
    work({name: getattr(measured, name) for name in names})
