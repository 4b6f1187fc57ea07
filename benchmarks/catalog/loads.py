"""The loads of the catalog's scenarios: searches by vector and upserts, with judges of the answers."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from functools import partial

from benchmarks.catalog import messages
from benchmarks.catalog.vectors import K, VectorSet
from lookalike_loadtest.requests import SEARCH, RequestSet
from lookalike_loadtest.worker_messages import WorkerConfig


def searches(address: str, vectors: VectorSet, categories: int) -> WorkerConfig:
    """Return searches with every query in turns; the judge returns the microseconds that the server reports."""
    generate = partial(_cycle_searches, vectors, categories)
    return WorkerConfig(address, [RequestSet(SEARCH, generate=generate)], judge=_judge_search)


def replacements(address: str, vectors: VectorSet, categories: int, seed: int, products: int = 1) -> WorkerConfig:
    """Return upserts that give random products new vectors, `products` a call; the judge returns how many."""
    generate = partial(_replacements, vectors, categories, seed, products)
    return WorkerConfig(address, [RequestSet(messages.UPSERT, generate=generate)], judge=_judge_upsert)


def additions(address: str, vectors: VectorSet, categories: int, first: int, products: int) -> WorkerConfig:
    """Return upserts of new products from number `first` on, `products` a call; the judge returns how many."""
    generate = partial(_additions, vectors, categories, first, products)
    return WorkerConfig(address, [RequestSet(messages.UPSERT, generate=generate)], judge=_judge_upsert)


def search_requests(vectors: VectorSet, categories: int) -> list[bytes]:
    """Return every query as a request, in order."""
    requests = []
    for at, query in enumerate(vectors.array("queries")):
        # a query's partition is a range of rows; where categories are finer its first one is searched
        row = at // vectors.queries * vectors.rows
        requests.append(messages.search_request(query, messages.category_of(vectors, row, categories), K))
    return requests


def _cycle_searches(vectors: VectorSet, categories: int) -> Iterator[bytes]:
    requests = search_requests(vectors, categories)
    return itertools.cycle([requests[at] for at in vectors.in_turns()])


def _replacements(vectors: VectorSet, categories: int, seed: int, products: int) -> Iterator[bytes]:
    one = (messages.product_request(vectors, row, categories, vector) for row, vector in vectors.replacements(seed))
    return iter(lambda: b"".join(itertools.islice(one, products)), b"")


def _additions(vectors: VectorSet, categories: int, first: int, products: int) -> Iterator[bytes]:
    rows = vectors.array("rows")
    one = (
        messages.product_request(vectors, row, categories, rows[row % vectors.total]) for row in itertools.count(first)
    )
    return iter(lambda: b"".join(itertools.islice(one, products)), b"")


def _judge_search(answer: bytes) -> int:
    found, microseconds = messages.result_count(answer)
    if found != K:
        raise ValueError(f"the answer has {found} products, not {K}")
    return microseconds


def _judge_upsert(answer: bytes) -> int:
    count, failures = messages.upsert_results(answer)
    if failures:
        raise ValueError(f"a product was not stored: {failures[0]}")
    return count
