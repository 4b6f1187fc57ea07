"""Keepalive: clients that ping often on a quiet connection keep it, and those that ping all the time do not."""

from __future__ import annotations

import asyncio
import re
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from support.serving import Serve

pytestmark = pytest.mark.slow

SECONDS = 9.0
"""What ten seconds may be on a network that delays one ping and not the next."""

PINGS = 4
"""A third one that comes too early is one too many."""


def pinging(port: int, seconds: float) -> grpc.aio.Channel:
    """Connect with a keepalive of so many seconds, with and without calls."""
    return grpc.aio.insecure_channel(
        f"127.0.0.1:{port}",
        options=(
            ("grpc.enable_http_proxy", 0),
            ("grpc.use_local_subchannel_pool", 1),
            ("grpc.keepalive_time_ms", round(1000 * seconds)),
            ("grpc.keepalive_permit_without_calls", 1),
            ("grpc.http2.max_pings_without_data", 0),
        ),
    )


async def watched(channel: grpc.aio.Channel) -> Any:
    """Open a stream on which nothing happens after its first message."""
    health: Any = health_pb2_grpc.HealthStub(channel)
    watch = health.Watch(health_pb2.HealthCheckRequest())
    await watch.read()
    return watch


async def test_a_ping_every_ten_seconds(serve: Serve) -> None:
    """A quiet stream, and a connection without calls, outlast pings every 10 s; pings all the time end a stream."""
    async with serve() as served:
        port = served.app.port
        async with pinging(port, SECONDS) as quiet, pinging(port, SECONDS) as idle, pinging(port, 0.2) as flood:
            stream = await watched(quiet)
            await idle.channel_ready()
            changed = asyncio.create_task(idle.wait_for_state_change(grpc.ChannelConnectivity.READY))
            with pytest.raises(grpc.aio.AioRpcError, match=re.compile("too.many.pings", re.IGNORECASE)):
                await (await watched(flood)).read()
            reading = asyncio.create_task(stream.read())
            done, _ = await asyncio.wait((reading, changed), timeout=SECONDS * PINGS + 2)
            assert not done
            reading.cancel()
            changed.cancel()
