"""Streams of independent items: the window, failures, and callers that send nothing."""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncIterator, Iterable

import pytest

from lookalike_server.domain.errors import Code, LookalikeError, invalid
from lookalike_server.rpc.draining import Draining
from lookalike_server.rpc.streams import StreamItem, serve_each


class Stream:
    """A caller's stream, and which of its items have been served."""

    def __init__(self, messages: Iterable[int | LookalikeError], *, ends: bool = True) -> None:
        self._messages = messages
        self._ends = ends
        self.read = 0
        self.served = 0

    async def items(self) -> AsyncIterator[StreamItem[int]]:
        """Yield the items, and then end or send nothing any more."""
        for message in self._messages:
            self.read += 1
            yield StreamItem(message, self._count)
        if not self._ends:
            await asyncio.Event().wait()

    def _count(self) -> None:
        self.served += 1


async def double(number: int) -> str:
    """Serve one message; 13 is a fault."""
    if number == 13:
        raise RuntimeError("13")
    return str(2 * number)


def failed(number: int | None, error: Exception) -> str:
    """Turn a failure into a response."""
    return f"{number}: {type(error).__name__}"


async def test_items_fail_alone() -> None:
    """An item that raises, or whose bytes are no message, has a response of its own, and the others theirs."""
    stream = Stream([1, 13, invalid("stream[2]", "is no message"), 4])
    responses = [response async for response in serve_each(stream.items(), double, failed, 2, math.inf, Draining())]
    assert sorted(responses) == ["13: RuntimeError", "2", "8", "None: LookalikeError"]
    assert stream.served == 4


async def test_no_more_is_read_than_the_window() -> None:
    """While responses are not taken, no more items are read than the window has room for."""
    stream = Stream(range(100))
    responses = serve_each(stream.items(), double, failed, 3, math.inf, Draining())
    await anext(responses)
    for _ in range(20):
        await asyncio.sleep(0)
    assert stream.read == 3
    await anext(responses)
    for _ in range(20):
        await asyncio.sleep(0)
    assert stream.read == 4
    await responses.aclose()


async def test_a_caller_that_sends_nothing_is_cut_off() -> None:
    """A stream without a message for too long ends with DEADLINE_EXCEEDED, after the responses it still has."""
    stream = Stream([1, 2], ends=False)
    responses = serve_each(stream.items(), double, failed, 3, 0.001, Draining())
    taken = [await anext(responses), await anext(responses)]
    assert sorted(taken) == ["2", "4"]
    with pytest.raises(LookalikeError) as caught:
        await anext(responses)
    assert caught.value.code is Code.DEADLINE_EXCEEDED


async def test_a_slow_server_does_not_cut_its_callers_off() -> None:
    """While an item is being served the caller may send nothing, however long that takes."""
    stream = Stream([1], ends=False)
    release = asyncio.Event()
    checks = 0

    async def slow(number: int) -> str:
        nonlocal checks
        for _ in range(50):
            await asyncio.sleep(0.001)  # many times the idle time, so that its timer runs
            checks += 1
        release.set()
        return str(number)

    responses = serve_each(stream.items(), slow, failed, 3, 0.001, Draining())
    assert await anext(responses) == "1"
    assert (checks, release.is_set()) == (50, True)
    await responses.aclose()


async def test_a_stream_that_cannot_be_read_ends_after_its_items() -> None:
    """An error of reading ends the stream with that error, once the items that had been read are answered."""

    async def items() -> AsyncIterator[StreamItem[int]]:
        yield StreamItem(1, lambda: None)
        raise LookalikeError(Code.RESOURCE_EXHAUSTED, "no room")

    responses = serve_each(items(), double, failed, 3, math.inf, Draining())
    assert await anext(responses) == "2"
    with pytest.raises(LookalikeError, match="no room"):
        await anext(responses)
