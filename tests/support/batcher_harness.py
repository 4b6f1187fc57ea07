"""A batcher whose model can be held, so that a test decides which images wait together."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Iterable

import numpy as np

from lookalike_server.domain.calls import ANYBODY, Caller
from lookalike_server.domain.inference import BatchProfile, Pixels
from lookalike_server.domain.protocols import Session
from lookalike_server.inference.batcher import MicroBatcher
from lookalike_server.inference.plan import Plan
from support.fakes import HeldSession, MeanColorSession, RecordingObserver
from support.serving import until


def color(value: int) -> Pixels:
    """An image of one color: uint8 [2, 2, 3]."""
    return np.full((2, 2, 3), value, dtype=np.uint8)


class BatcherHarness:
    """A started batcher over a session that can be held."""

    def __init__(
        self,
        session: Session | None = None,
        *,
        max_batch_size: int = 4,
        max_queue_size: int = 100,
        max_concurrent_batches: int = 1,
        bulk_wait: float = math.inf,
        latency_session: HeldSession | None = None,
    ) -> None:
        self.session = HeldSession(session or MeanColorSession())
        self.observer = RecordingObserver()
        self.now = 1000.0
        profiles = tuple(
            BatchProfile(size, 0.01 * size, max_concurrent_batches) for size in (1, 2, 4, 8) if size <= max_batch_size
        )
        self.batcher = MicroBatcher(
            Plan(
                latency_session or self.session,
                self.session,
                max_concurrent_batches,
                max_batch_size,
                profiles,
                BatchProfile(1, 0.01),
            ),
            max_queue_size=max_queue_size,
            bulk_wait=bulk_wait,
            observer=self.observer,
            clock=lambda: self.now,
        )

    async def __aenter__(self) -> BatcherHarness:
        return self

    async def __aexit__(self, *_: object) -> None:
        self.session.let_go()
        await self.batcher.close()

    async def occupy(self) -> asyncio.Task[float]:
        """Hold the run of one image, so that later images wait."""
        self.session.hold()
        task = self.embed(200)
        await self.session.caught()
        return task

    def embed(
        self, value: int, deadline: float = math.inf, *, bulk: bool = False, caller: Caller = ANYBODY
    ) -> asyncio.Task[float]:
        """Embed an image of one color, whose embedding is that color."""

        async def embed() -> float:
            return float((await self.batcher.embed(color(value), deadline, bulk=bulk, caller=caller)).vector[0])

        return asyncio.create_task(embed())

    @staticmethod
    def drop_results(tasks: Iterable[asyncio.Task[float]]) -> None:
        """Let these images fail without anybody minding."""
        for task in tasks:
            task.add_done_callback(lambda done: done.cancelled() or done.exception())

    async def queued(self, count: int) -> None:
        """Return once this many images are queued."""
        await until(lambda: f"Queued: {count} " in repr(self.batcher))
