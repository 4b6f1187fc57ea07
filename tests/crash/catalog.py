"""A catalog whose server crashes and restarts, and the checks: every product, and searches against brute force."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack
from pathlib import Path
from typing import Any

import grpc
import numpy as np

from crash.shop import CATEGORIES, DIM, Rejected, State, Writer, write_until_gone
from lookalike.v1 import catalog_service_pb2 as pb
from lookalike.v1 import catalog_service_pb2_grpc, image_pb2, search_service_pb2, search_service_pb2_grpc
from lookalike_server.domain.inference import Metric
from lookalike_server.store.maintenance import verify
from support.index_model import distance
from support.paths import MODELS
from support.processes import SERVE, ServerProcess, server_process
from support.serving import connect

SETTINGS = (
    "--full-scan-threshold",
    "8",
    "--max-segment-rows",
    "64",
    "--intra-op-threads",
    "1",
    "--max-concurrent-batches",
    "1",
    "--preferred-batch-size",
    "4",
)

End = Callable[[ServerProcess], None]
"""Ends a server while it works."""


class Catalog:
    """A data folder, and the writers that know its contents."""

    def __init__(self, folder: Path, seed: int, command: tuple[str, ...] = SERVE, writers: int = 8) -> None:
        self.folder = folder
        self._command = command
        self._random = random.Random(seed)  # noqa: S311 - a test's choices
        self.writers = [
            Writer(f"w{number}", random.Random(seed * 100 + number))  # noqa: S311 - a test's choices
            for number in range(writers)
        ]

    def served(self, command: tuple[str, ...] | None = None, *more: str) -> AbstractContextManager[ServerProcess]:
        """Run a server until the end of the block, with this command or the catalog's own, and `more` settings."""
        return server_process(MODELS / "tiny", self.folder, *SETTINGS, *more, command=command or self._command)

    async def live_and_die(self, end: End) -> None:
        """Serve, change products, and end the server after some acknowledged changes."""
        with self.served() as server:
            patience = self._random.randint(1, 60)
            await write_until_gone(server.address, self.writers, lambda: end(server), patience)

    async def faults(self) -> list[str]:
        """Restart after a crash, without planted bugs, and return what is wrong."""
        with ExitStack() as stack:
            try:
                server = stack.enter_context(self.served(SERVE))
            except AssertionError as error:
                return [str(error)]
            return await self.faults_of(server, crashed=True)

    async def change(self, server: ServerProcess, times: int) -> list[Rejected]:
        """Make changes one after another, and return the rejections."""
        rejections = []
        async with connect(server.address) as channel:
            catalog = catalog_service_pb2_grpc.CatalogServiceStub(channel)
            for number in range(times):
                try:
                    await self.writers[number % len(self.writers)].change(catalog)
                except Rejected as rejected:
                    rejections.append(rejected)
        return rejections

    async def faults_of(self, server: ServerProcess, *, crashed: bool) -> list[str]:
        """Return what is wrong: unexpected products, results that differ from brute force, damage in the file."""
        async with connect(server.address) as channel:
            try:
                found = await self._found(channel)
                wrong = [fault for writer in self.writers for fault in writer.wrong(found, crashed=crashed)]
                wrong += await self._wrong_answers(channel, {key: each for key, each in found.items() if each})
            except grpc.aio.AioRpcError as error:
                wrong = [f"a read was rejected: {error.code().name}: {error.details()}"]
        return wrong + list(verify(self.folder))

    async def _found(self, channel: Any) -> dict[str, State | None]:
        """Every product, with the vectors of its expected state; the searches show whether it has them."""
        catalog = catalog_service_pb2_grpc.CatalogServiceStub(channel)
        listed = await catalog.ListProducts(pb.ListProductsRequest(page_size=1000))
        found: dict[str, State | None] = {}
        for product in listed.products:
            count = (await catalog.GetProduct(pb.GetProductRequest(id=product.id))).image_count
            version = product.attributes["version"]
            found[product.id] = next(
                (
                    state
                    for state in self._may_be(product.id)
                    if (state.category, state.version, len(state.vectors)) == (product.category, version, count)
                ),
                State(product.category, version, ()),
            )
        return found

    def _may_be(self, product_id: str) -> Iterator[State]:
        for writer in self.writers:
            for state in (writer.known.get(product_id), *writer.open.get(product_id, ())):
                if state is not None:
                    yield state

    async def _wrong_answers(self, channel: Any, found: dict[str, State]) -> list[str]:
        search = search_service_pb2_grpc.SearchServiceStub(channel)
        wrong = []
        for seed, category in enumerate((*CATEGORIES, "")):
            query = np.random.default_rng(seed).normal(size=DIM).astype(np.float32)
            expected = sorted(
                (min(distance(np.array(vector, np.float32), query, Metric.COSINE) for vector in state.vectors), key)
                for key, state in found.items()
                if state.vectors and category in ("", state.category)
            )
            if not expected:
                continue
            request = search_service_pb2.SearchRequest(
                vector=image_pb2.Vector(values=query),
                category=category,
                all_categories=not category,
                k=1000,
                exact=True,
            )
            neighbors = (await search.Search(request)).neighbors
            actual = [(neighbor.distance, neighbor.product.id) for neighbor in neighbors]
            if [key for _, key in actual] != [key for _, key in expected] or not np.allclose(
                [far for far, _ in actual], [far for far, _ in expected], atol=1e-6
            ):
                wrong.append(f"{category or 'all'}: {actual} should be {expected}")
        return wrong
