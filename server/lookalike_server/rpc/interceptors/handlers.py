"""Method handlers of gRPC, whatever their arity, as coroutines and back."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, TypeAlias

import grpc

from lookalike_server.rpc.call_context import Context

SERVICES = ("/lookalike.v1.", "/inference.GRPCInferenceService/")
"""How the methods of our services begin."""

PROBES = frozenset(f"{SERVICES[1]}{method}" for method in ("ServerLive", "ServerReady", "ModelReady"))
"""Methods that anybody may call at any time: the Open Inference Protocol's own health checks."""

Behavior: TypeAlias = Callable[[Context], Awaitable[bytes | None]]
"""Serves a call: reads its requests, and returns the response, or None once it has written all."""


@dataclass(frozen=True, slots=True)
class Method:
    """A method: its full name, as in `/lookalike.v1.SearchService/Search`, and which of its two sides stream."""

    name: str
    streams_requests: bool
    streams_responses: bool

    @property
    def kind(self) -> str:
        """Its kind, as gRPC's metrics call it."""
        if self.streams_requests:
            return "bidi_stream" if self.streams_responses else "client_stream"
        return "server_stream" if self.streams_responses else "unary"


def service_method(handler: Any) -> Callable[[Any, Any], Any]:
    """Return the method of the service that a handler calls."""
    method: Callable[[Any, Any], Any] = (
        handler.unary_unary or handler.unary_stream or handler.stream_unary or handler.stream_stream
    )
    return method


def make_handler(behavior: Behavior, *, streams_responses: bool) -> Any:
    """Make a handler of a method, which reads and returns or writes bytes when it wants to."""

    async def serve(_: object, context: Context) -> bytes | None:
        return await behavior(context)

    make = grpc.stream_stream_rpc_method_handler if streams_responses else grpc.stream_unary_rpc_method_handler
    return make(serve)
