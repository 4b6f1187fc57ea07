"""Who gives up, expires or meets a failing run touches nobody else: properties over the batcher and the reuse."""

from __future__ import annotations

import asyncio
import math
from dataclasses import dataclass

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from lookalike_server.domain.errors import Code, LookalikeError
from lookalike_server.domain.inference import BatchProfile, Floats, Pixels, RawImage
from lookalike_server.inference.autotune import Plan
from lookalike_server.inference.batcher import MicroBatcher
from lookalike_server.inference.embedding_cache import Embedding, EmbeddingCache
from support.fakes import FailingSession, MeanColorSession, RecordingObserver

MOST_TURNS = 60  # of the event loop; about what a load of this size takes from the first image to the last answer
BIG = 1 << 20  # bytes of cache; 0 turns reuse off


@dataclass(frozen=True)
class Caller:
    """One call of a load.

    Attributes:
        color: Of its image; several callers may send the same.
        begins: Turns of the event loop before it calls.
        gives_up: Turns after which it cancels; None for a patient one.
        expired: Whether its deadline is past when it calls.
        bulk: Whether it is of a stream.
    """

    color: int
    begins: int
    gives_up: int | None
    expired: bool
    bulk: bool


CALLERS = st.lists(
    st.builds(
        Caller,
        color=st.integers(0, 255),
        begins=st.integers(0, 20),
        gives_up=st.none() | st.integers(0, MOST_TURNS),
        expired=st.sampled_from([False, False, False, True]),
        bulk=st.booleans(),
    ),
    min_size=1,
    max_size=60,
)


class Load:
    """Callers of one batcher, each as it was drawn."""

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
        self._reuse = EmbeddingCache(cache, self._observer)

    async def outcomes(self, callers: list[Caller]) -> list[float | BaseException]:
        """What became of each: the color it was told, or the error it met."""
        try:
            tasks = [asyncio.create_task(self._call(caller)) for caller in callers]
            async with asyncio.timeout(30):  # whom nobody answers fails the test instead of hanging it
                return await asyncio.gather(*tasks, return_exceptions=True)
        finally:
            await self.batcher.close()

    async def _call(self, caller: Caller) -> float:
        await _turns(caller.begins)
        asking = asyncio.create_task(self._ask(caller))
        if caller.gives_up is not None:
            await _turns(caller.gives_up)
            asking.cancel()
        return float((await asking)[0])

    async def _ask(self, caller: Caller) -> Floats:
        pixels: Pixels = np.full((2, 2, 3), caller.color, dtype=np.uint8)
        deadline = 999.0 if caller.expired else math.inf

        async def compute() -> Embedding:
            ran = await self.batcher.embed(pixels, deadline, bulk=caller.bulk)
            return Embedding(ran.vector, 0.0, ran)

        return (await self._reuse.embed(RawImage(pixels, None, "image"), compute, bulk=caller.bulk)).vector


async def _turns(count: int) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


@settings(derandomize=True, deadline=None, database=None, max_examples=150)
@given(
    callers=CALLERS, batch=st.integers(1, 8), max_concurrent_batches=st.integers(1, 3), cache=st.sampled_from([0, BIG])
)
def test_every_answer_belongs_to_its_question(
    callers: list[Caller], batch: int, max_concurrent_batches: int, cache: int
) -> None:
    """Whoever cancels, at any point under load, everybody else gets the answer to their own query.

    A deadline that is past costs only its own caller; an answer that needs no run may still come.
    """
    outcomes = asyncio.run(
        Load(batch=batch, max_concurrent_batches=max_concurrent_batches, cache=cache, fails_every=0).outcomes(callers)
    )
    for caller, outcome in zip(callers, outcomes, strict=True):
        if isinstance(outcome, asyncio.CancelledError):
            assert caller.gives_up is not None
        elif isinstance(outcome, BaseException):
            assert caller.expired
            assert isinstance(outcome, LookalikeError)
            assert outcome.code in (Code.DEADLINE_EXCEEDED, Code.RESOURCE_EXHAUSTED)
        else:
            assert outcome == caller.color


@settings(derandomize=True, deadline=None, database=None, max_examples=75)
@given(callers=CALLERS, batch=st.integers(1, 8), max_concurrent_batches=st.integers(1, 3))
def test_failing_runs_answer_nobody_wrongly(callers: list[Caller], batch: int, max_concurrent_batches: int) -> None:
    """With a model that fails every third run, a caller gets its own answer or INTERNAL, never somebody else's."""
    outcomes = asyncio.run(
        Load(batch=batch, max_concurrent_batches=max_concurrent_batches, cache=0, fails_every=3).outcomes(callers)
    )
    for caller, outcome in zip(callers, outcomes, strict=True):
        if isinstance(outcome, asyncio.CancelledError):
            assert caller.gives_up is not None
        elif isinstance(outcome, LookalikeError):
            late = (Code.DEADLINE_EXCEEDED, Code.RESOURCE_EXHAUSTED) if caller.expired else ()
            assert outcome.code in (Code.INTERNAL, *late)
        else:
            assert outcome == caller.color
