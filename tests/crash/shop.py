"""Writers that know what they may find after a crash: what was acknowledged, and perhaps what was under way."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

import grpc
import numpy as np

from lookalike.v1 import catalog_service_pb2 as pb
from lookalike.v1 import catalog_service_pb2_grpc, image_pb2, product_pb2
from lookalike_server.domain import Floats
from serving import connect, until

DIM = 48
CATEGORIES = ("Shoes", "Shirts", "Hats")


@dataclass(frozen=True)
class State:
    """A product as it may be: its category, the number of its version, and its vectors."""

    category: str
    version: str
    vectors: tuple[tuple[float, ...], ...]


Change = Callable[[Any], Awaitable[None]]


@dataclass
class Writer:
    """Changes its own products one after another, and remembers what each may be: None stands for no product."""

    name: str
    random: random.Random
    known: dict[str, State | None] = field(default_factory=dict)
    under_way: dict[str, State | None] = field(default_factory=dict)
    acknowledged: int = 0

    async def run(self, catalog: Any) -> None:
        """Change until the server is gone."""
        with contextlib.suppress(grpc.aio.AioRpcError):
            while True:
                product_id = f"{self.name}-{self.random.randrange(6)}"
                after, change = self._next(product_id)
                self.under_way = {product_id: after}
                await change(catalog)
                self.known[product_id] = after
                self.under_way = {}
                self.acknowledged += 1

    def settle(self, found: dict[str, State | None]) -> list[str]:
        """Compare what was found with what may be, take it as known, and say what is wrong."""
        wrong = []
        for product_id in {*self.known, *self.under_way}:
            now = found.get(product_id)
            allowed = [self.known.get(product_id)]
            if product_id in self.under_way:
                allowed.append(self.under_way[product_id])
            if now not in allowed:
                wrong.append(f"{product_id} is {now}, should be one of {allowed}")
            self.known[product_id] = now
        self.under_way = {}
        return wrong

    def _next(self, product_id: str) -> tuple[State | None, Change]:
        before = self.known.get(product_id)
        version = f"{self.name}.{self.acknowledged}.{self.random.random()}"
        act = self.random.random()
        if before is not None and act < 0.2:
            return None, lambda catalog: _delete(catalog, product_id)
        if before is not None and act < 0.4:
            after = State(before.category, version, before.vectors)
            return after, lambda catalog: _describe(catalog, product_id, version)
        after = State(self.random.choice(CATEGORIES), version, self._vectors())
        return after, lambda catalog: _upsert(catalog, product_id, after)

    def _vectors(self) -> tuple[tuple[float, ...], ...]:
        rows = np.random.default_rng(self.random.getrandbits(32)).normal(size=(self.random.randint(1, 3), DIM))
        unit: Floats = (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)
        return tuple(tuple(row) for row in unit.tolist())


async def write_until_gone(address: str, writers: list[Writer], kill: Callable[[], None], patience: int) -> None:
    """Have all writers change their products at once, and end the server once that many changes are acknowledged."""
    async with connect(address) as channel:
        catalog = catalog_service_pb2_grpc.CatalogServiceStub(channel)
        tasks = [asyncio.create_task(writer.run(catalog)) for writer in writers]
        begun = sum(writer.acknowledged for writer in writers)
        await until(lambda: sum(writer.acknowledged for writer in writers) - begun >= patience)
        kill()
        async with asyncio.timeout(60):
            await asyncio.gather(*tasks)


async def _upsert(catalog: Any, product_id: str, state: State) -> None:
    item = product_pb2.ProductInput(
        id=product_id,
        category=state.category,
        attributes={"version": state.version},
        vectors=[image_pb2.Vector(values=vector) for vector in state.vectors],
    )
    response = await catalog.UpsertProducts(pb.UpsertProductsRequest(products=[item]))
    assert response.results[0].status.code == 0, response.results[0].status.message


async def _delete(catalog: Any, product_id: str) -> None:
    response = await catalog.DeleteProducts(pb.DeleteProductsRequest(ids=[product_id]))
    assert response.results[0].status.code == 0, response.results[0].status.message


async def _describe(catalog: Any, product_id: str, version: str) -> None:
    await catalog.UpdateAttributes(pb.UpdateAttributesRequest(id=product_id, attributes={"version": version}))
