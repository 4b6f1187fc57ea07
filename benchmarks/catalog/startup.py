"""From a process's start to its first correct answer: with few categories, with many, and with no product at all."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import numpy as np

from benchmarks.catalog import messages
from benchmarks.catalog.bench import OURS, CatalogBench, Cell, at_most
from benchmarks.catalog.our_server import Served, served
from benchmarks.catalog.vectors import K, VectorSet, nearest
from benchmarks.processes import free_port
from benchmarks.rounds import Spread
from lookalike_loadtest.requests import SEARCH

START = "own files to the first correct answer, s"
_TRIED = 20  # queries tried for one whose answer is brute force's
_PAUSE = 0.01  # seconds between calls to a server that does not answer yet: the resolution of the result
_ANSWER_SECONDS = 300.0
# a connection that is rejected is tried again at once, not after gRPC's usual second
_EAGER = (
    ("grpc.initial_reconnect_backoff_ms", 20),
    ("grpc.min_reconnect_backoff_ms", 20),
    ("grpc.max_reconnect_backoff_ms", 50),
)

StartQuery = tuple[bytes, list[int]]
"""A search request and the rows that brute force finds."""


@dataclass(frozen=True, slots=True)
class Started:
    """One start, in seconds from the process's start.

    Attributes:
        answered: Until every query was answered as by brute force.
        served: Until the log said that the server serves.
        wrong: Wrong answers before that.
        exact: Correct answers for which every row was compared.
        events: The events of the log.
    """

    answered: float
    served: float
    wrong: int
    exact: int
    events: dict[str, float]


@dataclass(slots=True)
class _Seen:
    """What the querying thread has seen: wrong answers, exact ones, and when (`time.time()`) all were correct."""

    wrong: int = 0
    exact: int = 0
    done: float = 0.0


def start_queries(server: Served, vectors: VectorSet, categories: int) -> list[StartQuery]:
    """Return a query for the first, a middle and the last category, which the server answers as by brute force."""
    found: list[StartQuery] = []
    size = vectors.total // categories
    with grpc.insecure_channel(server.address) as channel:
        search: Any = channel.unary_unary(SEARCH)
        for category in sorted({0, categories // 2, categories - 1}):
            first = category * size
            partition = first // vectors.rows
            rows = np.array(vectors.array("rows")[first : first + size])
            tried = np.array(vectors.part("queries", partition)[:_TRIED])
            truth, _ = nearest(rows, tried)
            for query, right in zip(tried, truth + first, strict=True):
                name = messages.category_of(vectors, first, categories)
                request = messages.search_request(query, name, K)
                answer, _ = messages.answer_rows(search(request, timeout=30))
                if answer == right.tolist():
                    found.append((request, answer))
                    break
            else:
                raise ValueError(f"of {_TRIED} queries of category {category} none is answered as by brute force")
    return found


def first_answer(model: Path, data: Path, flags: Sequence[str], queries: Sequence[StartQuery]) -> Started:
    """Start the server, query it until its answers are correct, and end it. Without queries: until it serves."""
    port = free_port()
    stop = threading.Event()
    seen = _Seen()
    querying = threading.Thread(target=_query, args=(port, queries, stop, seen))
    querying.start()
    try:
        with served(model, data, flags, port) as server:
            querying.join(_ANSWER_SECONDS)
            if not seen.done:
                raise ValueError(f"no correct answer within {_ANSWER_SECONDS:.0f} s; {seen.wrong} wrong ones")
            events = dict(server.events)
            answered = seen.done - server.launched if queries else events["serving"]
            return Started(answered, events["serving"], seen.wrong, seen.exact, events)
    finally:
        stop.set()
        querying.join()


def starts(
    bench: CatalogBench,
    vectors: VectorSet,
    few: tuple[Path, list[StartQuery]],
    many: tuple[Path, list[StartQuery]],
    none: Path,
) -> None:
    """Measure starts with few categories, many, and an empty catalog, in turns."""
    sizes = bench.sizes
    bench.log(f"start-up: {vectors.partitions} categories, {sizes.many}, and none, in turns")
    found: dict[str, list[Started]] = {"few": [], "many": [], "none": []}
    for _ in range(sizes.starts):
        for name, (data, queries) in (("few", few), ("many", many), ("none", (none, []))):
            found[name].append(first_answer(bench.model, data, sizes.flags, queries))
    empty = [each.served for each in found["none"]]
    for name, categories, limit in (("few", vectors.partitions, 1.5), ("many", sizes.many, 0.7)):
        each = found[name]
        spread = Spread.of([one.answered for one in each])
        bench.add(
            f"start to first correct answer, {categories} categories, s",
            "process start",
            spread,
            f"<= {limit}",
            at_most(limit),
            serving=[one.served for one in each],
            wrong_answers_before=[one.wrong for one in each],
            correct_answers_that_compared_every_row=[one.exact for one in each],
            log_events=[one.events for one in each],
            rows=vectors.total,
        )
        if name == "few":
            bench.put(START, OURS, Cell(spread, "from the process's start, imports and model included"))
    bench.add(
        "start to serving, empty catalog, s", "process start", Spread.of(empty), log_events=found["none"][0].events
    )
    ratios = [many.answered / few.answered for many, few in zip(found["many"], found["few"], strict=True)]
    bench.add(
        f"start, {sizes.many} categories over {vectors.partitions}",
        "the same rows",
        Spread.of(ratios),
        "<= 1.25 (independent)",
        at_most(1.25),
    )


def _query(port: int, queries: Sequence[StartQuery], stop: threading.Event, seen: _Seen) -> None:
    """Send one query after the other until each is answered correctly; note when that was."""
    with grpc.insecure_channel(f"127.0.0.1:{port}", options=_EAGER) as channel:
        search: Any = channel.unary_unary(SEARCH)
        for request, correct in queries:
            while not stop.is_set():
                with suppress(grpc.RpcError):
                    rows, exact = messages.answer_rows(search(request, timeout=10))
                    if rows == correct:
                        seen.exact += exact
                        break
                    seen.wrong += 1
                time.sleep(_PAUSE)
    if not stop.is_set():
        seen.done = time.time()
