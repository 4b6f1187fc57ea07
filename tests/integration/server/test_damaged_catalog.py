"""A catalog that its disk has damaged: what the server finds by itself, and what callers and probes learn."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from lookalike.v1 import catalog_service_pb2 as pb
from lookalike.v1 import image_pb2, product_pb2, search_service_pb2
from lookalike_server.domain.catalog import EmbeddedProduct
from lookalike_server.domain.errors import LookalikeError
from lookalike_server.domain.events import CatalogChecked, CatalogDamaged, VectorDamaged
from lookalike_server.domain.inference import Floats
from lookalike_server.inference.manifest import read_model_folder
from support.paths import MODELS
from support.serving import Serve, Served, rejected, until
from support.sqlite_pages import TABLES, flip_bit, leaves, swap_pages, zero_page
from support.store_fixtures import opened, product

MODEL = read_model_folder(MODELS / "tiny").model
COUNT = 1200
NAMES = [f"p{number:04}" for number in range(COUNT)]


def unit_vectors() -> Floats:
    """Return an embedding for each product, float32 [COUNT, dim]."""
    drawn = np.random.default_rng(1).normal(size=(COUNT, MODEL.dim)).astype(np.float32)
    return np.asarray(drawn / np.linalg.norm(drawn, axis=1, keepdims=True), dtype=np.float32)


VECTORS = unit_vectors()
"""An embedding for each product."""


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Return the folder of a catalog of 1,200 products, a large category and a hundred small ones, which is closed."""
    folder = tmp_path / "data"
    with opened(folder, MODEL) as store:
        categories = ["Shoes" if number < 900 else f"c{number % 100}" for number in range(COUNT)]
        store.upsert_all(
            [
                (EmbeddedProduct(product(name, category), vector[np.newaxis]), None)
                for name, category, vector in zip(NAMES, categories, VECTORS, strict=True)
            ]
        ).result(60)
    return folder


async def nearest(served: Served, k: int = 3, **query: Any) -> list[str]:
    """Return the ids of the products that are found."""
    response = await served.search.Search(search_service_pb2.SearchRequest(k=k, **query))
    return [neighbor.product.id for neighbor in response.neighbors]


async def by_vector(served: Served, number: int, category: str) -> list[str]:
    """Return the products next to one's own embedding."""
    return await nearest(served, vector={"values": VECTORS[number].tolist()}, category=category)


async def health(served: Served) -> int:
    """Return what the health service says of the server."""
    stub: Any = health_pb2_grpc.HealthStub(served.channel)
    return int((await stub.Check(health_pb2.HealthCheckRequest())).status)


async def checked(served: Served) -> CatalogChecked:
    """Wait for the check after the start, and return its result."""
    await until(lambda: bool(served.observer.of(CatalogChecked)))
    return served.observer.of(CatalogChecked)[0]


SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING


async def test_a_whole_catalog(serve: Serve, data: Path) -> None:
    """Every embedding of a catalog that is in order is checked, and nothing is found."""
    async with serve(data_dir=data) as served:
        assert await checked(served) == CatalogChecked(COUNT, 0)
        assert await health(served) == SERVING
        assert (await by_vector(served, 7, "Shoes"))[0] == "p0007"


@pytest.mark.parametrize(("number", "category"), [(7, "Shoes"), (907, "c7")])
async def test_a_flipped_bit(serve: Serve, data: Path, number: int, category: str) -> None:
    """One flipped bit: the product is named in the log, left out of searches, and back once it is stored again."""
    name = NAMES[number]
    flip_bit(data, VECTORS[number].tobytes(), at=100)
    async with serve(data_dir=data) as served:
        assert await checked(served) == CatalogChecked(COUNT, 1)
        assert served.observer.of(VectorDamaged) == [VectorDamaged(name, 0)]
        assert await health(served) == SERVING
        assert name not in await by_vector(served, number, category)
        assert name not in await nearest(served, vector={"values": VECTORS[number].tolist()}, all_categories=True)
        code, message, _ = await rejected(served.search.Search(search_service_pb2.SearchRequest(product_id=name, k=1)))
        assert (code, repr(name) in message, "upsert the product again" in message) == (
            grpc.StatusCode.DATA_LOSS,
            True,
            True,
        )
        # It is listed, and its attributes change: only its embedding is lost.
        await served.catalog.UpdateAttributes(pb.UpdateAttributesRequest(id=name, attributes={"color": "red"}))
        assert (await served.catalog.GetProduct(pb.GetProductRequest(id=name))).product.id == name
        again = product_pb2.ProductInput(
            id=name, category=category, vectors=[image_pb2.Vector(values=VECTORS[number].tolist())]
        )
        response = await served.catalog.UpsertProducts(pb.UpsertProductsRequest(products=[again]))
        assert [result.status.code for result in response.results] == [0]
        assert (await by_vector(served, number, category))[0] == name
    async with serve(data_dir=data) as served:
        assert await checked(served) == CatalogChecked(COUNT, 0)
        assert (await by_vector(served, number, category))[0] == name


async def test_embeddings_that_traded_places(serve: Serve, data: Path) -> None:
    """Two embeddings with each other's bytes, which are all valid numbers, are both left out."""
    path = data / "catalog.sqlite"
    contents = path.read_bytes()
    one, other = VECTORS[3].tobytes(), VECTORS[1000].tobytes()
    path.write_bytes(contents.replace(one, b"?" * len(one)).replace(other, one).replace(b"?" * len(one), other))
    async with serve(data_dir=data) as served:
        assert await checked(served) == CatalogChecked(COUNT, 2)
        assert {each.product_id for each in served.observer.of(VectorDamaged)} == {NAMES[3], NAMES[1000]}
        found = await nearest(served, k=1000, vector={"values": VECTORS[3].tolist()}, all_categories=True)
        assert not {NAMES[3], NAMES[1000]} & set(found)


async def test_an_export_names_what_is_damaged(serve: Serve, data: Path) -> None:
    """An export ends before a product whose embedding is damaged, by an error that names it; it can go on after it."""
    flip_bit(data, VECTORS[7].tobytes(), at=3)
    async with serve(data_dir=data) as served:
        exported: list[str] = []

        async def export() -> None:
            async for response in served.catalog.ExportProducts(pb.ExportProductsRequest()):
                exported.append(response.product.id)  # noqa: PERF401 - what comes before the error counts

        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await export()
        assert exported == NAMES[:7]
        assert caught.value.code() == grpc.StatusCode.DATA_LOSS
        assert "'p0007'" in (caught.value.details() or "")


def middle(pages: Sequence[int]) -> int:
    """Return one that is neither first nor last, where there is one."""
    return pages[len(pages) // 2]


@pytest.mark.parametrize("tree", TABLES)
@pytest.mark.parametrize("how", ["zeroed", "swapped"])
async def test_damaged_pages(serve: Serve, data: Path, tree: str, how: str) -> None:
    """A zeroed page, or two that traded places, wherever they are: no start, or NOT_SERVING, and words that help.

    Nothing is stored from then on, and every error of a call names the command and the remedy.
    """
    pages = leaves(data, TABLES[tree])
    if how == "zeroed":
        zero_page(data, middle(pages))
    else:
        swap_pages(data, pages[0], pages[-1])
    try:
        async with serve(data_dir=data) as served:
            await until(lambda: bool(served.observer.of(CatalogDamaged)))
            (event,) = served.observer.of(CatalogDamaged)
            assert "verify" in event.remedy
            assert "backup" in event.remedy
            await until_not_serving(served)
            searches = [
                served.search.Search(search_service_pb2.SearchRequest(product_id=NAMES[number], k=3))
                for number in range(0, COUNT, 100)
            ]
            # NOT_FOUND where an index lacks a product, which only the check can know; never INTERNAL.
            codes = {await each.code() for each in searches}
            assert codes <= {grpc.StatusCode.OK, grpc.StatusCode.DATA_LOSS, grpc.StatusCode.NOT_FOUND}
            update = pb.UpdateAttributesRequest(id=NAMES[0], attributes={"color": "red"})
            code, message, _ = await rejected(served.catalog.UpdateAttributes(update))
            assert (code, "verify" in message, "backup" in message) == (grpc.StatusCode.DATA_LOSS, True, True)
    except LookalikeError as error:
        assert "verify" in error.message  # noqa: PT017 - either of two outcomes is right
        assert "backup" in error.message  # noqa: PT017


async def until_not_serving(served: Served) -> None:
    """Wait until health has heard of the damage."""
    stub: Any = health_pb2_grpc.HealthStub(served.channel)
    async for update in stub.Watch(health_pb2.HealthCheckRequest(), timeout=20):
        if update.status == NOT_SERVING:
            return
