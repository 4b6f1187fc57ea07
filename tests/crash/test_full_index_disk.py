"""The disk of the graphs is full for a while, the catalog's is not: everything works, but no graph is saved."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from itertools import chain
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

pytestmark = pytest.mark.slow

SIZE = 2  # MiB


@contextmanager
def _ext4(at: Path) -> Iterator[Path]:
    with ext4(at, SIZE) as disk:
        # Not its root, which has a `lost+found`.
        (disk.folder / "index").mkdir()
        yield disk.folder / "index"


def _memory(at: Path) -> AbstractContextManager[Path]:
    return memory(at, SIZE << 10)


async def _fill_and_free(index: Path, catalog: GraphCatalog, leave: int) -> list[str]:
    """Fill the graphs' disk, write until graphs are built, search, free it, write; return what is wrong at any time."""
    catalog.folder.mkdir()
    catalog.index.symlink_to(index)
    with catalog.served() as server:
        ballast = fill(index, leave)
        assert await catalog.change(server, 48) == []
        # A warning, or in the control, where nothing fits, a trusted file; the first rows' graph may fit into a page.
        await until(lambda: catalog.warned_of().union(() if leave else catalog.manifest()) >= set(CATEGORIES))
        wrong = [f"no warning of {category}" for category in set(CATEGORIES) - catalog.warned_of()]
        wrong += await catalog.faults_of(server, crashed=False) + await _not_by_graph(catalog, server)
        # A file that is being written will soon fail.
        await until(
            lambda: {path.name for path in index.iterdir()} <= {ballast.name, *chain(*catalog.manifest().values())}
        )
        ballast.unlink()
        assert await catalog.change(server, 48) == []
        await until(lambda: catalog.manifest().keys() == set(CATEGORIES))
        wrong += await catalog.faults_of(server, crashed=False)
    return wrong + await catalog.faults()


async def _not_by_graph(catalog: GraphCatalog, server: ServerProcess) -> list[str]:
    """Which categories are searched without a graph, and which products are not found by their own vectors."""
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


@pytest.mark.parametrize(("disk", "leave"), [(_memory, 0), (_memory, 4 << 10), (_ext4, 0)])
def test_a_full_disk_of_graphs_stops_nothing(tmp_path: Path, disk: Any, leave: int) -> None:
    """Writes are acknowledged, searches use graphs, no partial file is left; with free space graphs are saved again."""
    with disk(tmp_path) as index:
        catalog = GraphCatalog(tmp_path / "data", seed=1, command=SERVE, writers=24)
        assert asyncio.run(_fill_and_free(index, catalog, leave)) == []


def test_the_suite_notices_a_server_that_trusts_what_did_not_fit(tmp_path: Path) -> None:
    """The control: if a failed write is ignored, graph files are trusted without a warning."""

    async def run(index: Path) -> list[str]:
        catalog = GraphCatalog(tmp_path / "data", seed=1, command=graph_variant("trusted-failures"), writers=24)
        return await _fill_and_free(index, catalog, 0)

    with _memory(tmp_path) as index:
        faults = asyncio.run(run(index))
    assert any("no warning" in fault for fault in faults), faults
