"""The batcher by itself: what it decides, and that no caller's end touches another's."""

from __future__ import annotations

import asyncio
import math
from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fakes import FailingSession, HeldSession, MeanColourSession, RecordingObserver
from lookalike_server.domain import Pixels, Session
from lookalike_server.errors import Code, LookalikeError
from lookalike_server.inference.batcher import MicroBatcher, take_batch
from serving import until


@dataclass(frozen=True)
class Entry:
    """What `take_batch` looks at."""

    name: int
    deadline: float = math.inf
    given_up: bool = False


entries = st.lists(st.tuples(st.floats(0, 10), st.booleans())).map(
    lambda pairs: [Entry(i, deadline, gone) for i, (deadline, gone) in enumerate(pairs)]
)


@given(entries, st.floats(0, 10), st.integers(1, 8))
def test_take_batch_takes_the_oldest_live_entries(queue: list[Entry], now: float, limit: int) -> None:
    """The batch is the first `limit` entries that are neither given up nor expired, in order; each is in one list."""
    taken = take_batch(queue, now, limit)
    live = [entry for entry in queue if not entry.given_up and entry.deadline > now]
    assert list(taken.batch) == live[:limit]
    assert all(entry.deadline <= now for entry in taken.expired)
    assert all(entry.given_up for entry in taken.cancelled)
    left = [*taken.batch, *taken.expired, *taken.cancelled]
    assert len({entry.name for entry in left}) == len(left)
    if len(live) < limit:
        assert len(left) == len(queue)


def colour(value: int) -> Pixels:
    """A photo of one colour: uint8 [2, 2, 3]."""
    return np.full((2, 2, 3), value, dtype=np.uint8)


class Rig:
    """A started batcher over a session that can be held."""

    def __init__(self, session: Session | None = None, *, max_batch: int = 4, max_queue: int = 100) -> None:
        self.session = HeldSession(session or MeanColourSession())
        self.observer = RecordingObserver()
        self.now = 1000.0
        self.batcher = MicroBatcher(
            self.session,
            max_batch=max_batch,
            max_queue=max_queue,
            observer=self.observer,
            clock=lambda: self.now,
        )

    async def __aenter__(self) -> Rig:
        await self.batcher.start(2, 2)
        self.session.sizes.clear()
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

    def embed(self, value: int, deadline: float = math.inf) -> asyncio.Task[float]:
        """Ask for a photo of one colour; the answer must be that colour."""

        async def ask() -> float:
            return float((await self.batcher.embed(colour(value), deadline)).vector[0])

        return asyncio.create_task(ask())

    async def queued(self, count: int) -> None:
        """Return once so many are waiting."""
        await until(lambda: f"Queued: {count} " in repr(self.batcher))


async def test_idle_batcher_runs_at_once_and_a_busy_one_groups() -> None:
    """One photo runs alone and at once; what comes while it runs shares the next batches, each with its own answer."""
    async with Rig() as rig:
        first = await rig.occupy()
        waiting = [rig.embed(value) for value in range(6)]
        await rig.queued(6)
        assert repr(rig.batcher) == "<MicroBatcher [Queued: 6 | Running: 1]>"
        rig.session.let_go()
        assert await asyncio.gather(first, *waiting) == [200, 0, 1, 2, 3, 4, 5]
        assert rig.session.sizes == [1, 4, 2]
        assert repr(rig.batcher) == "<MicroBatcher [Queued: 0 | Running: 0]>"


async def test_cancelled_while_waiting_is_not_computed() -> None:
    """A caller that gives up while waiting leaves the queue; nothing is computed for it and the others are answered."""
    async with Rig() as rig:
        first = await rig.occupy()
        waiting = [rig.embed(value) for value in range(4)]
        await rig.queued(4)
        waiting[1].cancel()
        await rig.queued(3)
        rig.session.let_go()
        answers = await asyncio.gather(first, *waiting, return_exceptions=True)
        assert isinstance(answers.pop(2), asyncio.CancelledError)
        assert answers == [200, 0, 2, 3]
        assert rig.session.sizes == [1, 3]
        assert rig.observer.cancelled == 1


async def test_cancelled_while_running_leaves_its_batch_alone() -> None:
    """A caller that gives up while its batch runs costs the others in it nothing."""
    async with Rig() as rig:
        first = await rig.occupy()
        waiting = [rig.embed(value) for value in range(3)]
        await rig.queued(3)
        first.cancel()
        await asyncio.gather(first, return_exceptions=True)
        rig.session.let_go()
        assert await asyncio.gather(*waiting) == [0, 1, 2]


async def test_expired_is_not_computed() -> None:
    """An entry whose deadline passes while it waits is told so and never reaches the model."""
    async with Rig() as rig:
        first = await rig.occupy()
        late, patient = rig.embed(1, deadline=rig.now + 10), rig.embed(2, deadline=rig.now + 1000)
        await rig.queued(2)
        rig.now += 10
        rig.session.let_go()
        with pytest.raises(LookalikeError) as caught:
            await late
        assert caught.value.code is Code.DEADLINE_EXCEEDED
        assert (await first, await patient) == (200, 2)
        assert rig.session.sizes == [1, 1]
        assert rig.observer.expired == 1


async def test_full_queue_refuses_at_once() -> None:
    """Beyond max_queue a caller is refused with a time to come back; those inside are answered."""
    async with Rig(max_queue=2) as rig:
        first = await rig.occupy()
        inside = [rig.embed(1), rig.embed(2)]
        await rig.queued(2)
        with pytest.raises(LookalikeError) as caught:
            await rig.batcher.embed(colour(3))
        assert caught.value.code is Code.RESOURCE_EXHAUSTED
        assert caught.value.retry_after is not None
        assert caught.value.retry_after > 0
        rig.session.let_go()
        assert await asyncio.gather(first, *inside) == [200, 1, 2]


async def test_deadline_that_cannot_be_met_is_refused_when_busy_and_tried_when_idle() -> None:
    """A busy batcher refuses what it predicts to miss; an idle one always tries."""
    async with Rig() as rig:
        assert await rig.embed(7, deadline=rig.now + 1e-9) == 7
        first = await rig.occupy()
        with pytest.raises(LookalikeError) as caught:
            await rig.batcher.embed(colour(3), deadline=rig.now + 1e-9)
        assert caught.value.code is Code.RESOURCE_EXHAUSTED
        rig.session.let_go()
        assert await first == 200


async def test_failing_run_fails_its_own_callers_only() -> None:
    """A run that raises is an INTERNAL error to its batch; the batches before and after it are answered."""
    warm_up = 6  # two runs of each of 1, 2, 4
    failing = FailingSession(MeanColourSession(), lambda run: run == warm_up + 1)
    async with Rig(failing) as rig:
        first = await rig.occupy()
        waiting = [rig.embed(value) for value in range(8)]
        await rig.queued(8)
        rig.session.let_go()
        answers = await asyncio.gather(first, *waiting, return_exceptions=True)
        assert answers[0] == 200
        assert all(isinstance(answer, LookalikeError) and answer.code is Code.INTERNAL for answer in answers[1:5])
        assert answers[5:] == [4, 5, 6, 7]
        assert [size for size, _ in rig.observer.failed_batches] == [4]


async def test_close_answers_everybody() -> None:
    """Closing lets the running batch's callers and the waiting ones know; later callers too."""
    rig = Rig()
    await rig.__aenter__()
    first = await rig.occupy()
    waiting = rig.embed(1)
    await rig.queued(1)
    closing = asyncio.create_task(rig.batcher.close())
    answers = await asyncio.gather(first, waiting, return_exceptions=True)
    assert all(isinstance(answer, LookalikeError) and answer.code is Code.UNAVAILABLE for answer in answers)
    rig.session.let_go()
    await closing
    with pytest.raises(LookalikeError) as caught:
        await rig.batcher.embed(colour(1))
    assert caught.value.code is Code.UNAVAILABLE


async def test_every_rung_is_warm_before_the_first_caller() -> None:
    """Starting runs each power of two up to max_batch, and max_batch itself, twice, and reports a time for each."""
    session = HeldSession(MeanColourSession())
    batcher = MicroBatcher(session, max_batch=6, max_queue=10, observer=RecordingObserver())
    ladder = await batcher.start(2, 2)
    assert session.sizes == [1, 1, 2, 2, 4, 4, 6, 6]
    assert [rung.batch_size for rung in ladder] == [1, 2, 4, 6]
    await batcher.close()


@pytest.mark.parametrize("seed", range(20))
async def test_every_answer_belongs_to_its_question(seed: int) -> None:
    """Whoever gives up, at any point under load, everybody else gets the answer to their own question."""
    random = np.random.default_rng(seed)
    async with Rig(max_batch=int(random.integers(1, 9))) as rig:
        tasks = [rig.embed(value) for value in range(100)]
        doomed = set(random.choice(100, size=50, replace=False).tolist())
        for value in random.permutation(sorted(doomed)).tolist():
            for _ in range(int(random.integers(0, 4))):
                await asyncio.sleep(0)
            tasks[value].cancel()
        answers = await asyncio.gather(*tasks, return_exceptions=True)
        for value, answer in enumerate(answers):
            if value in doomed and isinstance(answer, asyncio.CancelledError):
                continue
            assert answer == value
