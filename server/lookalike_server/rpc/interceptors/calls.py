"""The one interceptor: serves every call of our services in one coroutine, as nested ones would cost more than they do.

Health and reflection pass untouched: a prober has no token, and asks most while nothing is ready.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, TypeAlias

import grpc

from lookalike_server.domain.events import Observer
from lookalike_server.rpc.auth import Authenticator
from lookalike_server.rpc.call_context import CURRENT, Context
from lookalike_server.rpc.gate import Gate
from lookalike_server.rpc.interceptors import access_log
from lookalike_server.rpc.interceptors.deadline import call_times
from lookalike_server.rpc.interceptors.errors import end_call
from lookalike_server.rpc.interceptors.handlers import (
    PROBES,
    SERVICES,
    Behavior,
    Method,
    behavior_of,
    make_handler,
)
from lookalike_server.rpc.interceptors.request_reading import REJECTED_UNREAD, parser, reading

Continuation: TypeAlias = "Callable[[grpc.HandlerCallDetails], Awaitable[grpc.RpcMethodHandler[Any, Any] | None]]"


class CallInterceptor(grpc.aio.ServerInterceptor):
    """Wraps the handler of each method once, at its first call."""

    def __init__(
        self,
        gate: Gate,
        authenticator: Authenticator,
        observer: Observer,
        *,
        default_deadline_seconds: float,
        deserializers: Mapping[str, Callable[[bytes], Any]],
    ) -> None:
        """Take what calls need, and by method the deserializers that replace the generated ones."""
        self._gate = gate
        self._authenticator = authenticator
        self._observer = observer
        self._default_deadline_seconds = default_deadline_seconds
        self._deserializers = deserializers
        self._wrapped: dict[str, Any] = {}

    async def intercept_service(self, continuation: Continuation, handler_call_details: grpc.HandlerCallDetails) -> Any:
        """Return the wrapped handler of a method; None where there is no such method."""
        name = handler_call_details.method
        wrapped = self._wrapped.get(name)
        if wrapped is None:
            handler: Any = await continuation(handler_call_details)
            if handler is None or not name.startswith(SERVICES):
                return handler
            proceed = reading(name, behavior_of(handler), self._gate)
            wrapped = self._wrapped[name] = make_handler(
                self._serving(Method(name, handler.response_streaming), proceed),
                handler,
                deserialize=parser(self._deserializers.get(name, handler.request_deserializer)),
                streams_requests=handler.request_streaming or name in REJECTED_UNREAD,
            )
        return wrapped

    def _serving(self, method: Method, proceed: Behavior) -> Behavior:
        """Return what serves a call of this method by `proceed`, and does around it what every call needs."""
        gate, authenticator, observer = self._gate, self._authenticator, self._observer
        default_seconds = self._default_deadline_seconds
        guarded = method.name not in PROBES

        async def serve(request: Any, context: Context) -> Any:
            record = access_log.begin(context)
            inside = False
            try:
                if guarded:
                    gate.enter()
                    inside = True
                    authenticator.check(method.name, record.metadata)
                call, seconds = call_times(method, record, context, default_seconds)
                CURRENT.set(call)
                if seconds is None:
                    return await proceed(request, context)
                async with asyncio.timeout(seconds):
                    return await proceed(request, context)
            except Exception as error:  # noqa: BLE001 - whatever it is, it is the call's status
                await end_call(context, record, error)
            except BaseException:
                record.code = "CANCELLED"  # its caller has gone, so it is only recorded
                raise
            finally:
                if inside:
                    gate.leave()  # only once its status is on its way, so that draining waits for that
                access_log.report(observer, method.name, record)

        return serve
