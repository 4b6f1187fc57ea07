"""The requests of a turn, made ready or made one after the other, and their answers checked."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

from benchmarks.catalog import messages
from benchmarks.catalog.vectors import K, Stock


def searches(stock: Stock, categories: int) -> list[bytes]:
    """Every query as a request, in order."""
    queries = stock.array("queries")
    asked = []
    for at, query in enumerate(queries):
        # A query's partition is a range of rows; where categories are finer its first one is asked.
        row = at // stock.queries * stock.rows
        asked.append(messages.search_request(query, messages.category_of(stock, row, categories), K))
    return asked


def searches_in_turns(stock: Stock, categories: int) -> list[bytes]:
    """The same, a partition after the other and again: a short turn asks all of them alike."""
    asked = searches(stock, categories)
    return [asked[at] for at in stock.in_turns()]


def replacements(stock: Stock, categories: int, seed: int) -> Iterator[bytes]:
    """Random products with new vectors of their own partition, without end."""
    for row, vector in stock.replacements(seed):
        yield messages.product_request(stock, row, categories, vector)


def additions(stock: Stock, categories: int, first: int) -> Iterator[bytes]:
    """New products without end; after the last row the vectors come again under other ids."""
    rows = stock.array("rows")
    for row in itertools.count(first):
        yield messages.product_request(stock, row, categories, rows[row % stock.total])


def told_seconds(answer: bytes) -> float:
    """The seconds that an answer's stats tells."""
    found, seconds = messages.answered(answer)
    if found != K:
        raise RuntimeError(f"an answer has {found} products, not {K}")
    return seconds


def check_stored(answer: bytes) -> None:
    """Nothing, or RuntimeError when a product of an upsert was not stored."""
    if failures := messages.upsert_failures(answer):
        raise RuntimeError(f"a product was not stored: {failures[0]}")
