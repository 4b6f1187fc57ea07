"""Many items over one stream: answered side by side, in any order, never more at once than a window.

The window is the backpressure: an item leaves it only once its answer has been taken, so a caller that sends faster
than the server answers, or never reads, is simply not read any further.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import TypeVar

Q = TypeVar("Q")
A = TypeVar("A")


async def answer_each(requests: AsyncIterator[Q], answer: Callable[[Q], Awaitable[A]], window: int) -> AsyncIterator[A]:
    """SearchResult every request of a stream, at most `window` at once, as they are done.

    Args:
        requests: The caller's stream; it may end at once.
        answer: Answers one; must turn its failures into answers.
        window: The most items between being read and their answer being taken.
    """
    room = asyncio.Semaphore(window)
    done: asyncio.Queue[A | None] = asyncio.Queue()

    async def answer_one(request: Q) -> None:
        done.put_nowait(await answer(request))

    async def read() -> None:
        async with asyncio.TaskGroup() as answering:
            await room.acquire()
            async for request in requests:
                answering.create_task(answer_one(request))
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
