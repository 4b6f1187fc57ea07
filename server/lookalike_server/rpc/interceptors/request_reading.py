"""Reading requests: only calls that were admitted are read, and only messages within their method's limits are parsed.

gRPC reads the request of a unary handler before it calls it, and that of a streaming one when asked. So all methods
have streaming handlers, which is the same on the wire, and a busy server rejects a call from its headers alone.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from functools import partial
from typing import Any, TypeAlias

import grpc
from google.protobuf.message import DecodeError

from lookalike_server.domain.calls import Call
from lookalike_server.domain.errors import LookalikeError, invalid
from lookalike_server.domain.events import Observer, StageCompleted
from lookalike_server.domain.stages import stage
from lookalike_server.engine.api import Work
from lookalike_server.rpc.call_context import CURRENT, STREAM_CHECK, Context
from lookalike_server.rpc.decompression import declared_size
from lookalike_server.rpc.gate import Gate
from lookalike_server.rpc.loop_load import LoopCall, LoopLoad
from lookalike_server.rpc.message_bytes import HeldBytes, MessageBytes
from lookalike_server.rpc.message_limits import MessageLimits
from lookalike_server.rpc.quotas import Quotas
from lookalike_server.rpc.request_bytes import checked
from lookalike_server.rpc.silent_calls import SilentCalls
from lookalike_server.rpc.streams import StreamItem

_CATALOG = "/lookalike.v1.CatalogService/"

WORK: Mapping[str, Work] = {
    "/lookalike.v1.EmbeddingService/Embed": Work.EMBED,
    "/inference.GRPCInferenceService/ModelInfer": Work.INFER,
    "/lookalike.v1.SearchService/Search": Work.SEARCH,
    f"{_CATALOG}UpsertProducts": Work.UPSERT,
    f"{_CATALOG}UpdateAttributes": Work.WRITE,
    f"{_CATALOG}DeleteProducts": Work.WRITE,
    **{
        f"{_CATALOG}{method}": Work.READ
        for method in ("GetProduct", "GetImage", "ListProducts", "ExportProducts", "ListCategories")
    },
}
"""What is admitted before it is read. Streams are not: they wait, and are read no further meanwhile."""

_LOOP_BOUND: Mapping[str, Callable[[Any], bool]] = {
    "/lookalike.v1.SearchService/Search": lambda request: not request.HasField("image"),
    f"{_CATALOG}UpsertProducts": lambda request: not any(product.images for product in request.message.products),
    **{
        f"{_CATALOG}{method}": lambda _: True
        for method in ("UpdateAttributes", "DeleteProducts", "GetProduct", "GetImage", "ListProducts", "ListCategories")
    },
}
"""Methods whose calls need little but the event loop, and which of their requests do not."""

_WITH_IMAGES = (Work.EMBED, Work.INFER, Work.SEARCH, Work.UPSERT)
_STREAMS_WITH_IMAGES = (
    "/lookalike.v1.EmbeddingService/EmbedStream",
    "/lookalike.v1.SearchService/SearchStream",
    f"{_CATALOG}ImportProducts",
)

Respond: TypeAlias = Callable[[Any, Context], Awaitable[bytes | None]]
"""Serves a request, and returns the response or writes all of them."""

_LARGE_BYTES = 4 * 1024 * 1024
"""Messages from here on are parsed in a thread, because it takes milliseconds."""


class RequestReader:
    """Reads the requests of one method."""

    def __init__(
        self,
        name: str,
        parse: Callable[[bytes], Any],
        limits: MessageLimits,
        gate: Gate,
        quotas: Quotas,
        message_bytes: MessageBytes,
        silent_calls: SilentCalls,
        *,
        message_timeout: float,
        on_read: Callable[[StageCompleted], None] | None = None,
        observer: Observer | None = None,
    ) -> None:
        """Take what reads and what limits it.

        Args:
            name: The method's full name.
            parse: From bytes within the limits to a message; raises DecodeError.
            limits: Of its messages.
            gate: Where the engine is.
            quotas: Where the bytes of images are counted.
            message_bytes: Where the bytes in memory are counted.
            silent_calls: Where calls wait for their messages.
            message_timeout: The most seconds that a caller may take for a message.
            on_read: Receives how long each request took from its admission until it was parsed; those of streams not.
            observer: Receives how long requests took to arrive.
        """
        self._name = name
        self._parse = parse
        self._limits = limits
        self._gate = gate
        self._quotas = quotas
        self._message_bytes = message_bytes
        self._silent_calls = silent_calls
        self._observer = observer
        self._message_timeout = message_timeout
        self._on_read = on_read
        self._work = WORK.get(name)
        self._is_loop_bound = _LOOP_BOUND.get(name)
        self._loop_load = LoopLoad() if self._is_loop_bound else None
        self._has_images = self._work in _WITH_IMAGES or name in _STREAMS_WITH_IMAGES

    async def serve(self, respond: Respond, context: Context) -> bytes | None:
        """Read the one request of a call, and respond to it."""
        call = CURRENT.get()
        self._message_bytes.check(call.caller)
        if self._loop_load is None:
            return await self._serve(respond, context, call)
        on_loop = self._loop_load.enter(call)
        try:
            return await self._serve(respond, context, call, on_loop)
        finally:
            on_loop.end()

    async def _serve(
        self, respond: Respond, context: Context, call: Call, on_loop: LoopCall | None = None
    ) -> bytes | None:
        if self._work is None:
            began = time.monotonic()
            with stage("receive", call, self._observer):
                data = await self._read(call, context)
        else:
            arriving = await self._gate.engine.admit(self._work, call)
            began = time.monotonic()
            try:
                with stage("receive", call, self._observer):
                    data = await self._read(call, context)
            finally:
                arriving.arrived()
        size = self._size(data)
        if self._has_images:
            self._quotas.take_image_bytes(call.caller, size)
        self._message_bytes.add(call.caller, size)
        try:
            if size < _LARGE_BYTES:
                request = self._message(data)
            else:
                request = await asyncio.to_thread(self._message, data)
            del data  # what has been parsed need not stay in memory twice
            if self._on_read is not None:
                self._on_read(StageCompleted("read", time.monotonic() - began))
            if on_loop and self._is_loop_bound and not self._is_loop_bound(request):
                on_loop.wait_elsewhere()
            return await respond(request, context)
        finally:
            self._message_bytes.remove(call.caller, size)

    async def serve_stream(self, respond: Respond, context: Context) -> bytes | None:
        """Read the requests of a stream, one by one, and respond; those that are no messages are errors among them."""
        call = CURRENT.get()
        held = HeldBytes(self._message_bytes, call.caller)
        try:
            return await respond(self._items(call, context, held), context)
        finally:
            held.release()

    async def _items(self, call: Call, context: Context, held: HeldBytes) -> AsyncIterator[StreamItem[Any]]:
        position = 0
        check = STREAM_CHECK.get()
        while True:
            await self._message_bytes.wait(call.caller)
            async with self._silent_calls.awaiting_message(None):  # `serve_each` ends it when nothing is in progress
                data = await context.read()
            if data is grpc.aio.EOF:
                return
            check()
            size = self._size(data)
            held.add(size)
            message: Any
            try:
                message = self._message(data)
            except LookalikeError as error:
                message = invalid(f"stream[{position}]", error.message)
            del data
            over = self._quotas.take_image_bytes(call.caller, size) if self._has_images else 0.0
            if over:
                await asyncio.sleep(over)
            yield StreamItem(message, partial(held.remove, size))
            del message
            position += 1

    async def _read(self, call: Call, context: Context) -> bytes:
        # Where the deadline is sooner gRPC, or the default deadline, ends the call in time.
        is_soon = call.deadline - call.arrived <= self._message_timeout
        async with self._silent_calls.awaiting_message(None if is_soon else self._message_timeout):
            data = await context.read()
        if data is grpc.aio.EOF:
            raise invalid("request", f"is missing; {self._name} takes one message")
        return bytes(data)

    def _size(self, data: bytes) -> int:
        """Return how many bytes a message has in memory, once decompressed."""
        return max(len(data), min(declared_size(data), self._limits.max_bytes))

    def _message(self, data: bytes) -> Any:
        try:
            return self._parse(checked(data, self._limits))
        except DecodeError:
            raise invalid("request", f"the bytes are not the message that {self._name} takes") from None
