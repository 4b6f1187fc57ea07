"""A batcher whose model can be held, so that a test decides who waits with whom."""

from __future__ import annotations

import asyncio
import math

import numpy as np

from fakes import HeldSession, MeanColourSession, RecordingObserver
from lookalike_server.domain import Pixels, Rung
from lookalike_server.inference.batcher import MicroBatcher
from lookalike_server.inference.ladder import Plan
from lookalike_server.protocols import Session
from serving import until


def colour(value: int) -> Pixels:
    """A photo of one colour: uint8 [2, 2, 3]."""
    return np.full((2, 2, 3), value, dtype=np.uint8)


class Rig:
    """A started batcher over a session that can be held."""

    def __init__(
        self,
        session: Session | None = None,
        *,
        max_batch: int = 4,
        max_queue: int = 100,
        lanes: int = 1,
        bulk_wait: float = math.inf,
        wide: HeldSession | None = None,
    ) -> None:
        self.session = HeldSession(session or MeanColourSession())
        self.observer = RecordingObserver()
        self.now = 1000.0
        rungs = tuple(Rung(size, 0.01 * size, lanes) for size in (1, 2, 4, 8) if size <= max_batch)
        self.batcher = MicroBatcher(
            Plan(wide or self.session, self.session, lanes, max_batch, rungs, Rung(1, 0.01)),
            max_queue=max_queue,
            bulk_wait=bulk_wait,
            observer=self.observer,
            clock=lambda: self.now,
        )

    async def __aenter__(self) -> Rig:
        return self

    async def __aexit__(self, *_: object) -> None:
        self.session.let_go()
        await self.batcher.close()

    async def occupy(self) -> asyncio.Task[float]:
        """Have the session held by one photo, so that whatever comes next waits."""
        self.session.hold()
        task = self.embed(200)
        await asyncio.to_thread(self.session.waiting.wait, 30)
        return task

    def embed(self, value: int, deadline: float = math.inf, *, bulk: bool = False) -> asyncio.Task[float]:
        """Ask for a photo of one colour; the answer must be that colour."""

        async def ask() -> float:
            return float((await self.batcher.embed(colour(value), deadline, bulk=bulk)).vector[0])

        return asyncio.create_task(ask())

    async def queued(self, count: int) -> None:
        """Return once so many are waiting."""
        await until(lambda: f"Queued: {count} " in repr(self.batcher))
