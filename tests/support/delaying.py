"""A server with planned delays, stalls and rejections, in a process of its own; it keeps a record of them.

`python -m support.delaying PLAN` prints its port, serves until its standard input ends, and prints its record.
"""

# the names are those of the API's methods
# ruff: noqa: N802

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, cast

import grpc

from lookalike.v1 import (
    catalog_service_pb2,
    catalog_service_pb2_grpc,
    embedding_service_pb2,
    embedding_service_pb2_grpc,
    product_pb2,
    response_stats_pb2,
    search_service_pb2,
    search_service_pb2_grpc,
)


@dataclass(frozen=True)
class Plan:
    """What the server does with searches; times in seconds.

    Attributes:
        usual: The time of an answer.
        slow: The time of every `slow_every`-th answer instead.
        slow_every: 0 for none.
        stall_after: From the first search to a stall, in which no answer is sent; None for no stall.
        stall: The length of the stall.
        reject_every: Every so many searches one is rejected at once; 0 for none.
    """

    usual: float = 0.0
    slow: float = 0.0
    slow_every: int = 0
    stall_after: float | None = None
    stall: float = 1.0
    reject_every: int = 0


@dataclass
class Record:
    """How many searches the server received and rejected, and the milliseconds that each answer took."""

    received: int = 0
    rejected: int = 0
    took_ms: list[float] = field(default_factory=list)


@dataclass
class DelayingServer:
    """A running server, and its record once it has ended."""

    address: str
    process: subprocess.Popen[str]
    record: Record = field(default_factory=Record)

    def end(self) -> Record:
        """Let it end with all its calls; return its record."""
        if self.process.poll() is None:
            out, _ = self.process.communicate(timeout=60)
            self.record = Record(**json.loads(out))
        return self.record


@contextmanager
def delaying(plan: Plan) -> Iterator[DelayingServer]:
    """Run such a server until the block ends."""
    process = subprocess.Popen(
        [sys.executable, "-m", "support.delaying", json.dumps(asdict(plan))],
        env=os.environ | {"PYTHONPATH": str(Path(__file__).parents[1])},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout is not None
        yield DelayingServer(f"127.0.0.1:{int(process.stdout.readline())}", process)
    finally:
        process.kill()
        process.communicate()


class _Servicer(
    embedding_service_pb2_grpc.EmbeddingServiceServicer,
    search_service_pb2_grpc.SearchServiceServicer,
    catalog_service_pb2_grpc.CatalogServiceServicer,
):
    """Serves one product, by the plan."""

    def __init__(self, plan: Plan, record: Record) -> None:
        self._plan = plan
        self._record = record
        self._first: float | None = None

    async def GetModel(self, request: Any, context: Any) -> embedding_service_pb2.GetModelResponse:
        return embedding_service_pb2.GetModelResponse(
            name="delaying", weights="none", dim=8, input_width=8, input_height=8
        )

    async def ListCategories(self, request: Any, context: Any) -> catalog_service_pb2.ListCategoriesResponse:
        return catalog_service_pb2.ListCategoriesResponse(
            categories=[catalog_service_pb2.Category(name="Men", count=1)]
        )

    async def ListProducts(self, request: Any, context: Any) -> catalog_service_pb2.ListProductsResponse:
        return catalog_service_pb2.ListProductsResponse(products=[product_pb2.Product(id="p", category="Men")])

    async def Search(
        self, request: search_service_pb2.SearchRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> search_service_pb2.SearchResponse:
        """Answer by the plan, or reject and ask for a retry at once."""
        received = time.monotonic()
        self._first = self._first or received
        self._record.received += 1
        plan, number = self._plan, self._record.received
        if plan.reject_every and number % plan.reject_every == 0:
            self._record.rejected += 1
            context.set_trailing_metadata((("grpc-retry-pushback-ms", "1"),))
            await context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, "<b>full</b>")
        await asyncio.sleep(plan.slow if plan.slow_every and number % plan.slow_every == 0 else plan.usual)
        if plan.stall_after is not None:
            begins = self._first + plan.stall_after
            if begins <= time.monotonic() < begins + plan.stall:
                await asyncio.sleep(begins + plan.stall - time.monotonic())
        took = time.monotonic() - received
        self._record.took_ms.append(took * 1000)
        return search_service_pb2.SearchResponse(
            neighbors=[search_service_pb2.Neighbor()],
            stats=response_stats_pb2.ResponseStats(search_us=round(took * 1e6), total_us=round(took * 1e6)),
        )


async def _serve(plan: Plan) -> None:
    record = Record()
    server = grpc.aio.server(options=(("grpc.so_reuseport", 0),))
    # the methods that no load test calls are missing
    servicer = cast("Any", _Servicer)(plan, record)
    embedding_service_pb2_grpc.add_EmbeddingServiceServicer_to_server(servicer, server)
    search_service_pb2_grpc.add_SearchServiceServicer_to_server(servicer, server)
    catalog_service_pb2_grpc.add_CatalogServiceServicer_to_server(servicer, server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    print(port, flush=True)
    await asyncio.to_thread(sys.stdin.read)
    await server.stop(grace=None)
    print(json.dumps(asdict(record)), flush=True)


if __name__ == "__main__":
    asyncio.run(_serve(Plan(**json.loads(sys.argv[1]))))
