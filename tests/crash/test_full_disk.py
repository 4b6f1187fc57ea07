"""The catalogue's disk is full for a while: writes are refused in words, all else goes on, and then writes too."""

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

from crash.catalogue import Catalogue
from crash.disks import ext4, fill, memory
from crash.shop import Refused, describe
from crash.variants import variant
from lookalike.v1 import catalog_service_pb2 as pb
from lookalike.v1 import catalog_service_pb2_grpc, product_pb2
from processes import SERVE, ServerProcess
from serving import connect, encoded, noise, product, raw

FULL = grpc.StatusCode.RESOURCE_EXHAUSTED
ROOM = 8  # MiB


@contextmanager
def _ext4(at: Path) -> Iterator[Path]:
    with ext4(at, ROOM) as disk:
        yield disk.folder


def _memory(at: Path) -> AbstractContextManager[Path]:
    return memory(at, ROOM << 10)


async def _fill_and_free(disk: Path, catalogue: Catalogue) -> list[str]:
    """Write, fill the disk, write and read, free it, write; say what is wrong at any time."""
    with catalogue.served() as server:
        assert await catalogue.change(server, 12) == []
        ballast = fill(disk)
        wrong = await _refusals(catalogue, server)
        wrong += await catalogue.faults_of(server, crashed=False)
        ballast.unlink()
        wrong += map(str, await catalogue.change(server, 12))
        wrong += await catalogue.faults_of(server, crashed=False)
    return wrong + await catalogue.faults()


async def _refusals(catalogue: Catalogue, server: ServerProcess) -> list[str]:
    """Try each kind of write, the smallest until there is no room for it, and say which was not refused in words."""
    writer = next(each for each in catalogue.writers if any(each.known.values()))
    product_id, state = next((key, state) for key, state in writer.known.items() if state)
    refused = []
    async with connect(server.address) as channel:
        catalog = catalog_service_pb2_grpc.CatalogServiceStub(channel)
        for number in range(1000):
            try:
                await describe(catalog, product_id, f"full.{number}")
            except Refused as refusal:
                refused.append((refusal.code.value[0], refusal.message))
                break
            writer.known[product_id] = replace(state, version=f"full.{number}")
        new = product_pb2.ProductInput(id="new", category="Shoes", images=[raw(noise(1))])
        for answer in (
            await catalog.UpsertProducts(pb.UpsertProductsRequest(products=[new])),
            await catalog.DeleteProducts(pb.DeleteProductsRequest(ids=[product_id])),
        ):
            status = answer.results[0].status
            assert not status.details  # nobody knows when there will be room, so no time is named
            refused.append((status.code, status.message))
    in_words = [code == FULL.value[0] and "full" in message and "room" in message for code, message in refused]
    return [] if in_words == [True] * 3 else [f"update, upsert and delete were answered {refused}"]


@pytest.mark.parametrize("disk", [_memory, _ext4])
def test_a_full_disk_refuses_writes_and_nothing_else(tmp_path: Path, disk: Any) -> None:
    """On a full disk writes are refused with RESOURCE_EXHAUSTED, reads and searches go on; with room writes do too."""
    with disk(tmp_path) as folder:
        catalogue = Catalogue(folder / "data", seed=1, command=SERVE)
        assert asyncio.run(_fill_and_free(folder, catalogue)) == []


@pytest.mark.parametrize("bug", ["swallowed", "unworded"])
def test_the_suite_notices_a_server_that_does_not_say_it(tmp_path: Path, bug: str) -> None:
    """The controls: a server that acknowledges on a full disk, or refuses without saying why, is found out."""
    with _memory(tmp_path) as folder:
        catalogue = Catalogue(folder / "data", seed=1, command=variant(bug))
        assert asyncio.run(_fill_and_free(folder, catalogue))


def test_what_does_not_fit_is_refused_and_what_fits_is_stored(tmp_path: Path) -> None:
    """Pictures larger than the room, which is found before the commit, are refused; a smaller product beside is not."""

    async def run(folder: Path) -> None:
        catalogue = Catalogue(folder / "data", seed=1)
        with catalogue.served() as server:
            fill(folder, leave=1 << 20)
            photos = np.random.default_rng(1).integers(0, 256, size=(2, 800, 800, 3), dtype=np.uint8)
            large = product_pb2.ProductInput(id="large", category="Shoes", images=map(encoded, photos))
            async with connect(server.address) as channel:
                catalog = catalog_service_pb2_grpc.CatalogServiceStub(channel)
                request = pb.UpsertProductsRequest(products=[large, product("small", 1)])
                results = (await catalog.UpsertProducts(request)).results
                assert [result.status.code for result in results] == [FULL.value[0], 0], results
                found = await catalog.ListProducts(pb.ListProductsRequest(page_size=10))
                assert [each.id for each in found.products] == ["small"]

    with _memory(tmp_path) as folder:
        asyncio.run(run(folder))
