"""Writing responses: none is longer than callers may receive, and none waits forever for its caller to take it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from typing import Any

from lookalike_server.domain.errors import Code, LookalikeError
from lookalike_server.rpc.call_context import CURRENT, STREAM_CHECK, Context
from lookalike_server.rpc.message_bytes import MessageBytes
from lookalike_server.rpc.response_limit import over_limit

_COUNTED_BYTES = 64 * 1024
"""What is longer may stay in memory until the caller takes it: HTTP/2's initial flow-control window."""


class ResponseWriter:
    """Writes the responses of one method."""

    def __init__(
        self,
        serialize: Callable[[Any], bytes],
        message_bytes: MessageBytes,
        *,
        max_bytes: int,
        message_timeout: float,
    ) -> None:
        """Take what serializes responses and what limits them.

        Args:
            serialize: From a message to bytes.
            message_bytes: Where the bytes in memory are counted.
            max_bytes: The most bytes of a response.
            message_timeout: The most seconds that a caller may take to receive a response of a stream.
        """
        self._serialize = serialize
        self._message_bytes = message_bytes
        self._max_bytes = max_bytes
        self._message_timeout = message_timeout

    def finish(self, response: Any, context: Context) -> bytes:
        """Serialize the response of a call."""
        data = self._within_limit(self._serialize(response))
        if len(data) > _COUNTED_BYTES:
            caller, size = CURRENT.get().caller, len(data)

            self._message_bytes.add(caller, size)
            # Its type names the callback's parameter, which gRPC passes by position.
            done: Any = lambda _: self._message_bytes.remove(caller, size)  # noqa: E731
            context.add_done_callback(done)
        return data

    async def write_each(
        self, generate: Callable[[Any, Context], AsyncGenerator[Any]], request: Any, context: Context
    ) -> None:
        """Write the responses of a stream as the caller takes them."""
        check = STREAM_CHECK.get()
        async with aclosing(generate(request, context)) as responses:
            async for response in responses:
                check()
                data = self._within_limit(self._serialize(response))
                try:
                    async with asyncio.timeout(self._message_timeout):
                        await context.write(data)
                except TimeoutError:
                    raise LookalikeError(
                        Code.DEADLINE_EXCEEDED,
                        f"the caller took no response for {self._message_timeout:g} s; read the stream to its end",
                    ) from None

    def _within_limit(self, data: bytes) -> bytes:
        if len(data) > self._max_bytes:
            raise over_limit("the response", len(data), self._max_bytes)
        return data
