"""Calls that wait for their next message: how long, and how many."""

from __future__ import annotations

import asyncio

import pytest

from lookalike_server.domain.errors import Code, LookalikeError, Rejection
from lookalike_server.rpc.silent_calls import SilentCalls


async def wait(calls: SilentCalls, message: asyncio.Event, seconds: float | None = None) -> None:
    """Wait for a message."""
    async with calls.awaiting_message(seconds):
        await message.wait()


async def settle() -> None:
    """Let every task run until it waits."""
    for _ in range(5):
        await asyncio.sleep(0)


async def test_the_longest_silent_makes_room() -> None:
    """Where more calls are silent than may be, the one that has been for the longest ends, and no other."""
    calls, message = SilentCalls(3), asyncio.Event()
    waiting = []
    for _ in range(5):
        waiting.append(asyncio.create_task(wait(calls, message)))
        await settle()
    for each in waiting[:2]:
        with pytest.raises(LookalikeError) as caught:
            await each
        assert caught.value.code is Code.RESOURCE_EXHAUSTED
        assert caught.value.retry_after
        assert caught.value.rejection is Rejection.SILENT
    message.set()
    await asyncio.gather(*waiting[2:])


async def test_calls_that_got_their_message_do_not_count() -> None:
    """Any number of calls may wait one after the other."""
    calls, message = SilentCalls(1), asyncio.Event()
    message.set()
    for _ in range(10):
        await wait(calls, message)
    message.clear()
    last = asyncio.create_task(wait(calls, message))
    await settle()
    assert not last.done()
    message.set()
    await last


async def test_silence_has_its_end() -> None:
    """A call that is silent for too long ends, and says for how long."""
    with pytest.raises(LookalikeError) as caught:
        await wait(SilentCalls(), asyncio.Event(), 0.001)
    assert caught.value.code is Code.DEADLINE_EXCEEDED
    assert "0.001 seconds" in caught.value.message


async def test_a_caller_that_goes_is_cancelled() -> None:
    """Cancelling a silent call is neither of both."""
    calls = SilentCalls()
    waiting = asyncio.create_task(wait(calls, asyncio.Event(), 100))
    await settle()
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
