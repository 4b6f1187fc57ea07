"""Calls whose next message is awaited: about a thousand may be silent at once, and the longest silent makes room."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from lookalike_server.domain.errors import Code, LookalikeError

MAX_SILENT_CALLS = 1024
"""Each takes up to 60 KB while it sends nothing."""


class SilentCalls:
    """Ends calls that send nothing for too long, or the one that has for the longest where there are too many.

    Lives on one event loop.
    """

    def __init__(self, max_calls: int = MAX_SILENT_CALLS) -> None:
        """Let so many calls be silent at once."""
        self._max_calls = max_calls
        self._waiting: dict[asyncio.Timeout, None] = {}  # the longest silent first

    @asynccontextmanager
    async def awaiting_message(self, seconds: float | None) -> AsyncIterator[None]:
        """Wait for a message in the block.

        Args:
            seconds: How long it may take; None where the call ends by itself.

        Raises:
            LookalikeError: DEADLINE_EXCEEDED when it took too long, RESOURCE_EXHAUSTED when others needed the room.
        """
        timeout = asyncio.timeout(seconds)
        evicted = False  # by another call
        try:
            async with timeout:
                self._waiting[timeout] = None
                if len(self._waiting) > self._max_calls:
                    oldest = next(iter(self._waiting))
                    del self._waiting[oldest]
                    oldest.reschedule(asyncio.get_running_loop().time())
                try:
                    yield
                finally:
                    evicted = timeout not in self._waiting
                    self._waiting.pop(timeout, None)
        except TimeoutError:
            if evicted:
                raise LookalikeError(
                    Code.RESOURCE_EXHAUSTED,
                    "too many calls send nothing, and this one has sent nothing for the longest; send it again at once",
                    retry_after=1.0,
                ) from None
            raise LookalikeError(
                Code.DEADLINE_EXCEEDED,
                f"the request did not arrive within {seconds:g} seconds; send it faster, or in parts",
            ) from None
