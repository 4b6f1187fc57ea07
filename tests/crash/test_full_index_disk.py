"""The disk of the graphs is full for a while, the catalog's is not: all is served and written, no graph is kept."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from crash.disks import ext4, fill, memory
from crash.graph_variants import graph_variant
from crash.graphs import GraphCatalog
from crash.shop import CATEGORIES
from lookalike.v1 import catalog_service_pb2 as pb
from lookalike.v1 import catalog_service_pb2_grpc, image_pb2, search_service_pb2, search_service_pb2_grpc
from support.processes import SERVE, ServerProcess
from support.serving import connect, until

ROOM = 2  # MiB


@contextmanager
def _ext4(at: Path) -> Iterator[Path]:
    with ext4(at, ROOM) as disk:
        # Not its top folder: that has a `lost+found`.
        (disk.folder / "index").mkdir()
        yield disk.folder / "index"


def _memory(at: Path) -> AbstractContextManager[Path]:
    return memory(at, ROOM << 10)


async def _fill_and_free(index: Path, catalog: GraphCatalog, leave: int) -> list[str]:
    """Fill the graphs' disk, write and search until graphs are built, free it, write; say what is wrong at any time."""
    catalog.folder.mkdir()
    catalog.index.symlink_to(index)
    with catalog.served() as server:
        ballast = fill(index, leave)
        assert await catalog.change(server, 48) == []
        # Rejected, or as the control does, vouched for.
        await until(lambda: {*catalog.warned_of(), *catalog.manifest()} >= set(CATEGORIES))
        wrong = [f"no warning of {category}" for category in set(CATEGORIES) - catalog.warned_of()]
        wrong += await catalog.faults_of(server, crashed=False) + await _not_by_graph(catalog, server)
        # One that is being written is given up in a moment.
        await until(lambda: {path.name for path in index.iterdir()} == {ballast.name})
        ballast.unlink()
        assert await catalog.change(server, 48) == []
        await until(lambda: catalog.manifest().keys() == set(CATEGORIES))
        wrong += await catalog.faults_of(server, crashed=False)
    return wrong + await catalog.faults()


async def _not_by_graph(catalog: GraphCatalog, server: ServerProcess) -> list[str]:
    """Which categories are searched without a graph, and which products are not found by what they look like."""
    async with connect(server.address) as channel:
        stub = catalog_service_pb2_grpc.CatalogServiceStub(channel)
        search = search_service_pb2_grpc.SearchServiceStub(channel)
        categories = (await stub.ListCategories(pb.ListCategoriesRequest())).categories
        wrong = [f"{each.name} has no graph" for each in categories if each.index_kind != pb.INDEX_KIND_HNSW]
        for product_id, state in ((key, each) for writer in catalog.writers for key, each in writer.known.items()):
            if state is None:
                continue
            vector = image_pb2.Vector(values=state.vectors[0])
            request = search_service_pb2.SearchRequest(vector=vector, category=state.category, k=1)
            (nearest,) = (await search.Search(request)).neighbors
            if nearest.product.id != product_id or not np.isclose(nearest.distance, 0, atol=1e-5):
                wrong.append(f"{nearest} should be {product_id}")
    return wrong


@pytest.mark.parametrize(("disk", "leave"), [(_memory, 0), (_memory, 8 << 10), (_ext4, 0)])
def test_a_full_disk_of_graphs_is_in_nobodys_way(tmp_path: Path, disk: Any, leave: int) -> None:
    """Writes are acknowledged, searches right and by graph, nothing half is left; with room graphs are kept again."""
    with disk(tmp_path) as index:
        catalog = GraphCatalog(tmp_path / "data", seed=1, command=SERVE, writers=24)
        assert asyncio.run(_fill_and_free(index, catalog, leave)) == []


def test_the_suite_notices_a_server_that_vouches_for_what_had_no_room(tmp_path: Path) -> None:
    """The control: where a failed write is not looked at, graphs are vouched for, and nothing warns."""

    async def run(index: Path) -> list[str]:
        catalog = GraphCatalog(tmp_path / "data", seed=1, command=graph_variant("vouching"), writers=24)
        return await _fill_and_free(index, catalog, 0)

    with _memory(tmp_path) as index:
        faults = asyncio.run(run(index))
    assert any("no warning" in fault for fault in faults), faults
