"""The bound on bytes of messages in memory, and who is held to it."""

from __future__ import annotations

import asyncio

import pytest

from lookalike_server.domain.calls import Caller
from lookalike_server.domain.errors import Code, LookalikeError
from lookalike_server.rpc.message_bytes import MessageBytes

GREEDY, QUIET = Caller("greedy"), Caller("quiet")


def is_rejected(message_bytes: MessageBytes, caller: Caller) -> bool:
    """Whether a call of this caller is rejected."""
    try:
        message_bytes.check(caller)
    except LookalikeError as error:
        return error.code is Code.RESOURCE_EXHAUSTED and error.retry_after is not None
    return False


async def test_calls_are_rejected_while_the_budget_is_used_up() -> None:
    """Below the budget every call passes; above it those do whose caller has less than its share."""
    message_bytes = MessageBytes(100)
    message_bytes.add(GREEDY, 99)
    assert not is_rejected(message_bytes, GREEDY)
    message_bytes.add(GREEDY, 500)
    assert is_rejected(message_bytes, GREEDY)
    assert not is_rejected(message_bytes, QUIET)
    message_bytes.add(QUIET, 50)
    assert is_rejected(message_bytes, QUIET)
    message_bytes.remove(GREEDY, 599)
    assert not is_rejected(message_bytes, GREEDY)
    assert not is_rejected(message_bytes, QUIET)
    assert repr(message_bytes) == "<MessageBytes [50 of 100]>"


async def test_streams_wait_until_there_is_room() -> None:
    """A stream waits while the budget is used up, and goes on once messages have been answered."""
    message_bytes = MessageBytes(100)
    message_bytes.add(GREEDY, 150)
    waiting = asyncio.create_task(message_bytes.wait(GREEDY))
    await asyncio.wait_for(message_bytes.wait(QUIET), 10)
    message_bytes.remove(GREEDY, 10)
    for _ in range(5):
        await asyncio.sleep(0)
    assert not waiting.done()
    message_bytes.remove(GREEDY, 140)
    await asyncio.wait_for(waiting, 10)


def test_an_empty_budget_is_used_up_by_nothing() -> None:
    """A message that is larger than the budget is read where nothing else is in memory."""
    message_bytes = MessageBytes(1)
    message_bytes.check(GREEDY)
    message_bytes.add(GREEDY, 10_000)
    with pytest.raises(LookalikeError):
        message_bytes.check(GREEDY)


def test_empty_messages_count_for_nothing() -> None:
    """An empty message may outlast all others of its caller."""
    message_bytes = MessageBytes(100)
    message_bytes.add(GREEDY, 0)
    message_bytes.add(GREEDY, 50)
    message_bytes.remove(GREEDY, 50)
    message_bytes.remove(GREEDY, 0)
    assert repr(message_bytes) == "<MessageBytes [0 of 100]>"
