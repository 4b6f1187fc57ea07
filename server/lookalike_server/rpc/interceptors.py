"""What happens around every call of ours: let in or not, counted, and its error put into gRPC's terms.

Health and reflection are not ours and pass untouched: a prober has no token, and asks most while nothing is ready.
"""

from __future__ import annotations

import asyncio
import math
import random
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from typing import Any, TypeAlias

import grpc
from google.protobuf.message import DecodeError

from lookalike_server.domain.errors import LookalikeError, deadline_exceeded, invalid
from lookalike_server.domain.events import CallCompleted, Observer
from lookalike_server.rpc.auth import Authenticator
from lookalike_server.rpc.call_context import CURRENT, Context, note_call
from lookalike_server.rpc.gate import Gate
from lookalike_server.rpc.status import CODES, abort, to_status

OURS = ("/lookalike.v1.", "/inference.GRPCInferenceService/")

PROBES = frozenset(f"{OURS[1]}{method}" for method in ("ServerLive", "ServerReady", "ModelReady"))
"""Methods that anybody may call at any time: the Open Inference Protocol's own health checks."""

REJECTED_UNREAD = frozenset({"/lookalike.v1.EmbeddingService/Embed"})
"""Methods whose calls always need the model, so that a busy server can reject them without reading the image.

gRPC reads the request of a unary handler before it calls it, and that of a streaming one when asked: these are served
by streaming handlers, which is the same on the wire. Search and ModelInfer are not among them: only their messages say
what they need.
"""

Handler: TypeAlias = "grpc.RpcMethodHandler[Any, Any]"


class _Malformed:
    """Stands for a request whose bytes are no message; gRPC would answer INTERNAL before any handler ran."""


@dataclass(slots=True)
class _Visit:
    """One call from its arrival to its end."""

    method: str
    context: Context
    metadata: tuple[tuple[str, str | bytes], ...]
    request_id: str
    arrived: float
    inside: bool = False
    code: str = "OK"
    fault: Exception | None = None


class CallGuard(grpc.aio.ServerInterceptor):
    """Wraps every handler of our services."""

    def __init__(
        self, gate: Gate, authenticator: Authenticator, observer: Observer, default_deadline_seconds: float
    ) -> None:
        self._gate = gate
        self._authenticator = authenticator
        self._observer = observer
        self._default_deadline_seconds = default_deadline_seconds
        self._wrapped: dict[str, Any] = {}

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[Handler | None]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> Any:
        """Wrap the handler of a method, once; None where there is no such method."""
        method = handler_call_details.method
        wrapped = self._wrapped.get(method)
        if wrapped is None:
            handler = await continuation(handler_call_details)
            if handler is None or not method.startswith(OURS):
                return handler
            wrapped = self._wrapped[method] = self._wrap(method, handler)
        return wrapped

    def _wrap(self, method: str, handler: Any) -> Any:
        deserialize = _tolerant(handler.request_deserializer)
        stream_out = handler.stream_stream or handler.unary_stream

        def check(request: Any) -> None:
            if request is grpc.aio.EOF or isinstance(request, _Malformed):
                raise invalid("request", f"the bytes are not the message that {method} takes")

        async def act(request: Any, context: Context) -> Any:
            if method in REJECTED_UNREAD:
                await self._gate.engine.admit(CURRENT.get())
                request = await context.read()
            check(request)
            return await handler.unary_unary(request, context)

        async def answer(request: Any, context: Context) -> Any:
            visit = self._arrive(method, context)
            try:
                self._let_in(visit)
                if note_call(context, self._default_deadline_seconds):  # gRPC itself ends the call at its deadline
                    return await act(request, context)
                async with asyncio.timeout(self._default_deadline_seconds):
                    return await act(request, context)
            except BaseException as error:
                await self._reject(visit, error)
                raise
            finally:
                self._leave(visit)

        async def answers(asked: Any, context: Context) -> AsyncIterator[Any]:
            visit = self._arrive(method, context)
            try:
                self._let_in(visit)
                note_call(context, math.inf)
                check(asked)  # one request, or an iterator of them, whose items are judged one by one
                async for response in stream_out(asked, context):
                    yield response
            except BaseException as error:
                await self._reject(visit, error)
                raise
            finally:
                self._leave(visit)

        if method in REJECTED_UNREAD:
            return grpc.stream_unary_rpc_method_handler(answer, deserialize, handler.response_serializer)
        if handler.unary_unary is not None:
            return grpc.unary_unary_rpc_method_handler(answer, deserialize, handler.response_serializer)
        if handler.unary_stream is not None:
            return grpc.unary_stream_rpc_method_handler(answers, deserialize, handler.response_serializer)
        return grpc.stream_stream_rpc_method_handler(answers, deserialize, handler.response_serializer)

    @staticmethod
    def _arrive(method: str, context: Context) -> _Visit:
        metadata = tuple(context.invocation_metadata() or ())
        return _Visit(method, context, metadata, _request_id(metadata), time.monotonic())

    def _let_in(self, visit: _Visit) -> None:
        if visit.method not in PROBES:
            self._gate.enter()
            visit.inside = True
            self._authenticator.check(visit.method, visit.metadata)
        visit.context.set_trailing_metadata((("x-request-id", visit.request_id),))

    @staticmethod
    async def _reject(visit: _Visit, raised: BaseException) -> None:
        """End the call with an error's code and details; a cancelled one has nobody to tell."""
        if not isinstance(raised, Exception):
            visit.code = "CANCELLED"
            return
        error = deadline_exceeded() if isinstance(raised, TimeoutError) else raised
        status = to_status(error)
        visit.code = CODES[status.code].name
        visit.fault = None if isinstance(error, LookalikeError) else error
        await abort(visit.context, status, error, visit.request_id)

    def _leave(self, visit: _Visit) -> None:
        if visit.inside:
            self._gate.leave()
        seconds = time.monotonic() - visit.arrived
        self._observer(CallCompleted(visit.method, visit.code, seconds, visit.request_id, visit.fault))


def _request_id(metadata: tuple[tuple[str, str | bytes], ...]) -> str:
    """The caller's own x-request-id where it is short and plain, else a new one."""
    given = next((str(value) for key, value in metadata if key == "x-request-id"), "")
    plain = given.isascii() and given.isprintable() and 0 < len(given) <= 128
    return given if plain else f"{random.getrandbits(128):032x}"


def _tolerant(deserialize: Callable[[bytes], Any]) -> Callable[[bytes], Any]:
    def parse(data: bytes) -> Any:
        try:
            return deserialize(data)
        except DecodeError:
            return _Malformed()

    return parse
