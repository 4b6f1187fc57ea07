"""The gate: whether the engine is ready for calls, and how many calls are being served."""

from __future__ import annotations

import asyncio

from lookalike_server.domain.errors import LookalikeError, Rejection, unavailable
from lookalike_server.engine.api import EngineApi
from lookalike_server.rpc.draining import Draining


class Gate:
    """Opened with the engine, and suspended while that is lost. Lives on one event loop.

    Attributes:
        draining: What calls and streams ask while the server drains.
    """

    def __init__(self) -> None:
        self.draining = Draining()
        self._engine: EngineApi | None = None
        self._drains = False
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
    def is_ready(self) -> bool:
        """Whether new callers should come here; those that do while it drains are served nevertheless."""
        return self._engine is not None and not self._drains

    @property
    def inside(self) -> int:
        """Calls that have entered and not left."""
        return self._inside

    def enter(self) -> None:
        """Count one call in.

        Raises:
            LookalikeError: UNAVAILABLE while there is no engine.
        """
        if self._engine is None:
            raise self._rejection()
        self.draining.arrived()
        self._inside += 1
        self._empty.clear()

    def leave(self) -> None:
        """Count one call out."""
        self._inside -= 1
        if self._inside == 0:
            self._empty.set()

    def announce_drain(self) -> None:
        """Be ready no more: whoever asks is to call another server."""
        self._drains = True

    async def emptied(self, seconds: float) -> bool:
        """Wait at most this long until no call is inside, and return whether all have left."""
        try:
            await asyncio.wait_for(self._empty.wait(), seconds)
        except TimeoutError:
            return False
        return True

    def _rejection(self) -> LookalikeError:
        if self._drains:
            return unavailable("the server is shutting down; call another one", Rejection.DRAINING)
        return unavailable("the server is starting and its model is not ready yet; try again", Rejection.STARTING)
