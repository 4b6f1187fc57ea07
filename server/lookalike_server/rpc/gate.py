"""Whether calls are let in: not before the engine is ready, not while draining; and how many are inside."""

from __future__ import annotations

import asyncio

from lookalike_server.domain.errors import LookalikeError, unavailable
from lookalike_server.engine.api import EngineApi


class Gate:
    """Opened with the engine, shut where that is lost, and closed once for good. Lives on one event loop."""

    def __init__(self) -> None:
        self._engine: EngineApi | None = None
        self._closed = False
        self._inside = 0
        self._empty = asyncio.Event()
        self._empty.set()

    def open(self, engine: EngineApi) -> None:
        """Let calls in."""
        self._engine = engine

    def suspend(self) -> None:
        """Let nobody in until it is opened again; those inside keep the engine they have."""
        self._engine = None

    @property
    def engine(self) -> EngineApi:
        """The engine, for a call that was let in."""
        if self._engine is None:
            raise self._rejection()
        return self._engine

    @property
    def is_open(self) -> bool:
        """Whether calls are let in."""
        return self._engine is not None and not self._closed

    @property
    def inside(self) -> int:
        """Calls that were let in and are not over."""
        return self._inside

    def enter(self) -> None:
        """Let one call in.

        Raises:
            LookalikeError: UNAVAILABLE while the server starts or drains.
        """
        if not self.is_open:
            raise self._rejection()
        self._inside += 1
        self._empty.clear()

    def leave(self) -> None:
        """One call that was let in is over."""
        self._inside -= 1
        if self._inside == 0:
            self._empty.set()

    async def drain(self, seconds: float) -> bool:
        """Let nobody in any more and wait for those inside, at most this long; whether all came out."""
        self._closed = True
        try:
            await asyncio.wait_for(self._empty.wait(), seconds)
        except TimeoutError:
            return False
        return True

    def _rejection(self) -> LookalikeError:
        if self._closed:
            return unavailable("the server is shutting down; ask another one")
        return unavailable("the server is starting: its model is not ready yet; try again")
