"""Streams of independent items: served concurrently, in any order, never more at once than a window.

The window is the backpressure: an item leaves it only once its response has been taken, so the requests of a caller
that sends faster than the server responds, or that does not read the responses, are not read any further. An item that
fails, or whose bytes are no message, fails alone.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

from lookalike_server.domain.errors import Code, LookalikeError, Rejection, unavailable
from lookalike_server.rpc.draining import Draining

Q = TypeVar("Q")
R = TypeVar("R")


@dataclass(frozen=True, slots=True)
class StreamItem(Generic[Q]):
    """A message of a stream, or why its bytes are none; `served` is called when its response is ready."""

    message: Q | LookalikeError
    served: Callable[[], None]


async def serve_each(
    items: AsyncIterator[StreamItem[Q]],
    serve: Callable[[Q], Awaitable[R]],
    fail: Callable[[Q | None, Exception], R],
    window: int,
    message_timeout: float,
    draining: Draining,
) -> AsyncGenerator[R]:
    """Serve every item of a stream, at most `window` at once, and yield the responses as they are done.

    Args:
        items: The caller's stream.
        serve: Serves one message.
        fail: Turns the failure of a message into a response; without the message where its bytes are none.
        window: The most items between being read and their response being taken.
        message_timeout: After so long without a message, while none is being served, the stream ends.
        draining: Ends it between two items: none is read any more, and those that were are served.

    Raises:
        LookalikeError: DEADLINE_EXCEEDED when the caller sends nothing for too long, UNAVAILABLE when the server
            drains.
    """
    loop = asyncio.get_running_loop()
    room = asyncio.Semaphore(window)
    done: asyncio.Queue[R | None] = asyncio.Queue()
    inside = 0
    active = loop.time()
    timer = loop.call_later(message_timeout, lambda: end_if_idle(end_if_idle))
    until_end = asyncio.timeout(None)

    async def response_to(message: Q | LookalikeError) -> R:
        if isinstance(message, LookalikeError):
            return fail(None, message)
        try:
            return await serve(message)
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if task is None or task.cancelling():
                raise
            # Not this task was cancelled but what it waited for, as when the server stops.
            return fail(message, unavailable("the server stops", Rejection.DRAINING))
        except Exception as error:  # noqa: BLE001 - this item's own response carries it
            return fail(message, error)

    async def serve_one(item: StreamItem[Q]) -> None:
        try:
            response = await response_to(item.message)
        finally:
            item.served()
        done.put_nowait(response)

    async def read() -> None:
        nonlocal inside, active
        failure: LookalikeError | None = None
        async with asyncio.TaskGroup() as group:
            await room.acquire()
            try:
                async with until_end:
                    with draining.ended_by(lambda: until_end.reschedule(loop.time())):
                        async for item in items:
                            inside += 1
                            active = loop.time()
                            group.create_task(serve_one(item))
                            await room.acquire()
            except LookalikeError as error:
                failure = error  # raised once the items that are in progress have been served
            except TimeoutError:
                if not until_end.expired():
                    raise
                failure = _drained()
        if failure is not None:
            raise failure
        done.put_nowait(None)

    def end_if_idle(again: Callable[..., None]) -> None:
        # Given itself: what refers to itself is freed by the garbage collector alone, with all of the stream.
        nonlocal timer
        idle = loop.time() - active
        if inside or idle < message_timeout:
            timer = loop.call_later(message_timeout if inside else message_timeout - idle, again, again)
        else:
            reading.cancel()

    reading = asyncio.create_task(read())
    # A failing read (the caller has gone, say) must not leave the loop below waiting.
    reading.add_done_callback(lambda _: done.put_nowait(None))
    try:
        while (item := await done.get()) is not None:
            yield item
            room.release()
            inside -= 1
            active = loop.time()
        if reading.cancelled():
            raise LookalikeError(
                Code.DEADLINE_EXCEEDED,
                f"the stream sent no message for {message_timeout:g} seconds; end streams that have no more to send",
            )
        await reading
    finally:
        timer.cancel()
        reading.cancel()
        await asyncio.gather(reading, return_exceptions=True)


def _drained() -> LookalikeError:
    return unavailable(
        "the server is shutting down; what it has responded to is done, so send the rest to another one",
        Rejection.DRAINING,
    )
