"""Exact search through the server: as many rows as are imported in a given time, searched by vector over gRPC."""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any

import grpc
import numpy as np

from benchmarks.catalog import messages
from benchmarks.catalog.vectors import Floats, K, VectorSet
from benchmarks.gpu.drawn import brute_force
from benchmarks.gpu.served import GpuServer, closed_loop
from benchmarks.load import LoadGenerator, Outcome
from benchmarks.protocols import SEARCHED
from benchmarks.rounds import Spread
from benchmarks.scenarios.bench import Result
from lookalike.v1 import search_service_pb2
from lookalike_loadtest.requests import SEARCH, RequestSet
from lookalike_loadtest.worker_messages import WorkerConfig

CONCURRENCY = (1, 64)

_OPTIONS = (("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1))
_CALL_SECONDS = 30.0
_IMPORT_SECONDS = 120.0


def import_within(server: GpuServer, rows: Floats, seconds: float) -> int:
    """Import rows into one category until the time is up, and return how many were stored.

    Raises:
        RuntimeError: A product was not stored.
    """
    until = time.perf_counter() + seconds
    vectors = VectorSet("", 1, len(rows), 0, rows.shape[1])
    requests = (messages.product_request(vectors, at, 1, row) for at, row in enumerate(rows))
    stored = 0
    with grpc.insecure_channel(server.at.address, options=_OPTIONS) as channel:
        stream: Any = channel.stream_stream(messages.IMPORT)
        for answer in stream(
            itertools.takewhile(lambda _: time.perf_counter() < until, requests), timeout=_IMPORT_SECONDS
        ):
            if failure := messages.import_failure(answer):
                raise RuntimeError(f"a product was not stored: {failure}")
            stored += 1
    return stored


def served_search(
    server: GpuServer,
    load: LoadGenerator,
    rows: Floats,
    queries: Floats,
    sample: int,
    turn: tuple[float, int],
    about: dict[str, Any],
    *,
    judged: bool,
) -> list[Result]:
    """Measure searches by vector at each concurrency, and compare the first answers with brute force.

    Args:
        server: Has the rows as products.
        load: Sends the load.
        rows: float32 [n, dim].
        queries: float32 [q, dim].
        sample: How many queries are compared with brute force.
        turn: Seconds of a turn, and how many turns.
        about: What every result has in its details.
        judged: Whether the answers came from a GPU.
    """
    name = f"search RPC, {len(rows):,} x {rows.shape[1]:,}"
    requests = [messages.search_request(query, SEARCHED, K) for query in queries]
    config = WorkerConfig(
        server.at.address, [RequestSet(SEARCH, generate=partial(_cycle, requests))], judge=_judge_exact
    )
    results = []
    for concurrency in CONCURRENCY:
        closed_loop(load, config, turn[0] / 2, concurrency)
        outcomes = [closed_loop(load, config, turn[0], concurrency) for _ in range(turn[1])]
        details = about | {"exact": [float(outcome.judged.mean()) for outcome in outcomes], "rows": len(rows)}
        details["p99_ms"] = [_percentile(outcome, 99) for outcome in outcomes]
        rates = Spread.of([outcome.throughput for outcome in outcomes])
        p50 = Spread.of([_percentile(outcome, 50) for outcome in outcomes])
        results += [
            Result(f"{name}, concurrency {concurrency}: p50, ms", "", p50, "reported", None, details),
            Result(f"{name}, concurrency {concurrency}: calls/s", "", rates, "reported", None, details),
        ]
    truth = brute_force(rows, queries[:sample], K)
    with grpc.insecure_channel(server.at.address, options=_OPTIONS) as channel:
        call: Any = channel.unary_unary(SEARCH)
        answers = [messages.answer_rows(call(request, timeout=_CALL_SECONDS)) for request in requests[:sample]]
    right = [float(truth.holds(at, found)) for at, (found, exact) in enumerate(answers) if exact]
    details = about | {"sample": sample, "exact": len(right)}
    if right:
        share = Spread(float(np.mean(right)), min(right), max(right))
        met = share.low == 1 if judged else None
        results.append(Result(f"{name}: exact answers that equal brute force", "", share, "1", met, details))
    return results


def _percentile(outcome: Outcome, at: int) -> float:
    return 1e3 * float(np.percentile(outcome.latency, at))


def _cycle(requests: Sequence[bytes]) -> Iterator[bytes]:
    return itertools.cycle(requests)


def _judge_exact(answer: bytes) -> int:
    """Return whether an answer is exact."""
    response = search_service_pb2.SearchResponse.FromString(answer)
    if len(response.neighbors) != K:
        raise ValueError(f"the answer has {len(response.neighbors)} products, not {K}")
    return int(response.stats.exact)
