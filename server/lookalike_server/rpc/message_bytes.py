"""How many bytes of requests and responses are in memory, by caller."""

from __future__ import annotations

import asyncio

from lookalike_server.domain.calls import Caller
from lookalike_server.domain.errors import Rejection, exhausted

_RETRY_SECONDS = 0.1


class HeldBytes:
    """What one stream has in memory: given back item by item, and the rest at the stream's end."""

    def __init__(self, message_bytes: MessageBytes, caller: Caller) -> None:
        """Begin with nothing."""
        self._message_bytes = message_bytes
        self._caller = caller
        self._held = 0

    def add(self, count: int) -> None:
        """Count a message of the stream."""
        self._held += count
        self._message_bytes.add(self._caller, count)

    def remove(self, count: int) -> None:
        """Count it no longer."""
        self._held -= count
        self._message_bytes.remove(self._caller, count)

    def release(self) -> None:
        """Count none of the stream any longer: items that were never served do not give their bytes back."""
        self.remove(self._held)


class MessageBytes:
    """Bounds the bytes of messages that are in memory. Lives on one event loop.

    A message's size is known when it has been read. So calls are rejected, and streams wait, once the budget is used
    up, and what is being read then may exceed it. Where callers compete, each has its share of the budget.
    """

    def __init__(self, budget: int) -> None:
        """Begin with no message."""
        self._budget = budget
        self._total = 0
        self._by_caller: dict[str, int] = {}
        self._weights: dict[str, float] = {}
        self._freed = asyncio.Event()

    def __repr__(self) -> str:
        return f"<MessageBytes [{self._total:,} of {self._budget:,}]>"

    @property
    def total(self) -> int:
        """The bytes of all messages."""
        return self._total

    def check(self, caller: Caller) -> None:
        """Reject a call while the budget is used up.

        Raises:
            LookalikeError: RESOURCE_EXHAUSTED.
        """
        if self._total >= self._budget and self._has_its_share(caller):
            raise exhausted(
                "the server has too many bytes of requests in memory; try again later", _RETRY_SECONDS, Rejection.BYTES
            )

    async def wait(self, caller: Caller) -> None:
        """Wait until the budget is not used up."""
        while self._total >= self._budget and self._has_its_share(caller):
            self._freed.clear()
            await self._freed.wait()

    def add(self, caller: Caller, count: int) -> None:
        """Count a message."""
        name = caller.name
        self._total += count
        self._by_caller[name] = self._by_caller.get(name, 0) + count
        self._weights[name] = caller.weight

    def remove(self, caller: Caller, count: int) -> None:
        """Count it no longer."""
        name = caller.name
        self._total -= count
        # An empty message has nothing to be remembered by.
        left = self._by_caller.get(name, 0) - count
        if left > 0:
            self._by_caller[name] = left
        else:
            self._by_caller.pop(name, None)
            self._weights.pop(name, None)
        self._freed.set()

    def _has_its_share(self, caller: Caller) -> bool:
        weight = sum(self._weights.values()) + (0.0 if caller.name in self._weights else caller.weight)
        return self._by_caller.get(caller.name, 0) >= self._budget * caller.weight / weight
