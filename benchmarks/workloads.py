"""The workloads of the front door: one kind of call each, on a small catalog of drawn vectors that is stored first."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import grpc
import numpy as np

from benchmarks.catalog.messages import UPSERT, upsert_results
from benchmarks.environment import Model
from benchmarks.images import JPEG_COUNT, jpeg_template, raw_template
from benchmarks.load import ImageForm
from benchmarks.processes import StartError
from benchmarks.protocols import NEIGHBORS, PROTOCOLS, SEARCHED, field
from benchmarks.servers.base import Target
from lookalike import vector_codec
from lookalike.v1 import product_pb2
from lookalike_client.channel import call_metadata, channel_options
from lookalike_loadtest.requests import SEARCH, RequestSet, SearchScope, by_vector
from lookalike_loadtest.worker_messages import Judge, WorkerConfig

PRODUCTS = 1_000
"""Products of each of the two categories: few enough that searches compare all rows, and no graph is built."""

WRITTEN = "c001"
"""The category whose products are replaced, so that what is searched stays as it is."""

_QUERIES = 256
_A_CALL = 100  # products of an upsert that fills the catalog
_SEED = 11


@dataclass(frozen=True, slots=True)
class Workload:
    """One kind of call.

    Attributes:
        name: What the command line calls it.
        title: What the table calls it.
        runs_model: Whether each call is a run of the model.
    """

    name: str
    title: str
    runs_model: bool


WORKLOADS = {
    each.name: each
    for each in (
        Workload("search-image", "Search by image", True),
        Workload("embed", "Embed", True),
        Workload("search-vector", "Search by vector", False),
        Workload("upsert", "UpsertProducts", False),
    )
}


def workload_load(
    workload: Workload, target: Target, model: Model, form: ImageForm, token: str | None = None
) -> WorkerConfig:
    """Return the calls of a workload.

    Args:
        workload: The kind of call.
        target: Our server, with the catalog that `fill` stores.
        model: The model that it serves.
        form: Raw images of the model's size, or JPEG files.
        token: The caller's bearer token.
    """
    requests, judge = _requests(workload, model, form)
    return WorkerConfig(target.address, [requests], token=token, judge=judge)


def as_echo(load: WorkerConfig, echo: Target) -> WorkerConfig:
    """Return the same requests for an echo."""
    protocol = PROTOCOLS["echo"]
    requests = [replace(each, method=protocol.method) for each in load.requests]
    return replace(load, target=echo.address, requests=requests, judge=protocol.judge(1), token=None)


def fill(target: Target, model: Model, token: str | None = None) -> None:
    """Store the catalog that the workloads search and replace.

    Raises:
        StartError: The server does not store it.
    """
    with grpc.insecure_channel(target.address, options=channel_options(target.address)) as channel:
        upsert: Any = channel.unary_unary(UPSERT)
        for category in (SEARCHED, WRITTEN):
            heads, vectors = _heads(category), _vectors(model.dim)
            for first in range(0, PRODUCTS, _A_CALL):
                request = b"".join(_product(heads[at], vectors[at]) for at in range(first, first + _A_CALL))
                try:
                    answer = upsert(request, timeout=60, metadata=call_metadata(token))
                except grpc.RpcError as error:
                    raise StartError(f"the catalog cannot be stored: {error.details()}") from error
                _, failures = upsert_results(answer)
                if failures:
                    raise StartError(f"the catalog cannot be stored: {failures[0]}")


def _requests(workload: Workload, model: Model, form: ImageForm) -> tuple[RequestSet, Judge]:
    if workload.name == "upsert":
        return RequestSet(UPSERT, generate=partial(_replacements, model.dim)), _judge_upsert
    protocol = PROTOCOLS["lookalike" if workload.name == "embed" else "search"]
    if workload.name == "search-vector":
        queries = np.random.default_rng(_SEED + 1).standard_normal((_QUERIES, model.dim), dtype=np.float32)
        templates = [by_vector(query, SearchScope(NEIGHBORS, SEARCHED)) for query in queries]
        return RequestSet(SEARCH, templates), protocol.judge(model.dim)
    if form == "jpeg":
        templates = [jpeg_template(protocol.encoded, seed) for seed in range(JPEG_COUNT)]
    else:
        templates = [
            raw_template(lambda image: protocol.raw(image, model.height, model.width), model.height, model.width)
        ]
    return RequestSet(protocol.method, templates), protocol.judge(model.dim)


def _replacements(dim: int) -> Iterator[bytes]:
    """Yield upserts of one product each, which give every product of `WRITTEN` another's vector, round after round."""
    heads, vectors = _heads(WRITTEN), _vectors(dim)
    for number in itertools.count():
        turn, at = divmod(number, PRODUCTS)
        yield _product(heads[at], vectors[(at + turn + 1) % PRODUCTS])


def _heads(category: str) -> list[bytes]:
    return [
        product_pb2.ProductInput(
            id=f"{category}-{number:04d}",
            category=category,
            title=f"Product {number}",
            attributes={"color": "blue", "price": f"{5 + number % 95}.90"},
        ).SerializeToString()
        for number in range(PRODUCTS)
    ]


def _vectors(dim: int) -> list[bytes]:
    drawn = np.random.default_rng(_SEED).standard_normal((PRODUCTS, dim), dtype=np.float32)
    return [field(7, vector_codec.to_vector(each).SerializeToString()) for each in drawn]


def _product(head: bytes, vector: bytes) -> bytes:
    return field(1, head + vector)


def _judge_upsert(answer: bytes) -> int:
    count, failures = upsert_results(answer)
    if failures:
        raise ValueError(f"a product was not stored: {failures[0]}")
    return count
