"""Method handlers of gRPC, whatever their arity, as coroutines and back."""

from __future__ import annotations

import inspect
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeAlias

import grpc

from lookalike_server.rpc.call_context import Context

SERVICES = ("/lookalike.v1.", "/inference.GRPCInferenceService/")
"""How the methods of our services begin."""

PROBES = frozenset(f"{SERVICES[1]}{method}" for method in ("ServerLive", "ServerReady", "ModelReady"))
"""Methods that anybody may call at any time: the Open Inference Protocol's own health checks."""

Behavior: TypeAlias = Callable[[Any, Context], Awaitable[Any]]
"""Serves a call: takes a request, or an iterator of them, and returns the response, or None once it has written all."""

_MAKERS: dict[tuple[bool, bool], Any] = {
    (False, False): grpc.unary_unary_rpc_method_handler,
    (False, True): grpc.unary_stream_rpc_method_handler,
    (True, False): grpc.stream_unary_rpc_method_handler,
    (True, True): grpc.stream_stream_rpc_method_handler,
}


@dataclass(frozen=True, slots=True)
class Method:
    """A method: its full name, as in `/lookalike.v1.SearchService/Search`, and whether it streams responses."""

    name: str
    streams_responses: bool


def behavior_of(handler: Any) -> Behavior:
    """Return what a handler does, as a coroutine: a generator's responses are written to the context."""
    behavior = handler.unary_unary or handler.unary_stream or handler.stream_unary or handler.stream_stream
    return behavior if inspect.iscoroutinefunction(behavior) else partial(_write_each, behavior)


def make_handler(behavior: Behavior, like: Any, *, deserialize: Any, streams_requests: bool) -> Any:
    """Make a handler that does this, like another one but for the arguments that are given."""
    make = _MAKERS[streams_requests, like.response_streaming]
    return make(behavior, deserialize, like.response_serializer)


async def _write_each(generate: Callable[[Any, Context], AsyncGenerator[Any]], request: Any, context: Context) -> None:
    async with aclosing(generate(request, context)) as responses:
        async for response in responses:
            await context.write(response)
