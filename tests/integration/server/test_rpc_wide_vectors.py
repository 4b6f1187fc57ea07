"""Embeddings of 100,352 dimensions, as of ResNet50 without pooling, through the whole server."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest

from lookalike import vector_codec
from lookalike.v1 import catalog_service_pb2 as pb
from lookalike.v1 import embedding_service_pb2, image_pb2, product_pb2, search_service_pb2
from lookalike_server.domain.catalog import IndexKind
from support.serving import Serve, Served, noise, raw, rejected, violation
from support.wide_model import DIM, write

Array = np.ndarray[Any, np.dtype[Any]]


@pytest.fixture(params=["euclidean", "cosine"])
def metric(request: pytest.FixtureRequest) -> str:
    """How distance is measured."""
    return str(request.param)


@pytest.fixture
def model(tmp_path: Path, metric: str) -> Path:
    """Return the model's folder."""
    return write(tmp_path / "wide", metric)


def looks(count: int, seed: int, rank: int = 8) -> Array:
    """Embeddings float32 [count, DIM] in a subspace of so many dimensions, never far below zero, as after a ReLU."""
    chance = np.random.default_rng(seed)
    basis = np.random.default_rng(0).normal(size=(rank, DIM)).astype(np.float32)
    rows: Array = np.maximum(chance.normal(size=(count, rank)).astype(np.float32) @ basis, -0.1)
    return rows


def distances(rows: Array, query: Array, metric: str) -> Array:
    """Compute the distances in float64."""
    wide, wide_query = rows.astype(np.float64), query.astype(np.float64)
    if metric == "euclidean":
        return np.asarray(np.linalg.norm(wide - wide_query, axis=1))
    return np.asarray(1 - wide @ wide_query / np.linalg.norm(wide, axis=1) / np.linalg.norm(wide_query))


def of_vectors(ids: Sequence[str], rows: Array) -> list[product_pb2.ProductInput]:
    """Make a product for each row."""
    return [
        product_pb2.ProductInput(id=name, category="Shoes", vectors=[vector_codec.to_vector(row)])
        for name, row in zip(ids, rows, strict=True)
    ]


async def stored(served: Served, products: Sequence[product_pb2.ProductInput]) -> None:
    """Store products; each must succeed."""
    response = await served.catalog.UpsertProducts(pb.UpsertProductsRequest(products=products))
    assert [result.status.message for result in response.results if result.status.code] == []


async def found(served: Served, k: int = 10, **fields: Any) -> tuple[list[str], Array, bool]:
    """Search; return the ids, their distances, and whether the result is exact."""
    answer = await served.search.Search(search_service_pb2.SearchRequest(k=k, **fields))
    neighbors = answer.neighbors
    return (
        [each.product.id for each in neighbors],
        np.array([each.distance for each in neighbors]),
        answer.stats.exact,
    )


@pytest.mark.parametrize("exact", [False, True])
async def test_results_are_those_of_brute_force(serve: Serve, model: Path, metric: str, exact: bool) -> None:
    """By vector, by product and by image the ids come in the right order, with distances right to 1e-3."""
    rows = looks(64, seed=1)
    ids = [f"p{number:02}" for number in range(64)]
    async with serve(model=model) as served:
        await stored(served, of_vectors(ids, rows))
        for query in looks(3, seed=2):
            right = distances(rows, query, metric)
            order = np.argsort(right)[:10]
            names, far, was_exact = await found(
                served, vector=vector_codec.to_vector(query), category="Shoes", exact=exact
            )
            assert names == [ids[each] for each in order]
            np.testing.assert_allclose(far, right[order], rtol=1e-3)
            assert was_exact
        right = distances(rows, rows[5], metric)
        names, far, _ = await found(served, product_id="p05", exact=exact)
        assert names == [ids[each] for each in np.argsort(right)[1:11]]
        np.testing.assert_allclose(far, np.sort(right)[1:11], rtol=1e-3)


async def test_images_are_embedded_stored_and_found(serve: Serve, model: Path, metric: str) -> None:
    """An image's embedding is as long as the model says, and finds the product that was stored with that image."""
    async with serve(model=model) as served:
        images = [product_pb2.ProductInput(id=f"p{n}", category="Shoes", images=[raw(noise(n))]) for n in range(12)]
        await stored(served, images)
        rows = []
        for number in range(12):
            answer = await served.embedding.Embed(embedding_service_pb2.EmbedRequest(image=raw(noise(number))))
            rows.append(np.array(answer.embedding, dtype=np.float32))
        assert {row.shape for row in rows} == {(DIM,)}
        right = distances(np.stack(rows), rows[3], metric)
        names, far, _ = await found(served, image=raw(noise(3)), category="Shoes", k=12)
        assert names == [f"p{each}" for each in np.argsort(right)]
        np.testing.assert_allclose(far, np.sort(right), rtol=1e-3, atol=1e-6)


async def test_a_stream_in_and_a_stream_out(serve: Serve, model: Path, metric: str) -> None:
    """What an import stores, up to eight images a product, an export gives back, also after a restart."""
    rows = looks(24, seed=3)
    products = [
        product_pb2.ProductInput(
            id=f"p{number}", category="Shoes", vectors=map(vector_codec.to_vector, rows[8 * number :][:8])
        )
        for number in range(3)
    ]
    async with serve(model=model) as served:
        requests = [pb.ImportProductsRequest(product=each) for each in products]
        statuses = [each.result.status.code async for each in served.catalog.ImportProducts(iter(requests))]
        assert statuses == [0, 0, 0]
    kept = rows if metric == "euclidean" else rows / np.linalg.norm(rows, axis=1, keepdims=True)
    async with serve(model=model) as served:
        exported = [each async for each in served.catalog.ExportProducts(pb.ExportProductsRequest())]
        assert [each.product.id for each in exported] == ["p0", "p1", "p2"]
        back = np.array([vector.values for each in exported for vector in each.vectors], dtype=np.float32)
        np.testing.assert_allclose(back, kept, rtol=1e-5)
        names, _, _ = await found(
            served, vector=vector_codec.to_vector(rows[13]), category="Shoes", collapse_duplicates=True
        )
        assert names[0] == "p1"


@pytest.mark.slow
@pytest.mark.parametrize("metric", ["euclidean"], indirect=True)
async def test_a_category_above_the_full_scan_threshold(serve: Serve, model: Path, metric: str) -> None:
    """A graph is built and kept, and its results are right; after a restart they are the same."""
    rows = looks(200, seed=4)
    ids = [f"p{number:03}" for number in range(200)]
    queries = looks(3, seed=5)
    right = [distances(rows, query, metric) for query in queries]
    for again in (False, True):
        async with serve(model=model, full_scan_threshold=100) as served:
            if not again:
                for half in (slice(0, 100), slice(100, 200)):
                    await stored(served, of_vectors(ids[half], rows[half]))
            for exact in (True, False):
                for query, far in zip(queries, right, strict=True):
                    order = np.argsort(far)[:10]
                    names, distances_found, _ = await found(
                        served, vector=vector_codec.to_vector(query), category="Shoes", exact=exact
                    )
                    assert names == [ids[each] for each in order]
                    np.testing.assert_allclose(distances_found, far[order], rtol=1e-3)
                served.app.index.wait_until_idle()
            assert served.app.index.kind("Shoes") is IndexKind.HNSW
            assert served.observer.maintenance_faults == []
            assert not again or served.observer.graphs_built == []


@pytest.mark.parametrize("metric", ["cosine"], indirect=True)
async def test_a_vector_of_another_length_is_rejected(serve: Serve, model: Path) -> None:
    """The field, what is wrong, and the right length are named; the others of the call are stored."""
    async with serve(model=model) as served:
        good, bad = of_vectors(["good", "bad"], looks(2, seed=6))
        bad.vectors[0].values.append(1.0)
        response = await served.catalog.UpsertProducts(pb.UpsertProductsRequest(products=[good, bad]))
        message = response.results[1].status.message
        assert message == "products[1].vectors[0].values: has 100353 dimensions; this model's embeddings have 100352"
        assert response.results[0].status.code == 0
        nothing = search_service_pb2.SearchRequest(vector=image_pb2.Vector(), category="Shoes")
        code, _, status = await rejected(served.search.Search(nothing))
        assert code is grpc.StatusCode.INVALID_ARGUMENT
        assert violation(status) == "vector.values"


async def test_vectors_in_any_encoding(served: Served) -> None:
    """Values that are sent unpacked, and packed in parts with an unknown field between them, are the same vector."""
    values = np.random.default_rng(7).normal(size=48).astype("<f4")
    apart = b"".join(b"\x0d" + value.tobytes() for value in values)
    unknown = b"\x7a\x05later"
    parts = b"".join(b"\x0a\x60" + half.tobytes() + unknown for half in np.split(values, 2))
    for number, data in enumerate((apart, parts, unknown + apart)):
        item = product_pb2.ProductInput(id=f"p{number}", category="c", vectors=[image_pb2.Vector.FromString(data)])
        await stored(served, [item])
    names, far, _ = await found(served, vector=vector_codec.to_vector(values), category="c")
    assert names == ["p0", "p1", "p2"]
    assert np.abs(far).max() < 1e-6
