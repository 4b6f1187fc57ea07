"""Callers that cancel, expire or meet a failing run affect no other: properties of the batcher and the cache."""

from __future__ import annotations

import asyncio
import math
from dataclasses import dataclass

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from lookalike_server.domain.errors import Code, LookalikeError
from lookalike_server.domain.inference import BatchProfile, EmbedResult, Floats, Pixels, RawImage
from lookalike_server.inference.batcher import MicroBatcher
from lookalike_server.inference.embedding_cache import EmbeddingCache
from lookalike_server.inference.plan import Plan
from support.both_kinds import both_kinds  # noqa: F401 - every test runs with both
from support.fakes import FailingSession, MeanColorSession, RecordingObserver

MAX_ITERATIONS = 60  # of the event loop; about what this load takes from the first image to the last result
CACHE_BYTES = 1 << 20


@dataclass(frozen=True)
class Caller:
    """One call of a load.

    Attributes:
        color: Of its image; several callers may send the same.
        starts_after: Iterations of the event loop before it calls.
        cancels_after: Iterations after which it cancels; None for never.
        expired: Whether its deadline has passed when it calls.
        bulk: Whether it is a stream's item.
    """

    color: int
    starts_after: int
    cancels_after: int | None
    expired: bool
    bulk: bool


CALLERS = st.lists(
    st.builds(
        Caller,
        color=st.integers(0, 255),
        starts_after=st.integers(0, 20),
        cancels_after=st.none() | st.integers(0, MAX_ITERATIONS),
        expired=st.sampled_from([False, False, False, True]),
        bulk=st.booleans(),
    ),
    min_size=1,
    max_size=60,
)


class Load:
    """Callers of one batcher with a cache."""

    def __init__(self, *, batch: int, max_concurrent_batches: int, cache: int, fails_every: int) -> None:
        self._observer = RecordingObserver()
        session = FailingSession(MeanColorSession(), lambda run: fails_every > 0 and run % fails_every == 0)
        session.begin()
        profiles = tuple(BatchProfile(size, 0.001, max_concurrent_batches) for size in range(1, batch + 1))
        self.batcher = MicroBatcher(
            Plan(session, session, max_concurrent_batches, batch, profiles, BatchProfile(1, 0.001)),
            max_queue_size=1000,
            bulk_wait=0.0,
            observer=self._observer,
            clock=lambda: 1000.0,
        )
        self._cache = EmbeddingCache(cache, self._observer)

    async def outcomes(self, callers: list[Caller]) -> list[float | BaseException]:
        """Run the callers, and return the color or the error that each got."""
        try:
            tasks = [asyncio.create_task(self._call(caller)) for caller in callers]
            async with asyncio.timeout(30):  # a caller without a result fails the test instead of hanging it
                return await asyncio.gather(*tasks, return_exceptions=True)
        finally:
            await self.batcher.close()

    async def _call(self, caller: Caller) -> float:
        await _iterate(caller.starts_after)
        embedding = asyncio.create_task(self._embed(caller))
        if caller.cancels_after is not None:
            await _iterate(caller.cancels_after)
            embedding.cancel()
        return float((await embedding)[0])

    async def _embed(self, caller: Caller) -> Floats:
        pixels: Pixels = np.full((2, 2, 3), caller.color, dtype=np.uint8)
        deadline = 999.0 if caller.expired else math.inf

        async def compute() -> EmbedResult:
            return await self.batcher.embed(pixels, deadline, bulk=caller.bulk)

        image = RawImage(pixels, None, "image")
        return (await self._cache.get_or_compute(image, compute, bulk=caller.bulk)).vector


async def _iterate(count: int) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


@settings(derandomize=True, database=None, max_examples=150)
@given(
    callers=CALLERS,
    batch=st.integers(1, 8),
    max_concurrent_batches=st.integers(1, 3),
    cache=st.sampled_from([0, CACHE_BYTES]),
)
def test_every_caller_gets_its_own_result(
    callers: list[Caller], batch: int, max_concurrent_batches: int, cache: int
) -> None:
    """Whichever callers cancel, at any point under load, all others get the embedding of their own image.

    A deadline that has passed fails only its own caller, which may still get a result that needs no run.
    """
    outcomes = asyncio.run(
        Load(batch=batch, max_concurrent_batches=max_concurrent_batches, cache=cache, fails_every=0).outcomes(callers)
    )
    for caller, outcome in zip(callers, outcomes, strict=True):
        if isinstance(outcome, asyncio.CancelledError):
            assert caller.cancels_after is not None
        elif isinstance(outcome, BaseException):
            assert caller.expired
            assert isinstance(outcome, LookalikeError)
            assert outcome.code in (Code.DEADLINE_EXCEEDED, Code.RESOURCE_EXHAUSTED)
        else:
            assert outcome == caller.color


@settings(derandomize=True, database=None, max_examples=75)
@given(callers=CALLERS, batch=st.integers(1, 8), max_concurrent_batches=st.integers(1, 3))
def test_failing_runs_give_no_wrong_results(callers: list[Caller], batch: int, max_concurrent_batches: int) -> None:
    """With a model that fails every third run, a caller gets its own result or INTERNAL, never another's result."""
    outcomes = asyncio.run(
        Load(batch=batch, max_concurrent_batches=max_concurrent_batches, cache=0, fails_every=3).outcomes(callers)
    )
    for caller, outcome in zip(callers, outcomes, strict=True):
        if isinstance(outcome, asyncio.CancelledError):
            assert caller.cancels_after is not None
        elif isinstance(outcome, LookalikeError):
            late = (Code.DEADLINE_EXCEEDED, Code.RESOURCE_EXHAUSTED) if caller.expired else ()
            assert outcome.code in (Code.INTERNAL, *late)
        else:
            assert outcome == caller.color
