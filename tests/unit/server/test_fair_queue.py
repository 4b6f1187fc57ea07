"""The queue in front of a shared resource: who enters, when, and who leaves without entering."""

from __future__ import annotations

import asyncio
import math

import pytest

from lookalike_server.domain.calls import Call, Caller
from lookalike_server.domain.errors import Code, LookalikeError
from lookalike_server.scheduling.fair_queue import FairQueue
from support.serving import until


class Held:
    """Entries of a queue that stay inside until the test lets them leave."""

    def __init__(self, queue: FairQueue) -> None:
        self.queue = queue
        self.entered: list[str] = []
        self._leave: dict[str, asyncio.Event] = {}
        self.tasks: dict[str, asyncio.Task[None]] = {}

    def enter(
        self, name: str, *, caller: str = "", deadline: float = math.inf, units: int = 0, bulk: bool = False
    ) -> asyncio.Task[None]:
        """Begin to enter."""
        leave = self._leave[name] = asyncio.Event()

        async def hold() -> None:
            async with self.queue.enter(Call(0.0, deadline, Caller(caller)), units, bulk=bulk):
                self.entered.append(name)
                await leave.wait()

        self.tasks[name] = asyncio.create_task(hold())
        return self.tasks[name]

    async def leave(self, name: str) -> None:
        """Leave the queue."""
        self._leave[name].set()
        await self.tasks[name]
        await settle()


async def settle() -> None:
    """Let every task run until it waits."""
    for _ in range(5):
        await asyncio.sleep(0)


async def test_slots_and_turns() -> None:
    """No more enter than there are slots, and the next one is the caller's whose turn it is."""
    held = Held(FairQueue(2))
    for number in range(4):
        held.enter(f"greedy{number}", caller="greedy")
    held.enter("quiet", caller="quiet")
    await settle()
    assert held.entered == ["greedy0", "greedy1"]
    assert repr(held.queue) == "<FairQueue [Queued: 3 | Inside: 2]>"
    await held.leave("greedy0")
    assert held.entered[2:] == ["quiet"]
    await held.leave("greedy1")
    await held.leave("greedy2")
    await held.leave("quiet")
    await held.leave("greedy3")
    assert repr(held.queue) == "<FairQueue [Queued: 0 | Inside: 0]>"


async def test_capacity() -> None:
    """Entries share the capacity; one that needs more enters alone, and nobody overtakes it."""
    held = Held(FairQueue(10, 100))
    held.enter("small", units=60)
    held.enter("large", units=500)
    held.enter("tiny", units=1)
    await settle()
    assert held.entered == ["small"]
    await held.leave("small")
    assert held.entered == ["small", "large"]
    await held.leave("large")
    assert held.entered == ["small", "large", "tiny"]
    await held.leave("tiny")


async def test_bulk_waits_for_interactive_work_but_not_forever() -> None:
    """Interactive entries go first, until a bulk one has waited too long."""
    now = 0.0
    held = Held(FairQueue(1, bulk_wait=10.0, clock=lambda: now))
    held.enter("first")
    held.enter("bulk", bulk=True)
    held.enter("second")
    await settle()
    await held.leave("first")
    assert held.entered == ["first", "second"]
    held.enter("third")
    await settle()
    now = 10.0
    await held.leave("second")
    assert held.entered == ["first", "second", "bulk"]
    await held.leave("bulk")
    await held.leave("third")


async def test_whoever_expires_or_is_cancelled_does_not_enter() -> None:
    """An entry whose deadline passes or whose caller goes leaves the queue, and the next one enters."""
    now = 0.0
    held = Held(FairQueue(1, clock=lambda: now))
    held.enter("first")
    late = held.enter("late", deadline=5.0)
    gone = held.enter("gone", deadline=6.0)
    held.enter("last")
    await settle()
    gone.cancel()
    await settle()
    now = 5.0
    await held.leave("first")
    with pytest.raises(LookalikeError) as caught:
        await late
    assert caught.value.code is Code.DEADLINE_EXCEEDED
    assert held.entered == ["first", "last"]
    await held.leave("last")


async def test_a_caller_that_goes_as_it_enters_leaves() -> None:
    """An entry that is cancelled in the turn in which it may enter gives its slot to the next one."""
    held = Held(FairQueue(1))
    first, second = held.enter("first"), held.enter("second")
    held.enter("third")
    await settle()
    first.cancel()
    await asyncio.sleep(0)  # its slot is the second one's, which has not run yet
    second.cancel()
    await settle()
    assert held.entered == ["first", "third"]
    await held.leave("third")


async def test_predicted_wait() -> None:
    """The predicted wait is nothing while a slot is free, and grows with what is ahead; turns are considered."""
    now = 0.0
    held = Held(FairQueue(2, clock=lambda: now))
    greedy, quiet = Call(0.0, math.inf, Caller("greedy")), Call(0.0, math.inf, Caller("quiet"))
    held.enter("learn", caller="greedy")
    await settle()
    now = 10.0
    await held.leave("learn")
    held.enter("one", caller="greedy")
    await settle()
    assert held.queue.wait_seconds(greedy) == 0.0
    for number in range(9):
        held.enter(f"more{number}", caller="greedy")
    await until(lambda: "Queued: 8" in repr(held.queue))
    assert held.queue.wait_seconds(greedy) == pytest.approx(9 * held.queue.seconds / 2)
    assert held.queue.wait_seconds(quiet) == pytest.approx(held.queue.seconds / 2)
    for task in held.tasks.values():
        task.cancel()
