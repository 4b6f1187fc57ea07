"""Very many calls at once from ordinary gRPC clients, and how they ended."""

from __future__ import annotations

import asyncio
from collections import Counter
from contextlib import AsyncExitStack
from typing import Any

import grpc
from google.rpc import error_details_pb2, status_pb2

from lookalike.v1 import catalog_service_pb2, catalog_service_pb2_grpc
from support.serving import product

DEADLINE_SECONDS = 120.0


async def upserts_at_once(address: str, calls: int, channels: int) -> Counter[str]:
    """Upsert so many products at once, one a call, over so many connections; return how the calls ended.

    A rejection without a time to retry after counts as "RESOURCE_EXHAUSTED without RetryInfo".
    """
    options = (("grpc.use_local_subchannel_pool", 1), ("grpc.enable_http_proxy", 0), ("grpc.enable_retries", 0))
    request = catalog_service_pb2.UpsertProductsRequest(products=[product("p", 1)])
    async with AsyncExitStack() as stack:
        opened = [
            await stack.enter_async_context(grpc.aio.insecure_channel(address, options=options))
            for _ in range(channels)
        ]
        stubs: list[Any] = [catalog_service_pb2_grpc.CatalogServiceStub(channel) for channel in opened]
        return Counter(
            await asyncio.gather(*(_ending(stubs[at % channels].UpsertProducts, request) for at in range(calls)))
        )


async def _ending(upsert: Any, request: Any) -> str:
    try:
        await upsert(request, timeout=DEADLINE_SECONDS)
    except grpc.aio.AioRpcError as error:
        name = str(error.code().name)
        if name == "RESOURCE_EXHAUSTED" and not _has_retry_info(error):
            return f"{name} without RetryInfo"
        return name
    return "OK"


def _has_retry_info(error: grpc.aio.AioRpcError) -> bool:
    trailers = dict(error.trailing_metadata() or ())
    status = status_pb2.Status.FromString(trailers.get("grpc-status-details-bin", b""))
    return any(detail.Is(error_details_pb2.RetryInfo.DESCRIPTOR) for detail in status.details)
