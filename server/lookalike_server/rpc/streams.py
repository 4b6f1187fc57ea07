"""Streams of independent items: served concurrently, in any order, never more at once than a window.

The window is the backpressure: an item leaves it only once its response has been taken, so the requests of a caller
that sends faster than the server responds, or that does not read the responses, are not read any further.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from typing import TypeVar

Q = TypeVar("Q")
R = TypeVar("R")


async def serve_each(requests: AsyncIterator[Q], serve: Callable[[Q], Awaitable[R]], window: int) -> AsyncGenerator[R]:
    """Serve every request of a stream, at most `window` at once, and yield the responses as they are done.

    Args:
        requests: The caller's stream.
        serve: Serves one; must turn its failures into responses.
        window: The most items between being read and their response being taken.
    """
    room = asyncio.Semaphore(window)
    done: asyncio.Queue[R | None] = asyncio.Queue()

    async def serve_one(request: Q) -> None:
        done.put_nowait(await serve(request))

    async def read() -> None:
        async with asyncio.TaskGroup() as group:
            await room.acquire()
            async for request in requests:
                group.create_task(serve_one(request))
                await room.acquire()
        done.put_nowait(None)

    reading = asyncio.create_task(read())
    # A failing read (the caller has gone, say) must not leave the loop below waiting.
    reading.add_done_callback(lambda _: done.put_nowait(None))
    try:
        while (item := await done.get()) is not None:
            yield item
            room.release()
        await reading
    finally:
        reading.cancel()
        await asyncio.gather(reading, return_exceptions=True)
