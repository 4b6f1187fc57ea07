"""The standard services, with what grpcio's leave out: health's List, and reflection of methods and as v1.

With reflection, grpcurl, ghz and buf curl call without the proto files and print the details of errors. No service
names the messages of those details: importing them (status.py) makes them known.

Both bypass the interceptor, and anybody may call them. So what they read is small and checked here, what they keep for
a caller is bounded, and an error of theirs shows its caller nothing of the server.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from typing import Any, TypeAlias

import grpc
from google.protobuf import descriptor_pb2, descriptor_pool, text_format
from google.protobuf.descriptor import FileDescriptor
from google.protobuf.message import DecodeError
from grpc_health.v1 import health, health_pb2
from grpc_reflection.v1alpha import reflection, reflection_pb2

from lookalike_server.domain.events import CallCompleted, Observer
from lookalike_server.rpc.call_context import Context
from lookalike_server.rpc.draining import Draining
from lookalike_server.rpc.status import INTERNAL

MESSAGES: Any = health_pb2  # the type stubs are older than List
REFLECTION_V1 = "grpc.reflection.v1.ServerReflection"

READINESS = "readiness"
"""The name under which health says whether callers should come: as the server does under the empty name."""

STARTUP = "startup"
"""The name under which health says whether the server has been ready once; it then stays so."""

LIVENESS = "liveness"
"""The name under which health says whether the server is worth keeping: NOT_SERVING only while it hangs.

While it starts, drains or loads the model again, and with a damaged catalog, a new start would help nobody.
"""

MAX_REQUEST_BYTES = 64 * 1024
"""Bytes of a request: some names."""

MAX_OPEN_STREAMS = 1000
"""Streams of one method that are open at once, over all callers: Watch, and reflection of either version."""

_READ_SECONDS = 10.0
"""In which a caller of Check, List or Watch must have sent its request."""

_Serve: TypeAlias = "Callable[[Context], Awaitable[Any]]"


class HealthService:
    """Health: Check, List and Watch of services and of what probes ask for.

    A watcher that does not read misses changes; it delays nobody.

    Attributes:
        is_hung: Whether the model's run or process hangs.
        is_damaged: Whether the catalog is damaged.
    """

    def __init__(self, observer: Observer, draining: Draining, read_seconds: float = _READ_SECONDS) -> None:
        self._observer = observer
        self._draining = draining
        self._read_seconds = read_seconds
        states = MESSAGES.HealthCheckResponse
        self._statuses: dict[str, Any] = {LIVENESS: states.SERVING, STARTUP: states.NOT_SERVING}
        self.is_hung = False
        self.is_damaged = False
        self._changed = asyncio.Event()

    def set(self, service: str, status: Any) -> None:
        """Set the status of a service (empty: of the server, and so of its probes), and tell those who watch it."""
        self._statuses[service] = status
        if not service:
            self._statuses[READINESS] = status
            if status == MESSAGES.HealthCheckResponse.SERVING:
                self._statuses[STARTUP] = status
        self._tell_watchers()

    def report_hang(self, *, hung: bool) -> None:
        """Say NOT_SERVING of all but the start while the model's run or process hangs, and tell those who watch."""
        self.is_hung = hung
        self._tell_watchers()

    def report_damage(self, *, damaged: bool) -> None:
        """Say NOT_SERVING of all services while the catalog is damaged, and tell those who watch."""
        self.is_damaged = damaged
        self._tell_watchers()

    def _status(self, service: str) -> Any:
        """Return a service's status; raises KeyError where there is no such service."""
        status = self._statuses[service]
        hides = (self.is_hung and service != STARTUP) or (self.is_damaged and service not in {STARTUP, LIVENESS})
        return MESSAGES.HealthCheckResponse.NOT_SERVING if hides else status

    def _tell_watchers(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()

    def add_to(self, server: grpc.aio.Server) -> None:
        """Serve the three methods on this server."""
        unary, stream = grpc.stream_unary_rpc_method_handler, grpc.stream_stream_rpc_method_handler
        handlers: dict[str, Any] = {
            # As streaming handlers, which are the same on the wire: grpcio's unary ones parse before ours are called.
            "Check": unary(_guarded(self._check, "Check", self._observer, self._draining), None, _serialized),
            "List": unary(_guarded(self._list, "List", self._observer, self._draining), None, _serialized),
            "Watch": stream(
                _guarded(self._watch, "Watch", self._observer, self._draining, stays_open=True), None, _serialized
            ),
        }
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(health.SERVICE_NAME, handlers),))

    async def _check(self, context: Context) -> Any:
        service = (await self._read(context, MESSAGES.HealthCheckRequest)).service
        if service not in self._statuses:
            await context.abort(grpc.StatusCode.NOT_FOUND, "no such service; List lists them")
        return MESSAGES.HealthCheckResponse(status=self._status(service))

    async def _list(self, context: Context) -> Any:
        await self._read(context, MESSAGES.HealthListRequest)
        return MESSAGES.HealthListResponse(
            statuses={name: MESSAGES.HealthCheckResponse(status=self._status(name)) for name in self._statuses}
        )

    async def _watch(self, context: Context) -> None:
        service = (await self._read(context, MESSAGES.HealthCheckRequest)).service
        last = None
        while True:
            # Nothing is held or queued while a write waits for its reader: the next one has the status of then.
            changed = self._changed
            known = service in self._statuses
            status = self._status(service) if known else MESSAGES.HealthCheckResponse.SERVICE_UNKNOWN
            if status != last:
                await context.write(MESSAGES.HealthCheckResponse(status=status))
                last = status
            await changed.wait()

    async def _read(self, context: Context, message: Any) -> Any:
        """Read the one request; ends the call where there is none."""
        try:
            async with asyncio.timeout(self._read_seconds):
                data = await context.read()
        except TimeoutError:
            await context.abort(
                grpc.StatusCode.DEADLINE_EXCEEDED, f"no request arrived within {self._read_seconds:g} s"
            )
        request = None if data is grpc.aio.EOF else _parsed(data, message)
        if request is None:
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, _malformed(message))
        return request


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


def add_reflection(services: Iterable[str], server: grpc.aio.Server, observer: Observer, draining: Draining) -> None:
    """Add reflection of these services, and of itself, as v1 and as v1alpha.

    grpcio-reflection has v1alpha only (grpc/grpc#38576); tools ask for v1 first, which differs only in its name.
    """
    pool = descriptor_pool.Default()
    pool.AddSerializedFile(reflection_v1().SerializeToString())
    names = (*services, reflection.SERVICE_NAME, REFLECTION_V1)
    servicer: Any = reflection.aio.ReflectionServicer(names, Symbols(pool))

    async def info(context: Context) -> None:
        while (data := await context.read()) is not grpc.aio.EOF:
            request = _parsed(data, reflection_pb2.ServerReflectionRequest)
            if request is None:
                await context.write(_NO_REFLECTION_REQUEST)
                continue
            async for response in servicer.ServerReflectionInfo(_only(request), context):
                await context.write(response)

    method: Any = grpc.stream_stream_rpc_method_handler(
        _guarded(info, "ServerReflectionInfo", observer, draining, stays_open=True), None, _serialized
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


def _guarded(serve: _Serve, method: str, observer: Observer, draining: Draining, *, stays_open: bool = False) -> Any:
    """Return a streaming handler that shows the caller no error of ours.

    grpcio would answer the class and the text of an exception. Calls that stay open end when the server drains, and at
    most MAX_OPEN_STREAMS of them are open at once.
    """
    calls = 0

    async def serve_until_end(context: Context) -> Any:
        loop = asyncio.get_running_loop()
        until_end = asyncio.timeout(None)
        try:
            async with until_end:
                with draining.ended_by(lambda: until_end.reschedule(loop.time())):
                    return await serve(context)
        except TimeoutError:
            await context.abort(grpc.StatusCode.UNAVAILABLE, "the server is shutting down; call another one")

    async def handle(_: Any, context: Context) -> Any:
        nonlocal calls
        if stays_open and calls >= MAX_OPEN_STREAMS:
            message = f"{MAX_OPEN_STREAMS} such streams are open, which is the most; close some of them"
            await context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, message)
        calls += 1
        try:
            if stays_open:
                return await serve_until_end(context)
            draining.arrived()
            response = await serve(context)
            await draining.may_respond()
            return response  # noqa: TRY300 - an error is no response
        except (grpc.aio.AbortError, grpc.aio.InternalError):
            raise  # its status has been sent, or its caller has gone
        except Exception as error:  # noqa: BLE001 - whatever it is, the log has it and the caller not
            observer(CallCompleted(method, grpc.StatusCode.INTERNAL.name, 0.0, "", error))
            await context.abort(grpc.StatusCode.INTERNAL, INTERNAL.message)
        finally:
            calls -= 1

    return handle


def _parsed(data: bytes, message: Any) -> Any:
    """Parse a request; None where it is too large or malformed."""
    try:
        return message.FromString(data) if len(data) <= MAX_REQUEST_BYTES else None
    except DecodeError:
        return None


def _malformed(message: Any) -> str:
    name = message.DESCRIPTOR.name
    return f"request: it must be one {name} of at most {MAX_REQUEST_BYTES} bytes"


def _serialized(message: Any) -> bytes:
    data: bytes = message.SerializeToString()
    return data


async def _only(request: Any) -> AsyncIterator[Any]:
    yield request


_NO_REFLECTION_REQUEST = reflection_pb2.ServerReflectionResponse(
    error_response=reflection_pb2.ErrorResponse(
        error_code=grpc.StatusCode.INVALID_ARGUMENT.value[0],
        error_message=_malformed(reflection_pb2.ServerReflectionRequest),
    )
)
