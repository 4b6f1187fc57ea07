"""A queue in front of a resource that several callers share: a few enter at once, in fair order.

Entries whose callers have gone or whose deadline has passed leave before they enter. Two classes: bulk work (streams,
imports) enters where no interactive work waits, or once it has waited too long.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass

from lookalike_server.domain.calls import Call, Caller
from lookalike_server.domain.errors import deadline_exceeded
from lookalike_server.scheduling.fair_order import Turns, Waiting, count_ahead, fair_order
from lookalike_server.scheduling.queue_length import QueueLength

_LEARNING_RATE = 0.1  # weight of the newest entry in the moving average of how long entries stay inside


@dataclass(eq=False, slots=True)
class _Entry:
    """What waits to enter, or is inside; `entered` where it had to wait."""

    caller: Caller
    deadline: float
    arrived: float
    units: int
    bulk: bool
    entered: asyncio.Future[None] | None = None


class FairQueue:
    """Lets at most `slots` entries, of `capacity` units together, inside. Lives on one event loop.

    Attributes:
        slots: The most entries inside.
    """

    def __init__(
        self,
        slots: int,
        capacity: float = math.inf,
        *,
        bulk_wait: float = math.inf,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Begin empty.

        Args:
            slots: The most entries inside.
            capacity: The most units inside, whatever a unit is; an entry with more enters alone.
            bulk_wait: Seconds after which bulk entries go before interactive ones.
            clock: The time in seconds, as deadlines count it.
        """
        self.slots = slots
        self._capacity = capacity
        self._bulk_wait = bulk_wait
        self._clock = clock
        # Dicts, because they are ordered and a caller that is cancelled is removed at once.
        self._interactive: dict[_Entry, None] = {}
        self._bulk: dict[_Entry, None] = {}
        self._inside: dict[_Entry, None] = {}
        self._turns = Turns()
        self._units = 0
        self._seconds = 0.0

    def __repr__(self) -> str:
        return f"<FairQueue [Queued: {len(self._interactive) + len(self._bulk)} | Inside: {len(self._inside)}]>"

    @asynccontextmanager
    async def enter(self, call: Call, units: int = 0, *, bulk: bool = False) -> AsyncIterator[None]:
        """Wait for a slot and hold it while the block runs.

        Args:
            call: For whom, and until when it is of use.
            units: How many units it takes.
            bulk: Whether it is bulk work.

        Raises:
            LookalikeError: DEADLINE_EXCEEDED when the deadline passed in the queue.
        """
        entry = _Entry(call.caller, call.deadline, self._clock(), units, bulk)
        if self._interactive or self._bulk or not self._has_room(units):
            await self._wait(entry)
        else:
            self._admit(entry)
        began = self._clock()
        try:
            yield
        finally:
            self._leave(entry)
            self._seconds += _LEARNING_RATE * (self._clock() - began - self._seconds)

    def wait_seconds(self, call: Call, arriving: Iterable[Waiting] = ()) -> float:
        """Predict how long an interactive entry of this call would wait.

        Args:
            call: Whose entry.
            arriving: What will enter before it and is not in the queue yet.
        """
        ahead = count_ahead(call.caller, call.deadline, [*self._interactive, *arriving], self._turns.ahead())
        beyond = len(self._inside) + ahead + 1 - self.slots
        return max(0.0, beyond) * self._seconds / self.slots

    @property
    def seconds(self) -> float:
        """How long entries stay inside at present."""
        return self._seconds

    @property
    def is_idle(self) -> bool:
        """Whether nothing waits or is inside."""
        return not (self._inside or self._interactive or self._bulk)

    @property
    def entries(self) -> Sequence[Waiting]:
        """The interactive entries that wait or are inside."""
        return [*self._interactive, *(entry for entry in self._inside if not entry.bulk)]

    @property
    def units(self) -> int:
        """The units of all entries that are inside."""
        return self._units

    def lengths(self) -> tuple[QueueLength, QueueLength]:
        """Return how much interactive work and how much bulk work waits; in any thread."""
        now = self._clock()
        return QueueLength.of(self._interactive, now), QueueLength.of(self._bulk, now)

    def _has_room(self, units: int) -> bool:
        return len(self._inside) < self.slots and (not self._inside or self._units + units <= self._capacity)

    def _admit(self, entry: _Entry) -> None:
        self._turns.take((entry,))
        self._inside[entry] = None
        self._units += entry.units

    def _leave(self, entry: _Entry) -> None:
        del self._inside[entry]
        self._units -= entry.units
        self._dispatch()

    async def _wait(self, entry: _Entry) -> None:
        entry.entered = asyncio.get_running_loop().create_future()
        queue = self._bulk if entry.bulk else self._interactive
        queue[entry] = None
        self._dispatch()
        try:
            await entry.entered
        except asyncio.CancelledError:
            queue.pop(entry, None)
            if entry in self._inside:
                self._leave(entry)  # it had entered just before its caller was cancelled
            raise

    def _dispatch(self) -> None:
        """Let entries in while there is room for the first of them."""
        if not (self._interactive or self._bulk) or len(self._inside) >= self.slots:
            return
        now = self._clock()
        for entry in self._ordered(now):
            if entry.entered is None or entry.entered.done():
                continue
            if entry.deadline <= now:
                self._forget(entry)
                entry.entered.set_exception(deadline_exceeded())
            elif self._has_room(entry.units):
                self._forget(entry)
                self._admit(entry)
                entry.entered.set_result(None)
            else:
                return

    def _ordered(self, now: float) -> Iterator[_Entry]:
        # It changes with each entry that enters, but their turns are in the order already.
        ahead = self._turns.ahead()
        overdue = [entry for entry in self._bulk if now - entry.arrived >= self._bulk_wait]
        yield from fair_order(overdue, ahead)
        yield from fair_order(self._interactive, ahead)
        yield from fair_order(self._bulk, ahead)

    def _forget(self, entry: _Entry) -> None:
        self._interactive.pop(entry, None)
        self._bulk.pop(entry, None)
