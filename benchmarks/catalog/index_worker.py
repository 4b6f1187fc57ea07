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

from benchmarks.catalog.index_adapters import ADAPTERS, PACKAGES, IndexAdapter
from benchmarks.catalog.json_pipe import work
from benchmarks.catalog.vectors import Floats, K, VectorSet

Answer = Mapping[str, Any]

_PATIENCE = 2.0  # times the length of a schedule, until what is late is given up


class Measured:
    """The tasks, on one index."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._index: IndexAdapter = ADAPTERS[name]()
        self._vectors = VectorSet("", 0, 0, 0, 0)
        self._queries: list[tuple[int, Floats]] = []

    def about(self) -> Answer:
        """Return its version, and what it cannot do."""
        return {
            "version": metadata.version(PACKAGES[self._name]),
            "no_updates": self._index.no_updates,
            "durability": self._index.durability,
            "writes_its_files": self._index.writes_its_files,
        }

    def build(self, vectors: str, folder: str, threads: int) -> Answer:
        """Index every row and write the files."""
        begun = time.perf_counter()
        self._index.build(VectorSet.from_json(vectors), Path(folder), threads)
        return {"seconds": time.perf_counter() - begun}

    def ready(self, vectors: str) -> Answer:
        """Load the queries into memory, so that what is measured after it is the index alone."""
        self._vectors = VectorSet.from_json(vectors)
        queries = np.array(self._vectors.array("queries"))
        self._queries = [(at // self._vectors.queries, queries[at]) for at in self._vectors.in_turns()]
        return {}

    def open(self, folder: str, ef: int) -> Answer:
        """Read the files and answer a first query; return the seconds and the answer."""
        begun = time.perf_counter()
        self._index.open(self._vectors, Path(folder), ef)
        partition, query = self._queries[0]
        found = self._index.search(partition, query)
        seconds = time.perf_counter() - begun
        return {"seconds": seconds, "rows": [int(row) + partition * self._vectors.rows for row in found]}

    def search(self, seconds: float) -> Answer:
        """Search one query after the other; return the seconds of each."""
        gc.collect()
        search, queries = self._index.search, itertools.cycle(self._queries)
        taken: list[float] = []
        until = time.perf_counter() + seconds
        while (begun := time.perf_counter()) < until:
            partition, query = next(queries)
            search(partition, query)
            taken.append(time.perf_counter() - begun)
        return {"seconds": taken}

    def answers(self) -> Answer:
        """Search every query once, in order; return row numbers over all partitions."""
        queries = self._vectors.array("queries")
        rows = []
        for at in range(len(queries)):
            partition = at // self._vectors.queries
            found = self._index.search(partition, np.array(queries[at]))
            rows.append([int(row) + partition * self._vectors.rows for row in found])
        return {"rows": rows}

    def pressure(self, seconds: float, searches: float, upserts: float, seed: int) -> Answer:
        """Run open loops of searches and, in a thread beside them, of replacements (0: none), with these rates."""
        gc.collect()
        queries = itertools.cycle(self._queries)
        taken: list[float] = []

        given_up = time.perf_counter() + _PATIENCE * seconds

        def search(due: float) -> None:
            if time.perf_counter() > given_up:
                taken.append(given_up - due)  # hopelessly late: it would have taken at least so long
                return
            partition, query = next(queries)
            if len(self._index.search(partition, query)) != K:
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
            except Exception as error:  # noqa: BLE001 - it is raised below
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

    def upsert(self, seconds: float, concurrency: int, seed: int) -> Answer:
        """Upsert in a closed loop of so many threads."""
        begun = time.perf_counter()

        def repeat(number: int) -> int:
            replace, done = self._replacing(seed + number), 0
            while time.perf_counter() - begun < seconds:
                replace()
                done += 1
            return done

        with ThreadPoolExecutor(concurrency) as pool:
            done = sum(pool.map(repeat, range(concurrency)))
        return {"upserts": done, "seconds": time.perf_counter() - begun}

    def _replacing(self, seed: int) -> Callable[[], None]:
        replacements = self._vectors.replacements(seed)

        def replace() -> None:
            row, vector = next(replacements)
            self._index.replace(row, np.array(vector))

        return replace


def _open_loop(
    call: Callable[[float], None], rate: float, seconds: float, seed: int, *, dropping: bool = False
) -> None:
    """Call by a schedule (Poisson arrivals); what is late is called at once, and timed from when it was due.

    `dropping` leaves undone what is still due when the schedule is over; the rate reached is then lower.
    """
    schedule = random.Random(seed)  # noqa: S311 - a load, not a secret
    begun = due = time.perf_counter()
    while (due := due + schedule.expovariate(rate)) < begun + seconds:
        if (wait := due - time.perf_counter()) > 0:
            time.sleep(wait)
        elif dropping and time.perf_counter() > begun + seconds:
            return
        call(due)


if __name__ == "__main__":
    measured = Measured(sys.argv[1])
    names = ("about", "build", "ready", "open", "search", "answers", "pressure", "upsert")
    work({name: getattr(measured, name) for name in names})
