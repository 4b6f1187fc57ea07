"""Draining: how a server sends its callers away without losing one of their calls.

gRPC's core cancels every call that arrives between the moment it shuts down and the moment its client has read the
GOAWAY. So responses are held for an instant before: a caller that waits for one sends no next call, and what is on its
way has arrived when the core shuts down. Then the GOAWAY goes out first, and the responses behind it.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager

_QUIET_SECONDS = 0.1
"""When no call has arrived for so long none is on its way: that takes half a round trip, and the time to get a core."""

_MAX_HOLD_SECONDS = 0.5
"""How long responses are held at most, where calls come without waiting for them; seconds of a loop that runs."""

_LATE_SECONDS = 0.01
"""By so much later than asked the loop goes on where it was busy, and calls that had arrived were not seen."""


class Draining:
    """What calls and streams of a server that drains need to know. Lives on one event loop."""

    def __init__(self) -> None:
        self._ends: set[Callable[[], None]] = set()
        self._released: asyncio.Event | None = None
        self._arrived = -math.inf
        self.streams_end = False
        """Whether streams are to end where they can."""

    def arrived(self) -> None:
        """Note that a call arrives."""
        self._arrived = asyncio.get_running_loop().time()

    async def may_respond(self) -> None:
        """Wait while responses are held."""
        if self._released is not None:
            await self._released.wait()

    async def quiet(self) -> None:
        """Hold responses from now on, and wait until no calls arrive, but not for long."""
        self._released = asyncio.Event()
        loop = asyncio.get_running_loop()
        latest = loop.time() + _MAX_HOLD_SECONDS
        while True:
            now = loop.time()
            wait = min(self._arrived + _QUIET_SECONDS, latest) - now
            if wait <= 0:
                return
            await asyncio.sleep(wait)
            late = loop.time() - now - wait
            if late > _LATE_SECONDS:
                latest += late
                self._arrived = loop.time()

    def release(self) -> None:
        """Let the responses go."""
        if self._released is not None:
            self._released.set()
            self._released = None

    def end_streams(self) -> None:
        """End all streams, and from now on each that begins."""
        if not self.streams_end:
            self.streams_end = True
            for end in tuple(self._ends):
                end()

    @contextmanager
    def ended_by(self, end: Callable[[], None]) -> Iterator[None]:
        """Call `end` when streams are to end, at once where they already are, until the block ends."""
        self._ends.add(end)
        if self.streams_end:
            end()
        try:
            yield
        finally:
            self._ends.discard(end)
