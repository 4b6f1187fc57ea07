"""A server with a full queue."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from lookalike.v1 import embedding_service_pb2
from support.serving import HeldModel, Served, noise, raw, until


@asynccontextmanager
async def full(served: Served, model: HeldModel) -> AsyncIterator[None]:
    """Hold the model while it runs one image, with another one in the queue: full at a `max_queue_size` of 1."""

    def embed(seed: int) -> asyncio.Future[Any]:
        request = embedding_service_pb2.EmbedRequest(image=raw(noise(seed)))
        call: asyncio.Future[Any] = asyncio.ensure_future(served.embedding.Embed(request))
        return call

    model.session.hold()
    calls = [embed(1)]
    await model.caught()
    calls.append(embed(2))
    await until(lambda: "Queued: 1 " in repr(served.app.batcher))
    try:
        yield
    finally:
        model.session.let_go()
        await asyncio.gather(*calls)
