"""The standard services, with what grpcio's leave out: health's List, and reflection of methods and as v1.

With reflection, grpcurl, ghz and buf curl call without the proto files and print the details of errors. No service
names the messages of those details: importing them (status.py) makes them known.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import grpc
from google.protobuf import descriptor_pb2, descriptor_pool, text_format
from google.protobuf.descriptor import FileDescriptor
from grpc_health.v1 import health, health_pb2
from grpc_reflection.v1alpha import reflection, reflection_pb2

MESSAGES: Any = health_pb2  # the type stubs are older than List
REFLECTION_V1 = "grpc.reflection.v1.ServerReflection"


class HealthService(health.aio.HealthServicer):
    """Health, with List."""

    _server_status: dict[str, int]

    async def List(self, request: Any, context: Any) -> Any:  # noqa: ARG002, N802 - the proto gives the name
        """Return the health of every service by name; the server's own name is empty."""
        known = self._server_status.items()
        return MESSAGES.HealthListResponse(
            statuses={name: MESSAGES.HealthCheckResponse(status=status) for name, status in known}
        )


class Symbols:
    """Protobuf's descriptors, where methods are found by name too, which is how ghz looks for them."""

    def __init__(self, pool: Any) -> None:
        self._pool = pool

    def __getattr__(self, name: str) -> Any:
        return getattr(self._pool, name)

    def FindFileContainingSymbol(self, symbol: str) -> FileDescriptor:  # noqa: N802 - protobuf gives the name
        """Find the file with a message, service, method ... of this full name; KeyError where there is none."""
        try:
            file: FileDescriptor = self._pool.FindFileContainingSymbol(symbol)
        except KeyError:
            file = self._pool.FindMethodByName(symbol).containing_service.file
        return file


def add_reflection(services: Iterable[str], server: grpc.aio.Server) -> None:
    """Add reflection of these services, and of itself, as v1 and as v1alpha.

    grpcio-reflection has v1alpha only (grpc/grpc#38576); tools ask for v1 first, which differs only in its name.
    """
    pool = descriptor_pool.Default()
    pool.AddSerializedFile(reflection_v1().SerializeToString())
    names = (*services, reflection.SERVICE_NAME, REFLECTION_V1)
    servicer: Any = reflection.aio.ReflectionServicer(names, Symbols(pool))
    method = grpc.stream_stream_rpc_method_handler(
        servicer.ServerReflectionInfo,
        reflection_pb2.ServerReflectionRequest.FromString,
        reflection_pb2.ServerReflectionResponse.SerializeToString,
    )
    for name in (reflection.SERVICE_NAME, REFLECTION_V1):
        handler = grpc.method_handlers_generic_handler(name, {"ServerReflectionInfo": method})
        server.add_generic_rpc_handlers((handler,))


def reflection_v1() -> descriptor_pb2.FileDescriptorProto:
    """Describe v1: v1alpha under its name."""
    alpha = descriptor_pb2.FileDescriptorProto()
    reflection_pb2.DESCRIPTOR.CopyToProto(alpha)
    text = text_format.MessageToString(alpha)
    return text_format.Parse(text.replace("v1alpha", "v1"), descriptor_pb2.FileDescriptorProto())
