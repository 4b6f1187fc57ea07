"""The gate: whether the engine is ready for calls, and how many calls are being served."""

from __future__ import annotations

import asyncio

from lookalike_server.domain.errors import LookalikeError, unavailable
from lookalike_server.engine.api import EngineApi


class Gate:
    """Opened with the engine, suspended while that is lost, closed for good by draining. Lives on one event loop."""

    def __init__(self) -> None:
        self._engine: EngineApi | None = None
        self._closed = False
        self._inside = 0
        self._empty = asyncio.Event()
        self._empty.set()

    def open(self, engine: EngineApi) -> None:
        """Serve calls with this engine."""
        self._engine = engine

    def suspend(self) -> None:
        """Reject calls until it is opened again; those being served keep the engine they have."""
        self._engine = None

    @property
    def engine(self) -> EngineApi:
        """The engine, for a call that has entered."""
        if self._engine is None:
            raise self._rejection()
        return self._engine

    @property
    def is_open(self) -> bool:
        """Whether calls may enter."""
        return self._engine is not None and not self._closed

    @property
    def inside(self) -> int:
        """Calls that have entered and not left."""
        return self._inside

    def enter(self) -> None:
        """Count one call in.

        Raises:
            LookalikeError: UNAVAILABLE while the server starts or drains.
        """
        if not self.is_open:
            raise self._rejection()
        self._inside += 1
        self._empty.clear()

    def leave(self) -> None:
        """Count one call out."""
        self._inside -= 1
        if self._inside == 0:
            self._empty.set()

    async def drain(self, seconds: float) -> bool:
        """Reject calls from now on and wait for those inside, at most this long; return whether all of them left."""
        self._closed = True
        try:
            await asyncio.wait_for(self._empty.wait(), seconds)
        except TimeoutError:
            return False
        return True

    def _rejection(self) -> LookalikeError:
        if self._closed:
            return unavailable("the server is shutting down; call another one")
        return unavailable("the server is starting and its model is not ready yet; try again")
