"""Coalesces queries that wait together into one call in a worker thread.

The rows of one batch of the model are returned in one turn of the event loop, so their searches of the same category
reach the index as one multi-query call while the next batch runs; and while all threads are busy, more queries join
those that wait. A single cheap query, while no call is under way, is answered on the event loop itself: waking a thread
and being woken by it can take as long as the search.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Callable, Hashable, Iterable, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from functools import partial
from typing import Generic, TypeVar

from lookalike_server.domain.calls import Call, Caller
from lookalike_server.domain.errors import deadline_exceeded
from lookalike_server.scheduling.fair_order import Turns, Waiting, count_ahead, fair_order
from lookalike_server.scheduling.queue_length import QueueLength

Q = TypeVar("Q")
R = TypeVar("R")

_MAX_GROUP = 64
"""Queries of one call of the index: more would gain little and keep the first ones waiting."""

_LEARNING_RATE = 0.1  # weight of the newest call in the moving average of a query's duration
_ANY_TIME = Call(0.0, math.inf)


@dataclass(eq=False, slots=True)
class _Pending(Generic[Q, R]):
    query: Q
    key: Hashable
    is_cheap: bool
    deadline: float
    caller: Caller
    arrived: float
    future: asyncio.Future[R]


class Coalescer(Generic[Q, R]):
    """Groups queries by a key. Lives on one event loop."""

    def __init__(
        self,
        pool: Executor,
        key: Callable[[Q], Hashable],
        search: Callable[[Sequence[Q]], Sequence[R]],
        is_cheap: Callable[[Q], bool] = lambda _: False,
        *,
        slots: int = 1,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Search queries with the same key together.

        Args:
            pool: Where `search` runs.
            key: What queries must share to be searched together.
            search: Returns the results of queries with one key, in their order; what it raises fails all of them.
            is_cheap: Whether a query is so fast that it may run on the event loop where it is the only one.
            slots: The most calls of `search` at once.
            clock: The time in seconds, as deadlines count it.
        """
        self._pool = pool
        self._key = key
        self._search = search
        self._is_cheap = is_cheap
        self._slots = slots
        self._clock = clock
        self._running: dict[asyncio.Future[Sequence[R]], Sequence[_Pending[Q, R]]] = {}
        self._pending: dict[_Pending[Q, R], None] = {}
        self._turns = Turns()
        self._scheduled = False
        self._seconds = 0.0  # of a query, on a thread

    def __repr__(self) -> str:
        return f"<Coalescer [Queued: {len(self._pending)} | Running: {sum(map(len, self._running.values()))}]>"

    async def submit(self, query: Q, call: Call = _ANY_TIME) -> R:
        """Return the result of this query.

        Args:
            query: What to search.
            call: For whom, and until when it is of use; callers take turns.

        Raises:
            LookalikeError: DEADLINE_EXCEEDED when the deadline passed before the search began.
        """
        loop = asyncio.get_running_loop()
        pending: _Pending[Q, R] = _Pending(
            query,
            self._key(query),
            self._is_cheap(query),
            call.deadline,
            call.caller,
            self._clock(),
            loop.create_future(),
        )
        if not self._scheduled:
            self._scheduled = True
            loop.call_soon(self._flush)
        self._pending[pending] = None
        try:
            return await pending.future
        finally:
            self._pending.pop(pending, None)

    def wait_seconds(self, call: Call, arriving: Iterable[Waiting] = ()) -> float:
        """Predict how long a query of this call would wait for a thread.

        Args:
            call: Whose query.
            arriving: Queries that will come before it and have not yet.
        """
        if len(self._running) < self._slots and not self._pending:
            return 0.0
        ahead = count_ahead(call.caller, call.deadline, [*self._pending, *arriving], self._turns.ahead())
        return (ahead + 1) * self._seconds / self._slots

    def length(self) -> QueueLength:
        """Return how many queries wait; in any thread."""
        return QueueLength.of(self._pending, self._clock())

    @property
    def seconds(self) -> float:
        """How long a query takes at present, without waiting."""
        return self._seconds

    def _flush(self) -> None:
        self._scheduled = False
        if len(self._pending) == 1 and not self._running:
            (only,) = self._pending
            if only.is_cheap and not only.future.done():
                del self._pending[only]
                self._search_inline(only)
                return
        while self._pending and len(self._running) < self._slots:
            group = self._next_group()
            if group:
                self._search_in_pool(group)

    def _next_group(self) -> list[_Pending[Q, R]]:
        """Take the query whose turn it is, and those that can be searched with it; drop those that expired."""
        now = self._clock()
        live: list[_Pending[Q, R]] = []
        for each in list(self._pending):
            if each.deadline > now and not each.future.done():
                live.append(each)
                continue
            del self._pending[each]
            if not each.future.done():
                each.future.set_exception(deadline_exceeded())
        ordered = fair_order(live, self._turns.ahead())
        group = [each for each in ordered if each.key == ordered[0].key][:_MAX_GROUP]
        for each in group:
            del self._pending[each]
        self._turns.take(group)
        return group

    def _search_inline(self, only: _Pending[Q, R]) -> None:
        call: asyncio.Future[Sequence[R]] = only.future.get_loop().create_future()
        began = self._clock()
        try:
            call.set_result(self._search([only.query]))
        except Exception as error:  # noqa: BLE001 - whatever it is, it belongs to the caller
            call.set_exception(error)
        self._record(self._clock() - began)
        _distribute(call, [only])

    def _search_in_pool(self, group: Sequence[_Pending[Q, R]]) -> None:
        loop = asyncio.get_running_loop()
        call = loop.run_in_executor(self._pool, self._search, [each.query for each in group])
        self._running[call] = group
        call.add_done_callback(partial(self._finish, self._clock()))

    def _finish(self, began: float, call: asyncio.Future[Sequence[R]]) -> None:
        group = self._running.pop(call)
        self._record((self._clock() - began) / len(group))
        self._flush()
        _distribute(call, group)

    def _record(self, seconds: float) -> None:
        self._seconds += _LEARNING_RATE * (seconds - self._seconds)


def _distribute(call: asyncio.Future[Sequence[R]], group: Sequence[_Pending[Q, R]]) -> None:
    error = call.exception()
    for position, pending in enumerate(group):
        if pending.future.done():
            continue
        if error is not None:
            pending.future.set_exception(error)
        else:
            pending.future.set_result(call.result()[position])
