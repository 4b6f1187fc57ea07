"""Writers that know what the catalog may contain: acknowledged changes, and after a crash perhaps others."""

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
from lookalike_server.domain.inference import Floats
from support.serving import connect, until

CODES = {code.value[0]: code for code in grpc.StatusCode}
DIM = 48
CATEGORIES = ("Shoes", "Shirts", "Hats")
PATIENCE = 60.0
"""Seconds without a response after which a change fails its test."""


@dataclass(frozen=True)
class State:
    """A possible state of a product: its category, version and vectors."""

    category: str
    version: str
    vectors: tuple[tuple[float, ...], ...]


Change = Callable[[Any], Awaitable[None]]


class Rejected(Exception):  # noqa: N818 - a response, and often the correct one
    """The server rejected the change."""

    def __init__(self, code: grpc.StatusCode, message: str) -> None:
        super().__init__(f"{code.name}: {message}")
        self.code = code
        self.message = message


@dataclass
class Writer:
    """Changes its own products one after another, and knows their possible states; None is no product."""

    name: str
    random: random.Random
    known: dict[str, State | None] = field(default_factory=dict)
    open: dict[str, list[State | None]] = field(default_factory=dict)
    """Changes without an acknowledgment since the last acknowledged one."""
    acknowledged: int = 0

    async def run(self, catalog: Any) -> None:
        """Make changes until the server, or its disk, is gone."""
        with contextlib.suppress(grpc.aio.AioRpcError, Rejected):
            while True:
                await self.change(catalog)

    async def change(self, catalog: Any) -> None:
        """Make one change.

        Raises:
            Rejected: It was not made; after a crash it may be there, unless a later one was acknowledged.
            AioRpcError: The server is gone, and the change may have been made.
        """
        product_id = f"{self.name}-{self.random.randrange(6)}"
        after, change = self._next(product_id)
        self.open.setdefault(product_id, []).append(after)
        await change(catalog)
        self.known[product_id] = after
        self.open = {}
        self.acknowledged += 1

    def wrong(self, found: dict[str, State | None], *, crashed: bool) -> list[str]:
        """Return the states that are not possible; after a crash, the states found are the known ones from then on."""
        wrong = []
        for product_id in {*self.known, *self.open}:
            now = found.get(product_id)
            allowed = [self.known.get(product_id), *(self.open.get(product_id, ()) if crashed else ())]
            if now not in allowed:
                wrong.append(f"{product_id} is {now}, should be one of {allowed}")
            if crashed:
                self.known[product_id] = now
        if crashed:
            self.open = {}
        return wrong

    def _next(self, product_id: str) -> tuple[State | None, Change]:
        before = self.known.get(product_id)
        version = f"{self.name}.{self.acknowledged}.{self.random.random()}"
        kind = self.random.random()
        if before is not None and kind < 0.2:
            return None, lambda catalog: _delete(catalog, product_id)
        if before is not None and kind < 0.4:
            after = State(before.category, version, before.vectors)
            return after, lambda catalog: update_attributes(catalog, product_id, version)
        after = State(self.random.choice(CATEGORIES), version, self._vectors())
        return after, lambda catalog: _upsert(catalog, product_id, after)

    def _vectors(self) -> tuple[tuple[float, ...], ...]:
        rows = np.random.default_rng(self.random.getrandbits(32)).normal(size=(self.random.randint(1, 3), DIM))
        unit: Floats = (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)
        return tuple(tuple(row) for row in unit.tolist())


async def write_until_gone(address: str, writers: list[Writer], kill: Callable[[], None], patience: int) -> None:
    """Run all writers concurrently, and end the server once `patience` changes are acknowledged."""
    async with connect(address) as channel:
        catalog = catalog_service_pb2_grpc.CatalogServiceStub(channel)
        tasks = [asyncio.create_task(writer.run(catalog)) for writer in writers]
        before = sum(writer.acknowledged for writer in writers)
        await until(lambda: sum(writer.acknowledged for writer in writers) - before >= patience)
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
    _accepted(await catalog.UpsertProducts(pb.UpsertProductsRequest(products=[item]), timeout=PATIENCE))


async def _delete(catalog: Any, product_id: str) -> None:
    _accepted(await catalog.DeleteProducts(pb.DeleteProductsRequest(ids=[product_id]), timeout=PATIENCE))


async def update_attributes(catalog: Any, product_id: str, version: str) -> None:
    """Give a product this version.

    Raises:
        Rejected: The server rejected it.
    """
    request = pb.UpdateAttributesRequest(id=product_id, attributes={"version": version})
    try:
        await catalog.UpdateAttributes(request, timeout=PATIENCE)
    except grpc.aio.AioRpcError as error:
        if error.code() in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED):
            raise
        raise Rejected(error.code(), error.details() or "") from None


def _accepted(response: Any) -> None:
    (result,) = response.results
    if result.status.code:
        raise Rejected(CODES[result.status.code], result.status.message)
