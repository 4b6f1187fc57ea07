"""A category where many products have the same embedding, as before their images exist: is every product found?"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import grpc
import numpy as np

from benchmarks.catalog import client, messages
from benchmarks.catalog.bench import CatalogBench, at_least
from benchmarks.catalog.our_server import Served, rest
from benchmarks.catalog.search import mean_of
from benchmarks.catalog.vectors import K, VectorSet, draw_clustered
from lookalike_loadtest.requests import SEARCH

THRESHOLD = "100"  # so low that the category gets a graph
_REQUIRED = 0.999
_SECONDS = 30.0


def draw_placeholders(folder: Path, rows: int, placeholders: int, dim: int) -> tuple[VectorSet, list[int]]:
    """Draw a category and give random rows one and the same vector; return those rows too."""
    vectors = draw_clustered(folder, 1, rows, K, dim)
    same = np.random.default_rng(7).permutation(rows)[:placeholders]
    array = np.load(folder / "rows.npy", mmap_mode="r+")
    array[same] = array[same[0]]
    array.flush()
    return vectors, sorted(same.tolist())


def measure_placeholders(bench: CatalogBench, server: Served, vectors: VectorSet, same: list[int]) -> None:
    """Search by each product's own vector; record the share of products that are in the answer.

    The equal ones are found by one search that asks for all of them.
    """
    client.import_rows(server.address, vectors, 1)
    bench.rested("after the import of placeholders", rest(server, bench.sizes.rest_seconds))
    rows = vectors.array("rows")
    category = messages.category_of(vectors, 0, 1)
    found, exact = np.zeros(vectors.total), 0
    with grpc.insecure_channel(server.address) as channel:
        search: Any = channel.unary_unary(SEARCH)

        def answer(row: int, k: int) -> list[int]:
            nonlocal exact
            request = messages.search_request(rows[row], category, k)
            answered, compared_all = messages.answer_rows(search(request, timeout=_SECONDS))
            exact += compared_all
            return answered

        equal = set(same)
        found[[row for row in answer(same[0], len(same)) if row in equal]] = 1
        for row in sorted(set(range(vectors.total)) - equal):
            found[row] = row in answer(row, K)
    shares = found.tolist()
    bench.add(
        f"products found by their own vector, {len(same)} of {vectors.total} with the same",
        "all products",
        mean_of(shares, bench.sizes.rounds),
        f">= {_REQUIRED}",
        at_least(_REQUIRED),
        placeholders_found=float(found[same].mean()),
        others_found=float(np.delete(found, same).mean()),
        answers_that_compared_every_row=exact,
    )
    if exact:
        bench.skipped["placeholders"] = f"{exact} answers compared every row: no graph was searched"
