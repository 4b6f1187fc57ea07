"""Queries that come in one turn of the event loop are answered by one call in a worker thread.

The rows of one batch of the model are handed out in one turn, so their searches of the same category reach the index as
one multi-query call, while the next batch runs. A query that comes alone is asked alone, in the same turn; where
nobody else is being answered and it takes about a millisecond it is answered by the event loop itself, because waking a
thread and being woken by it can take as long.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Hashable, Sequence
from concurrent.futures import Executor
from typing import Generic, TypeVar

Q = TypeVar("Q")
A = TypeVar("A")


class Coalescer(Generic[Q, A]):
    """Groups queries by a key. Lives on one event loop."""

    def __init__(
        self,
        pool: Executor,
        key: Callable[[Q], Hashable],
        answer: Callable[[Sequence[Q]], Sequence[A]],
        is_cheap: Callable[[Q], bool] = lambda _: False,
    ) -> None:
        """Ask together what has the same key.

        Args:
            pool: Where `answer` runs.
            key: What queries must share to be asked together.
            answer: Answers queries of one key, in their order; may raise for all of them.
            is_cheap: Whether a query takes so little that the event loop may answer it where it is the only one.
        """
        self._pool = pool
        self._key = key
        self._answer = answer
        self._is_quick = is_cheap
        self._working = 0
        self._asked: dict[Hashable, list[tuple[Q, asyncio.Future[A], bool]]] = {}

    async def submit(self, query: Q) -> A:
        """The answer to this query."""
        loop = asyncio.get_running_loop()
        future: asyncio.Future[A] = loop.create_future()
        quick = self._is_quick(query)
        if not self._asked:
            loop.call_soon(self._flush)
        self._asked.setdefault(self._key(query), []).append((query, future, quick))
        return await future

    def _flush(self) -> None:
        groups, self._asked = self._asked, {}
        live = [[each for each in group if not each[1].done()] for group in groups.values()]
        alone = not self._working and sum(map(len, live)) == 1
        for group in filter(None, live):
            queries, futures = [each[0] for each in group], [each[1] for each in group]
            if alone and group[0][2]:
                self._answer_now(queries, futures)
            else:
                self._send(queries, futures)

    def _answer_now(self, queries: Sequence[Q], futures: Sequence[asyncio.Future[A]]) -> None:
        work: asyncio.Future[Sequence[A]] = futures[0].get_loop().create_future()
        try:
            work.set_result(self._answer(queries))
        except Exception as error:  # noqa: BLE001 - whatever it is, it belongs to who asked
            work.set_exception(error)
        _hand_out(work, futures)

    def _send(self, queries: Sequence[Q], futures: Sequence[asyncio.Future[A]]) -> None:
        def done(work: asyncio.Future[Sequence[A]]) -> None:
            self._working -= 1
            _hand_out(work, futures)

        self._working += 1
        work = asyncio.get_running_loop().run_in_executor(self._pool, self._answer, queries)
        work.add_done_callback(done)


def _hand_out(work: asyncio.Future[Sequence[A]], futures: Sequence[asyncio.Future[A]]) -> None:
    error = work.exception()
    for position, future in enumerate(futures):
        if future.done():
            continue
        if error is not None:
            future.set_exception(error)
        else:
            future.set_result(work.result()[position])
