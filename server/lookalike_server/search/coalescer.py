"""Coalesces queries that arrive in one turn of the event loop into one call in a worker thread.

The rows of one batch of the model are returned in one turn, so their searches of the same category reach the index as
one multi-query call while the next batch runs. A single cheap query, while no call is under way, is answered on the
event loop itself: waking a thread and being woken by it can take as long as the search.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Hashable, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from typing import Generic, TypeVar

Q = TypeVar("Q")
R = TypeVar("R")


@dataclass(frozen=True, slots=True)
class _Pending(Generic[Q, R]):
    query: Q
    future: asyncio.Future[R]
    is_cheap: bool


class Coalescer(Generic[Q, R]):
    """Groups queries by a key. Lives on one event loop."""

    def __init__(
        self,
        pool: Executor,
        key: Callable[[Q], Hashable],
        search: Callable[[Sequence[Q]], Sequence[R]],
        is_cheap: Callable[[Q], bool] = lambda _: False,
    ) -> None:
        """Search queries with the same key together.

        Args:
            pool: Where `search` runs.
            key: What queries must share to be searched together.
            search: Returns the results of queries with one key, in their order; what it raises fails all of them.
            is_cheap: Whether a query is so fast that it may run on the event loop where it is the only one.
        """
        self._pool = pool
        self._key = key
        self._search = search
        self._is_cheap = is_cheap
        self._running = 0
        self._pending: dict[Hashable, list[_Pending[Q, R]]] = {}

    async def submit(self, query: Q) -> R:
        """Return the result of this query."""
        loop = asyncio.get_running_loop()
        pending: _Pending[Q, R] = _Pending(query, loop.create_future(), self._is_cheap(query))
        if not self._pending:
            loop.call_soon(self._flush)
        self._pending.setdefault(self._key(query), []).append(pending)
        return await pending.future

    def _flush(self) -> None:
        groups, self._pending = self._pending, {}
        live = [[each for each in group if not each.future.done()] for group in groups.values()]
        alone = not self._running and sum(map(len, live)) == 1
        for group in filter(None, live):
            if alone and group[0].is_cheap:
                self._search_inline(group)
            else:
                self._search_in_pool(group)

    def _search_inline(self, group: Sequence[_Pending[Q, R]]) -> None:
        call: asyncio.Future[Sequence[R]] = group[0].future.get_loop().create_future()
        try:
            call.set_result(self._search([each.query for each in group]))
        except Exception as error:  # noqa: BLE001 - whatever it is, it belongs to the caller
            call.set_exception(error)
        _distribute(call, group)

    def _search_in_pool(self, group: Sequence[_Pending[Q, R]]) -> None:
        def on_done(call: asyncio.Future[Sequence[R]]) -> None:
            self._running -= 1
            _distribute(call, group)

        self._running += 1
        loop = asyncio.get_running_loop()
        loop.run_in_executor(self._pool, self._search, [each.query for each in group]).add_done_callback(on_done)


def _distribute(call: asyncio.Future[Sequence[R]], group: Sequence[_Pending[Q, R]]) -> None:
    error = call.exception()
    for position, pending in enumerate(group):
        if pending.future.done():
            continue
        if error is not None:
            pending.future.set_exception(error)
        else:
            pending.future.set_result(call.result()[position])
