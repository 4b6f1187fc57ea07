"""The standard services as tools use them, reflection in both versions, and as no tool does."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import Any

import grpc
import pytest
from google.protobuf.descriptor_pb2 import FileDescriptorProto
from google.protobuf.message import Message
from google.rpc import error_details_pb2
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2

from lookalike_server.domain.events import CallCompleted
from lookalike_server.rpc.draining import Draining
from lookalike_server.rpc.health_reflection import MAX_OPEN_STREAMS, MAX_REQUEST_BYTES, HealthService, add_reflection
from lookalike_server.rpc.server import SERVICES
from support.fakes import RecordingObserver
from support.serving import Serve, Served, connect
from support.unread_stream import unread_stream

INVALID_ARGUMENT = 3
NOT_FOUND = 5

HEALTH = "/grpc.health.v1.Health"
MALFORMED = (
    b"\xff",
    b"\x0a\x05ab",
    b"\x0b" * 200,
    health_pb2.HealthCheckRequest(service="x" * MAX_REQUEST_BYTES).SerializeToString(),
)
"""No message of these services: broken, cut off, nested, too long."""

NOT_UTF8 = b"\x0a\x02\xff\xfe", b"\x1a\x02\xff\xfe"
"""Names that are not UTF-8: of a service whose health is asked, and of a file."""


def method(served: Served, name: str) -> Any:
    """Return a method that takes and returns bytes; any method can be called as if it streamed both."""
    channel: Any = served.channel
    return channel.stream_stream(name, request_serializer=bytes, response_deserializer=bytes)


async def status(call: Any) -> tuple[grpc.StatusCode, str]:
    """Return the code and details of a call that must fail before it responds."""
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call.read()
    return caught.value.code(), caught.value.details() or ""


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
    """Health's List has the status of the server, of each service and of what probes ask for."""
    stub: Any = health_pb2_grpc.HealthStub(served.channel)
    messages: Any = health_pb2  # the type stubs are older than List
    answer = await stub.List(messages.HealthListRequest())
    serving = health_pb2.HealthCheckResponse.SERVING
    names = ("", "liveness", "readiness", "startup", *SERVICES)
    assert {name: health.status for name, health in answer.statuses.items()} == dict.fromkeys(names, serving)


@pytest.mark.parametrize(
    ("name", "data"),
    [
        *((name, data) for name in ("Check", "List", "Watch") for data in MALFORMED),
        *((name, NOT_UTF8[0]) for name in ("Check", "Watch")),
    ],
)
async def test_malformed_health_requests(served: Served, name: str, data: bytes) -> None:
    """A health request that is malformed or over 64 KiB is INVALID_ARGUMENT, in words of ours."""
    code, details = await status(method(served, f"{HEALTH}/{name}")([data]))
    assert code == grpc.StatusCode.INVALID_ARGUMENT
    assert "at most 65536 bytes" in details
    assert "class" not in details


@pytest.mark.parametrize("name", ["Check", "List", "Watch"])
async def test_no_health_request(served: Served, name: str) -> None:
    """A health call that ends without a request is INVALID_ARGUMENT at once, not held until its deadline."""
    code, _ = await status(method(served, f"{HEALTH}/{name}")([]))
    assert code == grpc.StatusCode.INVALID_ARGUMENT


@pytest.mark.parametrize("name", ["Check", "List", "Watch"])
async def test_health_requests_that_never_arrive(name: str) -> None:
    """A health call that sends nothing, and does not end, is DEADLINE_EXCEEDED after a while of the server's own."""
    server = grpc.aio.server()
    HealthService(RecordingObserver(), Draining(), read_seconds=0.0).add_to(server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    channel: Any
    async with connect(f"127.0.0.1:{port}") as channel:
        call = channel.stream_stream(f"{HEALTH}/{name}")()
        code, _ = await status(call)
    await server.stop(None)
    assert code == grpc.StatusCode.DEADLINE_EXCEEDED


async def test_unknown_services_have_no_health(served: Served) -> None:
    """Check of an unknown service is NOT_FOUND; Watch says SERVICE_UNKNOWN, and waits."""
    stub: Any = health_pb2_grpc.HealthStub(served.channel)
    request = health_pb2.HealthCheckRequest(service="nope")
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await stub.Check(request)
    assert caught.value.code() == grpc.StatusCode.NOT_FOUND
    watch = stub.Watch(request)
    assert (await watch.read()).status == health_pb2.HealthCheckResponse.SERVICE_UNKNOWN
    watch.cancel()


async def test_watch_follows(served: Served) -> None:
    """Watch has the status at once, and each later one."""
    stub: Any = health_pb2_grpc.HealthStub(served.channel)
    watch = stub.Watch(health_pb2.HealthCheckRequest(service=SERVICES[0]))
    assert (await watch.read()).status == health_pb2.HealthCheckResponse.SERVING
    await served.app.server.suspend()
    assert (await watch.read()).status == health_pb2.HealthCheckResponse.NOT_SERVING
    await served.app.server.open()
    assert (await watch.read()).status == health_pb2.HealthCheckResponse.SERVING
    watch.cancel()


async def test_hang_hides_serving_only(served: Served) -> None:
    """While something hangs, Check, List and Watch say NOT_SERVING, then the status that was set meanwhile."""
    stub: Any = health_pb2_grpc.HealthStub(served.channel)
    request = health_pb2.HealthCheckRequest()
    watch = stub.Watch(request)
    assert (await watch.read()).status == health_pb2.HealthCheckResponse.SERVING
    server = served.app.server
    server.report_hang(hung=True)
    assert (await watch.read()).status == health_pb2.HealthCheckResponse.NOT_SERVING
    assert (await stub.Check(request)).status == health_pb2.HealthCheckResponse.NOT_SERVING
    messages: Any = health_pb2  # the type stubs are older than List
    listed = (await stub.List(messages.HealthListRequest())).statuses
    serving = {name for name, each in listed.items() if each.status == health_pb2.HealthCheckResponse.SERVING}
    assert serving == {"startup"}
    server.report_hang(hung=False)
    assert (await watch.read()).status == health_pb2.HealthCheckResponse.SERVING
    server.report_hang(hung=True)
    await server.suspend()
    server.report_hang(hung=False)
    assert (await stub.Check(request)).status == health_pb2.HealthCheckResponse.NOT_SERVING
    watch.cancel()


async def test_a_watcher_that_never_reads(serve: Serve) -> None:
    """A watcher that never reads delays neither a change of the status nor other watchers, and may go: no fault."""
    async with serve() as served:
        stub: Any = health_pb2_grpc.HealthStub(served.channel)
        async with unread_stream(served.app.port, f"{HEALTH}/Watch", b""), asyncio.timeout(20):
            watch = stub.Watch(health_pb2.HealthCheckRequest())
            assert (await watch.read()).status == health_pb2.HealthCheckResponse.SERVING
            await served.app.server.suspend()
            assert (await watch.read()).status == health_pb2.HealthCheckResponse.NOT_SERVING
            watch.cancel()
    assert served.observer.of(CallCompleted) == []


async def test_open_streams_are_bounded(serve: Serve) -> None:
    """One more Watch than may be open is RESOURCE_EXHAUSTED, Check goes on, and those that end make room."""
    async with serve(max_streams_per_connection=2 * MAX_OPEN_STREAMS) as served:
        await check_open_streams(served)


async def check_open_streams(served: Served) -> None:
    """Open too many streams on one connection."""
    stub: Any = health_pb2_grpc.HealthStub(served.channel)
    watches = [stub.Watch(health_pb2.HealthCheckRequest()) for _ in range(MAX_OPEN_STREAMS)]
    for watch in watches:
        await watch.read()
    code, details = await status(stub.Watch(health_pb2.HealthCheckRequest()))
    assert code == grpc.StatusCode.RESOURCE_EXHAUSTED
    assert "1000" in details
    assert (await stub.Check(health_pb2.HealthCheckRequest())).status == health_pb2.HealthCheckResponse.SERVING
    for watch in watches:
        watch.cancel()
    async with asyncio.timeout(20):
        while True:
            # Rejected until the server has heard of the ends.
            with suppress(grpc.aio.AioRpcError):
                await stub.Watch(health_pb2.HealthCheckRequest()).read()
                break


@pytest.mark.parametrize("data", [*MALFORMED, NOT_UTF8[1]])
@pytest.mark.parametrize("version", ["v1", "v1alpha"])
async def test_malformed_reflection_requests_fail_alone(served: Served, version: str, data: bytes) -> None:
    """A malformed request has INVALID_ARGUMENT as its own response, and those around it are answered."""
    good = reflection_pb2.ServerReflectionRequest(list_services="").SerializeToString()
    call = method(served, f"/grpc.reflection.{version}.ServerReflection/ServerReflectionInfo")([good, data, good])
    first, failed, last = [reflection_pb2.ServerReflectionResponse.FromString(await call.read()) for _ in range(3)]
    assert first == last
    assert first.list_services_response.service
    assert failed.error_response.error_code == INVALID_ARGUMENT
    assert "class" not in failed.error_response.error_message


@pytest.mark.parametrize("name", ["", "..", "\0", "../../etc/passwd", "lookalike.v1.Nope.", "ü", "x" * 60_000])
async def test_strange_names_are_not_found(reflection: Reflection, name: str) -> None:
    """Files, symbols, extensions and types of names that nothing can have are NOT_FOUND."""
    for number in (0, -1, 2**31 - 1):
        extension = reflection_pb2.ExtensionRequest(containing_type=name, extension_number=number)
        answer = await reflection.call(file_containing_extension=extension)
        assert answer.error_response.error_code == NOT_FOUND
    for field in ("file_by_filename", "file_containing_symbol", "all_extension_numbers_of_type"):
        assert (await reflection.call(**{field: name})).error_response.error_code == NOT_FOUND


@pytest.mark.parametrize("name", ["lookalike.v1.SearchService", "lookalike.v1.Metric", "lookalike.v1.Search.nope"])
async def test_extensions_of_no_message_are_not_found(reflection: Reflection, name: str) -> None:
    """Extensions of a service, an enum or nothing are NOT_FOUND."""
    extension = reflection_pb2.ExtensionRequest(containing_type=name, extension_number=1)
    assert (await reflection.call(file_containing_extension=extension)).error_response.error_code == NOT_FOUND
    assert (await reflection.call(all_extension_numbers_of_type=name)).error_response.error_code == NOT_FOUND


async def test_faults_stay_in_the_log() -> None:
    """An error in these services is INTERNAL without its class or text, which are reported to the observer."""
    observer = RecordingObserver()
    server = grpc.aio.server()
    health = HealthService(observer, Draining())
    health.set("", "no status")
    health.add_to(server)
    add_reflection((), server, observer, Draining())
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    async with connect(f"127.0.0.1:{port}") as channel:
        stub: Any = health_pb2_grpc.HealthStub(channel)
        for method in (stub.Check, stub.Watch):
            call = method(health_pb2.HealthCheckRequest())
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await (call if method is stub.Check else call.read())
            assert caught.value.code() == grpc.StatusCode.INTERNAL
            assert "no status" not in (caught.value.details() or "")
    await server.stop(None)
    assert [event.method for event in observer.of(CallCompleted)] == ["Check", "Watch"]
    assert all("no status" in str(event.fault) for event in observer.of(CallCompleted))


async def test_probes_say_what_their_names_mean() -> None:
    """A start and a drain are no reason to start again, nor is damage, which readiness shows; a hang is one."""
    service = HealthService(RecordingObserver(), Draining())
    server = grpc.aio.server()
    service.add_to(server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    states = health_pb2.HealthCheckResponse

    async def serving() -> set[str]:
        """Return which probes succeed."""
        async with connect(f"127.0.0.1:{port}") as channel:
            stub: Any = health_pb2_grpc.HealthStub(channel)
            names = ("liveness", "readiness", "startup")
            answers = {name: await stub.Check(health_pb2.HealthCheckRequest(service=name)) for name in names}
        return {name for name, answer in answers.items() if answer.status == states.SERVING}

    service.set("", states.NOT_SERVING)
    assert await serving() == {"liveness"}
    service.set("", states.SERVING)
    assert await serving() == {"liveness", "readiness", "startup"}
    service.report_damage(damaged=True)
    assert await serving() == {"liveness", "startup"}
    service.report_damage(damaged=False)
    service.report_hang(hung=True)
    assert await serving() == {"startup"}
    service.report_hang(hung=False)
    service.set("", states.NOT_SERVING)
    assert await serving() == {"liveness", "startup"}
    await server.stop(None)


async def test_probes_of_a_server_that_drains(served: Served) -> None:
    """A server in its lame duck is alive and has started, but is not ready."""
    stub: Any = health_pb2_grpc.HealthStub(served.channel)
    await served.app.server.announce_drain(0)
    names = ("liveness", "readiness", "startup")
    answers = [(await stub.Check(health_pb2.HealthCheckRequest(service=name))).status for name in names]
    states = health_pb2.HealthCheckResponse
    assert answers == [states.SERVING, states.NOT_SERVING, states.SERVING]
