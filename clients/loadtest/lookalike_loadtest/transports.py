"""What calls are sent over: gRPC, or whatever else a benchmark brings along."""

from __future__ import annotations

import asyncio
from itertools import cycle
from typing import Any, Protocol

import grpc

from lookalike_client.channel import call_metadata, channel_options

CONNECT_WITHIN_S = 10.0


class Transport(Protocol):
    """Connections to one server; requests and answers are bytes, and an error is a `grpc.RpcError` with `code()`."""

    async def connect(self) -> None:
        """Connect, so that the first call does not pay for it.

        Raises:
            TimeoutError: No connection within `CONNECT_WITHIN_S`.
        """

    async def send(self, method: str, request: bytes, deadline: float, token: str | None) -> bytes:
        """Send a request and return its answer; canceling this cancels the call.

        Raises:
            grpc.RpcError: The call failed or took longer than `deadline` seconds.
        """


class GrpcTransport:
    """Unary calls over gRPC channels, used in turns."""

    def __init__(self, target: str, connections: int) -> None:
        options = [*channel_options_without_retries(target), ("grpc.use_local_subchannel_pool", 1)]
        self._channels = [grpc.aio.insecure_channel(target, options=options) for _ in range(connections)]
        self._methods: dict[str, Any] = {}

    async def connect(self) -> None:
        """Wait for all channels to be ready."""
        async with asyncio.timeout(CONNECT_WITHIN_S):
            for channel in self._channels:
                await channel.channel_ready()

    async def send(self, method: str, request: bytes, deadline: float, token: str | None) -> bytes:
        """Make the call over the next channel."""
        if method not in self._methods:
            # without serializers: nothing is serialized or parsed while the clock runs
            self._methods[method] = cycle([channel.unary_unary(method) for channel in self._channels])
        call = next(self._methods[method])
        answer: bytes = await call(request, timeout=deadline, metadata=call_metadata(token))
        return answer


def channel_options_without_retries(target: str) -> list[tuple[str, str | int]]:
    """Return the client's channel options without its retries, which would hide rejections and send extra calls."""
    options = [(name, value) for name, value in channel_options(target) if name != "grpc.service_config"]
    return [*options, ("grpc.enable_retries", 0), ("grpc.primary_user_agent", "lookalike-load")]
