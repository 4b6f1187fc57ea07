"""What calls are sent over: gRPC, or whatever else a benchmark brings along."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from itertools import cycle
from typing import Any, Protocol

import grpc

from lookalike_client.channel import call_metadata, channel_options
from lookalike_client.tls import Tls

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

    def __init__(self, target: str, connections: int, tls: Tls | None = None) -> None:
        options = [*channel_options_without_retries(target), ("grpc.use_local_subchannel_pool", 1)]
        credentials = tls.credentials() if tls else None
        self._channels = [
            grpc.aio.secure_channel(target, credentials, options)
            if credentials
            else grpc.aio.insecure_channel(target, options)
            for _ in range(connections)
        ]
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


@dataclass(frozen=True, slots=True)
class GrpcOverTls:
    """Opens a `GrpcTransport` over TLS; a `transport` of a `WorkerConfig`, equal to another with the same files."""

    tls: Tls

    def __call__(self, target: str, connections: int) -> GrpcTransport:
        """Open the channels.

        Raises:
            TlsError: A file cannot be used.
        """
        return GrpcTransport(target, connections, self.tls)


def channel_options_without_retries(target: str) -> list[tuple[str, str | int]]:
    """Return the client's channel options without its retries, which would hide rejections and send extra calls."""
    options = [(name, value) for name, value in channel_options(target) if name != "grpc.service_config"]
    return [*options, ("grpc.enable_retries", 0), ("grpc.primary_user_agent", "lookalike-load")]
