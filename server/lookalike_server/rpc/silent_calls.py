"""Calls whose next message is awaited: about a thousand may be silent at once, and the longest silent makes room."""

from __future__ import annotations

import asyncio
from contextlib import AbstractAsyncContextManager
from types import TracebackType

from lookalike_server.domain.errors import Code, LookalikeError, Rejection

MAX_SILENT_CALLS = 1024
"""Each takes up to 60 KB while it sends nothing."""

_EVICTED = object()


class SilentCalls:
    """Ends calls that send nothing for too long, or the one that has for the longest where there are too many.

    Lives on one event loop.
    """

    def __init__(self, max_calls: int = MAX_SILENT_CALLS) -> None:
        """Let so many calls be silent at once."""
        self._max_calls = max_calls
        self._waiting: dict[asyncio.Timeout, object] = {}  # the longest silent first

    def awaiting_message(self, seconds: float | None) -> AbstractAsyncContextManager[None]:
        """Wait for a message in the block.

        Args:
            seconds: How long it may take; None where the call ends by itself.

        Raises:
            LookalikeError: DEADLINE_EXCEEDED when it took too long, RESOURCE_EXHAUSTED when others needed the room.
        """
        return _Awaiting(self, seconds)

    def add(self, timeout: asyncio.Timeout) -> None:
        """Count a call as silent, and end the longest silent where there are too many."""
        self._waiting[timeout] = None
        if len(self._waiting) > self._max_calls:
            oldest = next(iter(self._waiting))
            del self._waiting[oldest]
            oldest.reschedule(asyncio.get_running_loop().time())

    def remove(self, timeout: asyncio.Timeout) -> bool:
        """Count a call no more, and return whether it was among the silent ones still."""
        return self._waiting.pop(timeout, _EVICTED) is None


class _Awaiting(AbstractAsyncContextManager[None]):
    """A class, because every call has one, and a generator takes several times as long."""

    __slots__ = ("_calls", "_seconds", "_timeout")

    def __init__(self, calls: SilentCalls, seconds: float | None) -> None:
        self._calls = calls
        self._seconds = seconds
        self._timeout = asyncio.timeout(seconds)

    async def __aenter__(self) -> None:
        await self._timeout.__aenter__()
        self._calls.add(self._timeout)

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        evicted = not self._calls.remove(self._timeout)
        try:
            await self._timeout.__aexit__(kind, error, trace)
        except TimeoutError:
            if evicted:
                raise LookalikeError(
                    Code.RESOURCE_EXHAUSTED,
                    "too many calls send nothing, and this one has sent nothing for the longest; send it again at once",
                    retry_after=1.0,
                    rejection=Rejection.SILENT,
                ) from None
            raise LookalikeError(
                Code.DEADLINE_EXCEEDED,
                f"the request did not arrive within {self._seconds:g} seconds; send it faster, or in parts",
            ) from None
