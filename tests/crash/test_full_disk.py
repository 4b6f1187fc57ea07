"""The catalog's disk is full for a while: writes are rejected with a clear error, everything else works."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest

from crash.catalog import Catalog
from crash.disks import ext4, fill, memory
from crash.shop import Rejected, update_attributes
from crash.variants import variant
from lookalike.v1 import catalog_service_pb2 as pb
from lookalike.v1 import catalog_service_pb2_grpc, product_pb2
from support.processes import SERVE, ServerProcess
from support.serving import connect, encoded, noise, product, raw

pytestmark = pytest.mark.slow

FULL = grpc.StatusCode.RESOURCE_EXHAUSTED
SIZE = 8  # MiB


@contextmanager
def _ext4(at: Path) -> Iterator[Path]:
    with ext4(at, SIZE) as disk:
        yield disk.folder


def _memory(at: Path) -> AbstractContextManager[Path]:
    return memory(at, SIZE << 10)


async def _fill_and_free(disk: Path, catalog: Catalog) -> list[str]:
    """Write, fill the disk, write and read, free it, write; return what is wrong at any time."""
    with catalog.served() as server:
        assert await catalog.change(server, 12) == []
        ballast = fill(disk)
        wrong = await _rejections(catalog, server)
        wrong += await catalog.faults_of(server, crashed=False)
        ballast.unlink()
        wrong += map(str, await catalog.change(server, 12))
        wrong += await catalog.faults_of(server, crashed=False)
    return wrong + await catalog.faults()


async def _rejections(catalog: Catalog, server: ServerProcess) -> list[str]:
    """Try each kind of write, the smallest until it no longer fits, and return those without a clear error."""
    writer = next(each for each in catalog.writers if any(each.known.values()))
    product_id, state = next((key, state) for key, state in writer.known.items() if state)
    rejected = []
    async with connect(server.address) as channel:
        stub = catalog_service_pb2_grpc.CatalogServiceStub(channel)
        for number in range(1000):
            try:
                await update_attributes(stub, product_id, f"full.{number}")
            except Rejected as rejection:
                rejected.append((rejection.code.value[0], rejection.message))
                break
            writer.known[product_id] = replace(state, version=f"full.{number}")
        new = product_pb2.ProductInput(id="new", category="Shoes", images=[raw(noise(1))])
        for answer in (
            await stub.UpsertProducts(pb.UpsertProductsRequest(products=[new])),
            await stub.DeleteProducts(pb.DeleteProductsRequest(ids=[product_id])),
        ):
            status = answer.results[0].status
            assert not status.details  # it is unknown when there will be space, so there is no retry delay
            rejected.append((status.code, status.message))
    clear = [code == FULL.value[0] and "full" in message and "free some space" in message for code, message in rejected]
    return [] if clear == [True] * 3 else [f"the errors of update, upsert and delete are {rejected}"]


@pytest.mark.parametrize("disk", [_memory, _ext4])
def test_a_full_disk_rejects_writes_and_nothing_else(tmp_path: Path, disk: Any) -> None:
    """On a full disk writes are rejected with RESOURCE_EXHAUSTED, and reads work; with free space writes do too."""
    with disk(tmp_path) as folder:
        catalog = Catalog(folder / "data", seed=1, command=SERVE)
        assert asyncio.run(_fill_and_free(folder, catalog)) == []


@pytest.mark.parametrize("bug", ["swallowed", "unexplained"])
def test_the_suite_notices_a_server_without_clear_errors(tmp_path: Path, bug: str) -> None:
    """The controls: a server that acknowledges on a full disk, or rejects without a reason, is detected."""
    with _memory(tmp_path) as folder:
        catalog = Catalog(folder / "data", seed=1, command=variant(bug))
        assert asyncio.run(_fill_and_free(folder, catalog))


def test_only_what_does_not_fit_is_rejected(tmp_path: Path) -> None:
    """Images that do not fit, which fails before the commit, are rejected; a small product in the same call is not."""

    async def run(folder: Path) -> None:
        catalog = Catalog(folder / "data", seed=1)
        with catalog.served() as server:
            fill(folder, leave=1 << 20)
            images = np.random.default_rng(1).integers(0, 256, size=(2, 800, 800, 3), dtype=np.uint8)
            large = product_pb2.ProductInput(id="large", category="Shoes", images=map(encoded, images))
            async with connect(server.address) as channel:
                stub = catalog_service_pb2_grpc.CatalogServiceStub(channel)
                request = pb.UpsertProductsRequest(products=[large, product("small", 1)])
                results = (await stub.UpsertProducts(request)).results
                assert [result.status.code for result in results] == [FULL.value[0], 0], results
                found = await stub.ListProducts(pb.ListProductsRequest(page_size=10))
                assert [each.id for each in found.products] == ["small"]

    with _memory(tmp_path) as folder:
        asyncio.run(run(folder))
