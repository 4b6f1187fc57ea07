"""The one interceptor: serves every call of our services in one coroutine, as nested ones would cost more than they do.

Health and reflection pass untouched: a prober has no token, and asks most while nothing is ready.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

import grpc

from lookalike_server.domain.calls import ANYBODY, BeginSpan
from lookalike_server.domain.events import Observer, StageCompleted
from lookalike_server.domain.observing import receiver
from lookalike_server.rpc.audit_log import AUDITED, AuditLog
from lookalike_server.rpc.auth import WRITES, Authenticator
from lookalike_server.rpc.call_context import CURRENT, STREAM_CHECK, Context
from lookalike_server.rpc.gate import Gate
from lookalike_server.rpc.interceptors import access_log
from lookalike_server.rpc.interceptors.audit import begin_audit
from lookalike_server.rpc.interceptors.deadline import call_times
from lookalike_server.rpc.interceptors.errors import end_call
from lookalike_server.rpc.interceptors.handlers import (
    PROBES,
    SERVICES,
    Behavior,
    Method,
    make_handler,
    service_method,
)
from lookalike_server.rpc.interceptors.request_reading import RequestReader
from lookalike_server.rpc.interceptors.response_writing import ResponseWriter
from lookalike_server.rpc.message_bytes import MessageBytes
from lookalike_server.rpc.message_limits import MessageLimits
from lookalike_server.rpc.quotas import Quotas
from lookalike_server.rpc.silent_calls import SilentCalls

Continuation: TypeAlias = "Callable[[grpc.HandlerCallDetails], Awaitable[grpc.RpcMethodHandler[Any, Any] | None]]"


@dataclass(frozen=True, slots=True)
class CallLimits:
    """What bounds calls.

    Attributes:
        messages: The limits of each method's requests, by its full name.
        max_response_bytes: The most bytes of a response.
        default_deadline_seconds: The deadline of calls that have none.
        message_timeout: The most seconds that a caller may take to send, or to receive, a message.
    """

    messages: Mapping[str, MessageLimits]
    max_response_bytes: int
    default_deadline_seconds: float
    message_timeout: float


class CallInterceptor(grpc.aio.ServerInterceptor):
    """Wraps the handler of each method once, at its first call."""

    def __init__(
        self,
        gate: Gate,
        authenticator: Authenticator,
        quotas: Quotas,
        message_bytes: MessageBytes,
        observer: Observer,
        limits: CallLimits,
        parsers: Mapping[str, Callable[[bytes], Any]],
        audit_log: AuditLog | None,
        begin_span: BeginSpan | None,
    ) -> None:
        """Take what calls need, and by method the parsers that replace the generated ones."""
        self._begin_span = begin_span
        self._audit_log = audit_log
        self._gate = gate
        self._authenticator = authenticator
        self._quotas = quotas
        self._message_bytes = message_bytes
        self._silent_calls = SilentCalls()
        self._observer = observer
        self._limits = limits
        self._parsers = parsers
        self._wrapped: dict[str, Any] = {}

    async def intercept_service(self, continuation: Continuation, handler_call_details: grpc.HandlerCallDetails) -> Any:
        """Return the wrapped handler of a method; None where there is no such method."""
        name = handler_call_details.method
        wrapped = self._wrapped.get(name)
        if wrapped is None:
            handler: Any = await continuation(handler_call_details)
            if handler is None or not name.startswith(SERVICES):
                return handler
            method = Method(name, handler.request_streaming, handler.response_streaming)
            wrapped = self._wrapped[name] = make_handler(
                self._serving(method, self._behavior(method, handler)), streams_responses=method.streams_responses
            )
        return wrapped

    def _behavior(self, method: Method, handler: Any) -> Behavior:
        """Return what reads the requests of a call, lets the service serve them, and writes the responses."""
        reader = RequestReader(
            method.name,
            self._parsers.get(method.name, handler.request_deserializer),
            self._limits.messages[method.name],
            self._gate,
            self._quotas,
            self._message_bytes,
            self._silent_calls,
            message_timeout=self._limits.message_timeout,
            on_read=receiver(self._observer, StageCompleted),
            observer=self._observer,
        )
        writer = ResponseWriter(
            handler.response_serializer,
            self._message_bytes,
            max_bytes=self._limits.max_response_bytes,
            message_timeout=self._limits.message_timeout,
        )
        serve = service_method(handler)

        async def respond(request: Any, context: Context) -> bytes | None:
            if method.streams_responses:
                await writer.write_each(serve, request, context)
                return None
            return writer.finish(await serve(request, context), context)

        async def read(context: Context) -> bytes | None:
            if handler.request_streaming:
                return await reader.serve_stream(respond, context)
            return await reader.serve(respond, context)

        return read

    def _serving(self, method: Method, proceed: Behavior) -> Behavior:
        """Return what serves a call of this method by `proceed`, and does around it what every call needs."""
        gate, authenticator, quotas = self._gate, self._authenticator, self._quotas
        reports = access_log.CallReports(self._observer, method)
        default_seconds = self._limits.default_deadline_seconds
        guarded = method.name not in PROBES
        draining = gate.draining
        audit_log = self._audit_log if method.name in WRITES else None
        begin_span = self._begin_span if guarded else None

        async def serve(context: Context) -> bytes | None:
            record = access_log.begin(context)
            reports.begin()
            if begin_span is not None:
                record.trace = begin_span(method.name, record.metadata, record.request_id, record.arrived)
            inside = False
            usage = None
            caller, categories = ANYBODY, None
            audited = None
            try:
                if guarded:
                    gate.enter()
                    inside = True
                    identity = authenticator.identify(method.name, record.metadata, context)
                    usage = quotas.enter(identity.name)
                    caller, categories = usage.caller, identity.categories
                    if audit_log is not None:
                        audited = begin_audit(audit_log, method, record, context, identity)
                        AUDITED.set(audited)
                    if method.streams_responses:
                        STREAM_CHECK.set(authenticator.stream_check(identity, record.metadata, context))
                call, seconds = call_times(method, record, context, default_seconds, caller, categories)
                CURRENT.set(call)
                if seconds is None:
                    response = await proceed(context)
                else:
                    async with asyncio.timeout(seconds):
                        response = await proceed(context)
                await draining.may_respond()
                access_log.return_trailers(context, record)
                return response  # noqa: TRY300 - what follows must come after it in any case
            except Exception as error:  # noqa: BLE001 - whatever it is, it is the call's status
                await draining.may_respond()
                await end_call(context, record, error)
            except BaseException:
                record.code = "CANCELLED"  # its caller has gone, so it is only recorded
                raise
            finally:
                if inside:
                    gate.leave()  # only once its status is on its way, so that draining waits for that
                if usage is not None:
                    usage.leave()
                if audited is not None:
                    audited.end(record.code)
                reports.end(record)

        return serve
