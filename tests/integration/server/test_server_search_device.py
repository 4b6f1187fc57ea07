"""A whole server whose large categories are searched on a device, in host memory."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import structlog

from lookalike.v1 import catalog_service_pb2, search_service_pb2
from lookalike_server.config import Settings
from lookalike_server.domain.errors import Code, LookalikeError
from lookalike_server.domain.inference import Metric, Model
from lookalike_server.engine.search_device import open_search_device
from lookalike_server.index.device import SearchDevice
from support.search_devices import host_device
from support.serving import Serve, Served, noise, product, raw
from support.store_fixtures import MODEL

PRODUCTS = 60


def on_host(_: Settings, model: Model) -> SearchDevice:
    """Open a device in host memory."""
    return host_device(model.dim)[0]


async def fill(served: Served) -> None:
    """Store products of one category."""
    products = [product(f"p{number:02}", number) for number in range(PRODUCTS)]
    await served.catalog.UpsertProducts(catalog_service_pb2.UpsertProductsRequest(products=products))
    served.app.index.wait_until_idle()


async def answers(served: Served) -> list[tuple[list[tuple[str, float]], bool]]:
    """Return what searches for new images find, and whether it is exact."""
    found = []
    for seed in range(100, 105):
        response = await served.search.Search(
            search_service_pb2.SearchRequest(image=raw(noise(seed)), category="Shoes", k=7)
        )
        found.append(([(each.product.id, each.distance) for each in response.neighbors], response.stats.exact))
    return found


async def test_a_server_that_searches_on_a_device(serve: Serve, tmp_path: Path) -> None:
    """Answers are those of comparing every row, say so, and the category has no graph; also after a restart."""
    async with serve(full_scan_threshold=10**6, data_dir=tmp_path / "other") as served:
        await fill(served)
        expected = await answers(served)
    assert all(exact for _, exact in expected)
    async with serve(full_scan_threshold=20, open_device=on_host) as served:
        await fill(served)
        assert await answers(served) == expected
    async with serve(full_scan_threshold=20, open_device=on_host) as served:
        assert await answers(served) == expected
        served.app.index.wait_until_idle()
        assert served.app.index.partitions["Shoes"].waiting == 0
        assert await answers(served) == expected
        listed = await served.catalog.ListCategories(catalog_service_pb2.ListCategoriesRequest())
        assert listed.categories[0].index_kind == catalog_service_pb2.INDEX_KIND_FLAT


async def test_a_start_without_a_gpu(serve: Serve) -> None:
    """A server that is to search on a GPU and has none does not start, and says what is missing and what to do."""
    with pytest.raises(LookalikeError, match=r"lacks CUDAExecutionProvider.*--search-device cpu searches") as error:
        async with serve(search_device="gpu"):
            pass
    assert error.value.code is Code.FAILED_PRECONDITION


def test_euclidean_distances() -> None:
    """They are searched on the CPU, and the log says why."""
    chosen: dict[str, Any] = {"model": "m", "search_device": "gpu"}
    with structlog.testing.capture_logs() as log:
        assert open_search_device(Settings(**chosen), replace(MODEL, metric=Metric.EUCLIDEAN)) is None
    assert [(each["event"], each["reason"]) for each in log] == [
        ("device_search_unavailable", "it needs the metric cosine, and the model's is euclidean")
    ]
