"""Calls of the catalog's scenarios that are no load: importing every row, every query once, and embedding images."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
import numpy as np

from benchmarks.catalog import messages
from benchmarks.catalog.loads import search_requests
from benchmarks.catalog.vectors import Floats, VectorSet
from lookalike_loadtest.requests import EMBED, SEARCH

_OPTIONS = (("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1))
_CALL_SECONDS = 30.0
_IMPORT_SECONDS = 900.0
_EMBEDDED_AT_ONCE = 16


def import_rows(address: str, vectors: VectorSet, categories: int) -> Mapping[str, float]:
    """Import every row over one stream; return how many products, and the seconds until each was acknowledged.

    Raises:
        ValueError: A product was not stored.
    """
    requests = (
        messages.product_request(vectors, row, categories, vector) for row, vector in enumerate(vectors.array("rows"))
    )
    begun = time.perf_counter()
    products = 0
    with grpc.insecure_channel(address, options=_OPTIONS) as channel:
        stream: Any = channel.stream_stream(messages.IMPORT)
        for answer in stream(requests, timeout=_IMPORT_SECONDS):
            if failure := messages.import_failure(answer):
                raise ValueError(f"a product was not stored: {failure}")
            products += 1
    return {"products": products, "seconds": time.perf_counter() - begun}


def search_all(address: str, vectors: VectorSet, categories: int) -> tuple[list[list[int]], list[bool]]:
    """Send every query once; return the row numbers of each answer, and whether it was exact."""
    with grpc.insecure_channel(address, options=_OPTIONS) as channel:
        search: Any = channel.unary_unary(SEARCH)
        answers = [
            messages.answer_rows(search(request, timeout=_CALL_SECONDS))
            for request in search_requests(vectors, categories)
        ]
    return [rows for rows, _ in answers], [exact for _, exact in answers]


def embed_files(address: str, images: Sequence[Path]) -> Floats:
    """Embed image files; return float32 [images, dim]."""
    with (
        grpc.insecure_channel(address, options=_OPTIONS) as channel,
        ThreadPoolExecutor(_EMBEDDED_AT_ONCE) as threads,
    ):
        embed: Any = channel.unary_unary(EMBED)
        answers = threads.map(
            lambda image: embed(messages.embed_request(image.read_bytes()), timeout=_CALL_SECONDS), images
        )
        return np.stack([messages.embedding_of(answer) for answer in answers])
