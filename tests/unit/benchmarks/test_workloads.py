"""The calls of the front door's workloads."""

from __future__ import annotations

from itertools import islice
from pathlib import Path

import numpy as np
import pytest
from benchmarks.environment import Model
from benchmarks.protocols import NEIGHBORS, SEARCHED
from benchmarks.servers.base import Target
from benchmarks.workloads import PRODUCTS, WORKLOADS, WRITTEN, as_echo, workload_load

from lookalike import vector_codec
from lookalike.v1 import catalog_service_pb2, search_service_pb2

MODEL = Model(Path(), "tiny", "none", "fp32", "", Path(), "images", 8, 8, "bilinear", 16)
TARGET = Target("lookalike", "127.0.0.1:1")


def test_upserts_replace_one_product_a_call_by_other_vectors() -> None:
    """Every product of the category has its turn, and is never given the vector that it has."""
    (requests,) = workload_load(WORKLOADS["upsert"], TARGET, MODEL, "jpeg").requests
    assert requests.generate is not None
    seen: dict[str, list[bytes]] = {}
    for request in islice(requests.generate(), 2 * PRODUCTS):
        (product,) = catalog_service_pb2.UpsertProductsRequest.FromString(request).products
        assert product.category == WRITTEN
        (vector,) = product.vectors
        seen.setdefault(product.id, []).append(vector.SerializeToString())
    assert len(seen) == PRODUCTS
    assert all(first != second for first, second in seen.values())


def test_searches_by_vector_look_in_the_category_that_is_left_alone() -> None:
    """No upsert changes what is searched, and every query has the model's dimensions."""
    (requests,) = workload_load(WORKLOADS["search-vector"], TARGET, MODEL, "jpeg").requests
    for template in requests.templates:
        request = search_service_pb2.SearchRequest.FromString(template.render(1))
        assert (request.category, request.k) == (SEARCHED, NEIGHBORS)
        assert np.shape(vector_codec.from_vector(request.vector)) == (MODEL.dim,)


@pytest.mark.parametrize("name", WORKLOADS)
def test_an_echo_is_sent_the_same_bytes_without_the_token(name: str) -> None:
    """Only the address, the method and the judge differ, so that both cost the generator the same."""
    load = workload_load(WORKLOADS[name], TARGET, MODEL, "raw", token="secret")
    bounced = as_echo(load, Target("echo", "127.0.0.1:2"))
    assert (load.token, bounced.token) == ("secret", None)
    assert bounced.target == "127.0.0.1:2"
    (ours,), (theirs,) = load.requests, bounced.requests
    assert theirs.method == "/benchmarks.Echo/Call"
    assert [each.render(5) for each in theirs.templates] == [each.render(5) for each in ours.templates]
    assert theirs.generate is ours.generate
