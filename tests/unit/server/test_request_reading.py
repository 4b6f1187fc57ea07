"""What a stream's messages hold in memory, until it ends."""

from __future__ import annotations

import asyncio
import math
from typing import Any

import pytest

from lookalike_server.domain.calls import Call, Caller
from lookalike_server.rpc.call_context import CURRENT, STREAM_CHECK
from lookalike_server.rpc.gate import Gate
from lookalike_server.rpc.interceptors.request_reading import RequestReader
from lookalike_server.rpc.message_bytes import MessageBytes
from lookalike_server.rpc.message_limits import message_limits
from lookalike_server.rpc.quotas import Quota, Quotas, QuotaTable
from lookalike_server.rpc.silent_calls import SilentCalls
from support.serving import until

METHOD = "/lookalike.v1.EmbeddingService/EmbedStream"


class Endless:
    """A call that always has another message to read."""

    async def read(self) -> bytes:
        """Return a message."""
        return bytes(100)


@pytest.mark.parametrize("quota", [Quota(), Quota(image_bytes_per_second=1)], ids=["served by nobody", "waits"])
async def test_a_stream_that_ends_holds_nothing(quota: Quota) -> None:
    """When a stream ends, its messages count no longer: neither those that nobody served nor one that waits."""
    message_bytes, quotas = MessageBytes(1000), Quotas(QuotaTable(quota, {}))
    reader = RequestReader(
        METHOD,
        lambda data: data,
        message_limits(10_000, 10_000)[METHOD],
        Gate(),
        quotas,
        message_bytes,
        SilentCalls(),
        message_timeout=10,
    )
    caller = Caller("shop")
    quotas.enter(caller.name)
    CURRENT.set(Call(0.0, math.inf, caller))
    STREAM_CHECK.set(lambda: None)

    async def take(items: Any, _: Any) -> None:
        async for _ in items:
            await asyncio.Event().wait()

    context: Any = Endless()
    stream = asyncio.create_task(reader.serve_stream(take, context))
    await until(lambda: "[100 of" in repr(message_bytes))
    stream.cancel()
    with pytest.raises(asyncio.CancelledError):
        await stream
    assert repr(message_bytes) == "<MessageBytes [0 of 1,000]>"
