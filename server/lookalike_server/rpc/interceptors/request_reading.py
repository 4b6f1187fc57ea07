"""Reading requests: none is read that a busy server rejects anyway, and a malformed one is INVALID_ARGUMENT."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import grpc
from google.protobuf.message import DecodeError

from lookalike_server.domain.errors import invalid
from lookalike_server.rpc.call_context import CURRENT, Context
from lookalike_server.rpc.gate import Gate
from lookalike_server.rpc.interceptors.handlers import Behavior

REJECTED_UNREAD = frozenset({"/lookalike.v1.EmbeddingService/Embed"})
"""Methods whose calls always need the model, so that a busy server can reject them without reading the image.

gRPC reads the request of a unary handler before it calls it, and that of a streaming one when asked: these are served
by streaming handlers, which is the same on the wire. Search and ModelInfer are not among them: whether they need the
model is in their messages.
"""


class _Malformed:
    """Stands for a request whose bytes are no message; gRPC would answer INTERNAL before any handler ran."""


def reading(name: str, proceed: Behavior, gate: Gate) -> Behavior:
    """Return what reads and checks the request of the method of this name, before it proceeds."""
    rejected_unread = name in REJECTED_UNREAD

    async def read(request: Any, context: Context) -> Any:
        if rejected_unread:
            await gate.engine.admit(CURRENT.get())
            request = await context.read()
        # A stream's requests are checked one by one, by whoever takes them.
        if request is grpc.aio.EOF or isinstance(request, _Malformed):
            raise invalid("request", f"the bytes are not the message that {name} takes")
        return await proceed(request, context)

    return read


def parser(deserialize: Callable[[bytes], Any]) -> Callable[[bytes], Any]:
    """Return a deserializer that never raises: what it returns for malformed bytes is for `reading`."""
    return partial(_parse, deserialize)


def _parse(deserialize: Callable[[bytes], Any], data: bytes) -> Any:
    try:
        return deserialize(data)
    except DecodeError:
        return _Malformed()
