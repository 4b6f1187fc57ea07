"""From a process's start to its first right answer: with few categories, with many, and with no product at all."""

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
from benchmarks.catalog.vectors import K, Stock, nearest
from benchmarks.rounds import Spread
from benchmarks.systems.base import free_port

START = "own files to the first right answer, s"
_TRIED = 20  # queries tried for one whose answer is brute force's
_PAUSE = 0.01  # seconds between calls to a server that does not answer yet: the figure's grain
_ANSWER_SECONDS = 300.0
# A connection that is rejected is tried again at once, and not after gRPC's usual second.
_EAGER = (
    ("grpc.initial_reconnect_backoff_ms", 20),
    ("grpc.min_reconnect_backoff_ms", 20),
    ("grpc.max_reconnect_backoff_ms", 50),
)

Question = tuple[bytes, list[int]]
"""A search request and the rows that brute force finds."""


@dataclass(frozen=True, slots=True)
class Started:
    """One start, in seconds from the process's start.

    Attributes:
        answered: Until every query was answered as brute force does.
        served: Until the log said so.
        wrong: Answers before that which were others.
        exact: Right answers for which every row was compared.
        events: The log's.
    """

    answered: float
    served: float
    wrong: int
    exact: int
    events: dict[str, float]


@dataclass(slots=True)
class _Seen:
    """What the asking thread has seen: other answers, exact ones, and when (`time.time()`) all was right."""

    wrong: int = 0
    exact: int = 0
    done: float = 0.0


def questions(server: Served, stock: Stock, categories: int) -> list[Question]:
    """One query for the first, a middle and the last category, which the server answers as brute force does."""
    found: list[Question] = []
    size = stock.total // categories
    with grpc.insecure_channel(server.address) as channel:
        ask: Any = channel.unary_unary(messages.SEARCH)
        for category in sorted({0, categories // 2, categories - 1}):
            first = category * size
            partition = first // stock.rows
            rows = np.array(stock.array("rows")[first : first + size])
            queries = np.array(stock.part("queries", partition)[:_TRIED])
            truth, _ = nearest(rows, queries)
            for query, right in zip(queries, truth + first, strict=True):
                name = messages.category_of(stock, first, categories)
                request = messages.search_request(query, name, K)
                answer, _ = messages.answer_rows(ask(request, timeout=30))
                if answer == right.tolist():
                    found.append((request, answer))
                    break
            else:
                raise ValueError(f"of {_TRIED} queries of category {category} none is answered as by brute force")
    return found


def first_answer(model: Path, data: Path, flags: Sequence[str], asked: Sequence[Question]) -> Started:
    """Start the server, ask until it answers right, and end it. Without queries: until it serves."""
    port = free_port()
    stop = threading.Event()
    seen = _Seen()
    asking = threading.Thread(target=_ask, args=(port, asked, stop, seen))
    asking.start()
    try:
        with served(model, data, flags, port) as server:
            asking.join(_ANSWER_SECONDS)
            if not seen.done:
                raise ValueError(f"no right answer within {_ANSWER_SECONDS:.0f} s; {seen.wrong} others")
            events = dict(server.events)
            answered = seen.done - server.launched if asked else events["serving"]
            return Started(answered, events["serving"], seen.wrong, seen.exact, events)
    finally:
        stop.set()
        asking.join()


def starts(
    bench: CatalogBench, stock: Stock, few: tuple[Path, list[Question]], many: tuple[Path, list[Question]], none: Path
) -> None:
    """Starts with few categories, many, and an empty catalog, in turns."""
    sizes = bench.sizes
    bench.say(f"start-up: {stock.partitions} categories, {sizes.many}, and none, in turns")
    found: dict[str, list[Started]] = {"few": [], "many": [], "none": []}
    for _ in range(sizes.starts):
        for name, (data, asked) in (("few", few), ("many", many), ("none", (none, []))):
            found[name].append(first_answer(bench.model, data, sizes.flags, asked))
    empty = [each.served for each in found["none"]]
    for name, categories in (("few", stock.partitions), ("many", sizes.many)):
        each = found[name]
        spread = Spread.of([one.answered for one in each])
        bench.add(
            f"start to first right answer, {categories} categories, s",
            "process start",
            spread,
            "<= 3",
            at_most(3.0),
            serving=[one.served for one in each],
            answers_before_that_were_others=[one.wrong for one in each],
            right_answers_that_compared_every_row=[one.exact for one in each],
            log_events=[one.events for one in each],
            rows=stock.total,
        )
        if name == "few":
            bench.put(START, OURS, Cell(spread, "from the process's start, imports and model included"))
    bench.add(
        "start to serving, empty catalog, s", "process start", Spread.of(empty), log_events=found["none"][0].events
    )
    ratios = [many.answered / few.answered for many, few in zip(found["many"], found["few"], strict=True)]
    bench.add(
        f"start, {sizes.many} categories over {stock.partitions}",
        "the same rows",
        Spread.of(ratios),
        "<= 1.25 (independent)",
        at_most(1.25),
    )


def _ask(port: int, asked: Sequence[Question], stop: threading.Event, seen: _Seen) -> None:
    """Ask one query after the other until each is answered right; note when that was."""
    with grpc.insecure_channel(f"127.0.0.1:{port}", options=_EAGER) as channel:
        ask: Any = channel.unary_unary(messages.SEARCH)
        for request, right in asked:
            while not stop.is_set():
                with suppress(grpc.RpcError):
                    rows, exact = messages.answer_rows(ask(request, timeout=10))
                    if rows == right:
                        seen.exact += exact
                        break
                    seen.wrong += 1
                time.sleep(_PAUSE)
    if not stop.is_set():
        seen.done = time.time()
