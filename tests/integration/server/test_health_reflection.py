"""The standard services as tools use them: reflection in both versions, and health's List."""

from __future__ import annotations

from typing import Any

import pytest
from google.protobuf.descriptor_pb2 import FileDescriptorProto
from google.protobuf.message import Message
from google.rpc import error_details_pb2
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2

from lookalike_server.rpc.server import SERVICES
from support.serving import Served

NOT_FOUND = 5


class Reflection:
    """Reflection of one version on a channel; both versions have the same messages."""

    def __init__(self, served: Served, version: str) -> None:
        channel: Any = served.channel
        self._method = channel.stream_stream(
            f"/grpc.reflection.{version}.ServerReflection/ServerReflectionInfo",
            request_serializer=reflection_pb2.ServerReflectionRequest.SerializeToString,
            response_deserializer=reflection_pb2.ServerReflectionResponse.FromString,
        )

    async def call(self, **request: Any) -> reflection_pb2.ServerReflectionResponse:
        """Send one request."""
        call = self._method(iter([reflection_pb2.ServerReflectionRequest(**request)]))
        answer: reflection_pb2.ServerReflectionResponse = await call.read()
        return answer

    async def services(self) -> set[str]:
        """The names of all services."""
        answer = await self.call(list_services="")
        return {service.name for service in answer.list_services_response.service}

    async def files(self, symbol: str) -> list[FileDescriptorProto]:
        """The file that has a symbol, and those that it imports."""
        answer = await self.call(file_containing_symbol=symbol)
        return [FileDescriptorProto.FromString(file) for file in answer.file_descriptor_response.file_descriptor_proto]


@pytest.fixture(params=["v1", "v1alpha"])
def reflection(served: Served, request: pytest.FixtureRequest) -> Reflection:
    """Reflection, once in each version."""
    return Reflection(served, request.param)


async def test_services_are_listed(reflection: Reflection) -> None:
    """Every service of ours is listed, and so are health and reflection in both versions."""
    standard = {"grpc.health.v1.Health", *(f"grpc.reflection.{name}.ServerReflection" for name in ("v1", "v1alpha"))}
    assert await reflection.services() == {*SERVICES, *standard}


async def test_services_and_methods_are_found_by_name(reflection: Reflection) -> None:
    """Every listed service is described, and its methods are found by their own names, as ghz looks for them."""
    for service in await reflection.services():
        package, _, name = service.rpartition(".")
        (found,) = [
            each
            for file in await reflection.files(service)
            if file.package == package
            for each in file.service
            if each.name == name
        ]
        assert found.method
        for method in found.method:
            assert await reflection.files(f"{service}.{method.name}") == await reflection.files(service)


@pytest.mark.parametrize(
    "detail", [error_details_pb2.BadRequest(), error_details_pb2.ResourceInfo(), error_details_pb2.RetryInfo()]
)
async def test_error_details_are_known(reflection: Reflection, detail: Message) -> None:
    """The messages of our errors' details are described, though no service names them."""
    assert await reflection.files(detail.DESCRIPTOR.full_name)


@pytest.mark.parametrize("symbol", ["lookalike.v1.SearchService.Nope", "lookalike.v1.Nope", ""])
async def test_unknown_symbols_are_not_found(reflection: Reflection, symbol: str) -> None:
    """An unknown name is NOT_FOUND."""
    answer = await reflection.call(file_containing_symbol=symbol)
    assert answer.error_response.error_code == NOT_FOUND


async def test_health_lists_every_service(served: Served) -> None:
    """Health's List has the status of the server and of each service."""
    stub: Any = health_pb2_grpc.HealthStub(served.channel)
    messages: Any = health_pb2  # the type stubs are older than List
    answer = await stub.List(messages.HealthListRequest())
    serving = health_pb2.HealthCheckResponse.SERVING
    assert {name: health.status for name, health in answer.statuses.items()} == dict.fromkeys(("", *SERVICES), serving)
