"""What of a compressed request reaches a handler that reads bytes, where gRPC's own decompression is off."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import grpc
import pytest

from lookalike.v1 import catalog_service_pb2
from lookalike_server.domain.errors import LookalikeError
from lookalike_server.rpc.message_limits import MIB, message_limits
from lookalike_server.rpc.request_bytes import checked

METHOD = "/lookalike.v1.CatalogService/GetProduct"
LIMITS = message_limits(64 * MIB, 10 * MIB)[METHOD]
REQUEST = catalog_service_pb2.GetProductRequest(id="product " * 30).SerializeToString()


async def check(request: bytes, context: grpc.aio.ServicerContext[bytes, bytes]) -> bytes:
    """Return the first two bytes that arrived, and the request or why it is rejected."""
    try:
        return request[:2] + checked(request, LIMITS)
    except LookalikeError as error:
        return request[:2] + str(error).encode()


@pytest.fixture
async def target() -> AsyncIterator[str]:
    """Serve one method that checks the bytes as they arrive."""
    server = grpc.aio.server(options=[("grpc.per_message_decompression", 0)])
    handler: Any = grpc.unary_unary_rpc_method_handler(check)
    service, method = METHOD[1:].split("/")
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(service, {method: handler}),))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    yield f"127.0.0.1:{port}"
    await server.stop(None)


async def ask(target: str, request: bytes, compression: grpc.Compression) -> bytes:
    """Call the method, compressed."""
    async with grpc.aio.insecure_channel(target, compression=compression) as channel:
        call: Any = channel.unary_unary(METHOD)
        return bytes(await call(request))


async def test_gzip_arrives_as_it_was_sent(target: str) -> None:
    """A request that a client compresses by gzip is decompressed by us; one that is not is read as it is."""
    assert await ask(target, REQUEST, grpc.Compression.Gzip) == b"\x1f\x8b" + REQUEST
    assert await ask(target, REQUEST, grpc.Compression.NoCompression) == REQUEST[:2] + REQUEST


async def test_deflate_is_rejected(target: str) -> None:
    """A request that a client compresses by gRPC's deflate is rejected with what to send."""
    answer = await ask(target, REQUEST, grpc.Compression.Deflate)
    assert answer == b"\x78\x9c" + b"request: is compressed by deflate; send it compressed by gzip, or uncompressed"


async def test_a_bomb_is_rejected(target: str) -> None:
    """A request of 60 MB that gzip makes small is rejected by its size."""
    answer = await ask(target, bytes(60_000_000), grpc.Compression.Gzip)
    assert answer.startswith(
        b"\x1f\x8brequest: has 60,000,000 bytes when decompressed; this method takes at most 65,536"
    )
