"""A data folder and a model folder from before the renaming of schema 4 open as they are.

`tests/golden/data-3` has 43 products at schema version 3 and one HNSW graph, made with `tests/golden/model-1`. The
graph's file is of a format that is no longer read.
"""

from __future__ import annotations

import io
import json
import shutil
import sqlite3
from collections.abc import AsyncIterator
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image as Pillow

from lookalike.v1 import catalog_service_pb2 as pb
from lookalike.v1 import embedding_service_pb2, image_pb2, product_pb2, search_service_pb2
from lookalike_server.domain.inference import Floats, Metric
from lookalike_server.store.sqlite import FILE
from support.index_model import distance
from support.paths import GOLDEN
from support.serving import Serve, Served, raw

Rows = list[tuple[Any, ...]]


def read(folder: Path, sql: str) -> Rows:
    """Return the rows of a query over a catalog file."""
    with closing(sqlite3.connect(f"{(folder / FILE).as_uri()}?mode=ro", uri=True)) as file:
        return file.execute(sql).fetchall()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return a copy of the golden data folder."""
    return Path(shutil.copytree(GOLDEN / "data-3", tmp_path / "golden"))


@pytest.fixture
def before(folder: Path) -> dict[str, Rows]:
    """Return what the copy contains, before a server opens it."""
    return {
        "version": read(folder, "PRAGMA user_version"),
        "products": read(folder, "SELECT id, category, title, image_uri, attributes FROM products ORDER BY id"),
        "vectors": read(
            folder,
            "SELECT product_id, category, vector FROM embeddings JOIN products ON id = product_id ORDER BY label",
        ),
        "segments": read(folder, "SELECT * FROM segments"),
        "images": read(
            folder,
            "SELECT product_id, data, sha256, media_type FROM embeddings"
            " JOIN pictures ON sha256 = picture ORDER BY label",  # codespell:ignore
        ),
    }


@pytest.fixture
async def opened(serve: Serve, folder: Path, before: dict[str, Rows]) -> AsyncIterator[Served]:
    """Return a server over the copy, with a graph for the larger category."""
    settings = {"full_scan_threshold": 32, "max_segment_rows": 64, "hnsw_m": 4}
    async with serve(model=GOLDEN / "model-1", data_dir=folder, **settings) as one:
        one.app.index.wait_until_idle()
        yield one


async def test_products(opened: Served, before: dict[str, Rows], folder: Path) -> None:
    """Every product has the facts and attributes that it had, and the file is migrated."""
    listed = (await opened.catalog.ListProducts(pb.ListProductsRequest(page_size=100))).products
    assert [(each.id, each.category, each.title, each.image_uri, dict(each.attributes)) for each in listed] == [
        (*facts, json.loads(attributes)) for *facts, attributes in before["products"]
    ]
    assert {each.id for each in listed} == {f"P{n:02}" for n in range(39)} | {"H0", "H1", "H2", "V1"}
    assert (before["version"], read(folder, "PRAGMA user_version")) == ([(3,)], [(5,)])


async def test_images(opened: Served, before: dict[str, Rows]) -> None:
    """Every stored image is read byte for byte, and the old model folder embeds it as it did."""
    vectors = {product_id: np.frombuffer(blob, "<f4") for product_id, _, blob in before["vectors"]}
    assert len(before["images"]) == 42
    for product_id, data, sha256, media_type in before["images"]:
        image = await opened.catalog.GetImage(pb.GetImageRequest(id=product_id))
        assert (image.encoded, image.sha256, image.media_type) == (data, sha256, media_type)
    for product_id, data, *_ in before["images"][::8]:
        request = embedding_service_pb2.EmbedRequest(image=image_pb2.Image(encoded=data))
        embedding = (await opened.embedding.Embed(request)).embedding
        np.testing.assert_allclose(embedding, vectors[product_id], atol=1e-6)


async def test_searches(opened: Served, before: dict[str, Rows], folder: Path) -> None:
    """Searches by a graph, and exact ones, equal brute force over the old vectors; the old graph is built again."""
    categories = (await opened.catalog.ListCategories(pb.ListCategoriesRequest())).categories
    assert {each.name: each.index_kind for each in categories} == {
        "Hats": pb.INDEX_KIND_FLAT,
        "Shoes": pb.INDEX_KIND_HNSW,
    }
    rows: dict[str, list[tuple[str, Floats]]] = {}
    for product_id, category, blob in before["vectors"]:
        rows.setdefault(category, []).append((product_id, np.frombuffer(blob, "<f4")))
    chance = np.random.default_rng(1)
    for category, exact in (("Shoes", False), ("Shoes", True), ("Hats", False)):
        for _ in range(5):
            query = chance.normal(size=48).astype(np.float32)
            best: dict[str, float] = {}
            for product_id, vector in rows[category]:
                best[product_id] = min(best.get(product_id, np.inf), distance(vector, query, Metric.COSINE))
            expected = sorted((value, product_id) for product_id, value in best.items())[:10]
            request = search_service_pb2.SearchRequest(
                vector=image_pb2.Vector(values=query), category=category, k=10, exact=exact
            )
            response = await opened.search.Search(request)
            assert response.stats.exact == (exact or category == "Hats")
            assert [each.product.id for each in response.neighbors] == [product_id for _, product_id in expected]
            np.testing.assert_allclose(
                [each.distance for each in response.neighbors], [value for value, _ in expected], atol=1e-6
            )
    ((_, _, old, *_),) = before["segments"]
    assert opened.observer.unusable_files == [("Shoes", old, "an earlier version wrote it")]
    assert (opened.observer.graphs_built, opened.observer.fallbacks) == (["Shoes"], [])
    assert opened.observer.failed_files == []
    ((_, _, new, *_),) = read(folder, "SELECT * FROM segments")
    assert [path.name for path in (folder / "index").iterdir()] == [new]


async def test_idempotency_keys(opened: Served, before: dict[str, Rows]) -> None:
    """Repeats of old requests are recognized: nothing is written or embedded, and the keys are not free."""
    repeat = pb.DeleteProductsRequest(ids=["P39"], idempotency_key="delete-1")
    (deleted,) = (await opened.catalog.DeleteProducts(repeat)).results
    assert deleted.status.code == 0
    (unknown,) = (await opened.catalog.DeleteProducts(pb.DeleteProductsRequest(ids=["P39"]))).results
    assert unknown.status.code == 5  # NOT_FOUND, as it is gone
    images = {product_id: data for product_id, data, *_ in before["images"]}
    items = [
        product_pb2.ProductInput(
            id=product_id,
            category=category,
            title=title,
            image_uri=uri,
            attributes=json.loads(attributes),
            images=[raw(np.asarray(Pillow.open(io.BytesIO(images[product_id]))))],
        )
        for product_id, category, title, uri, attributes in before["products"]
        if product_id in images and product_id != "P00"  # whose attributes were updated afterwards
    ]
    assert len(items) == 41
    stored = await opened.catalog.UpsertProducts(pb.UpsertProductsRequest(products=items, idempotency_key="load-1"))
    assert [result.status.code for result in stored.results] == [0] * 41
    assert opened.observer.batches == []
    items[0].title = "Another title"
    other = await opened.catalog.UpsertProducts(pb.UpsertProductsRequest(products=items[:1], idempotency_key="load-1"))
    (result,) = other.results
    assert result.status.code == 3  # INVALID_ARGUMENT
    assert "idempotency_key" in result.status.message
