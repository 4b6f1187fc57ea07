"""Questions that come in one turn of the event loop are answered by one call in a worker thread.

The rows of one batch of the model are handed out in one turn, so their searches of the same category reach the index as
one multi-query call, while the next batch runs. A question that comes alone is asked alone, in the same turn.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Hashable, Sequence
from concurrent.futures import Executor
from typing import Generic, TypeVar

Q = TypeVar("Q")
A = TypeVar("A")


class Fusion(Generic[Q, A]):
    """Groups questions by a key. Lives on one event loop."""

    def __init__(
        self, pool: Executor, key: Callable[[Q], Hashable], answer: Callable[[Sequence[Q]], Sequence[A]]
    ) -> None:
        """Ask together what has the same key.

        Args:
            pool: Where `answer` runs.
            key: What questions must share to be asked together.
            answer: Answers questions of one key, in their order; may raise for all of them.
        """
        self._pool = pool
        self._key = key
        self._answer = answer
        self._asked: dict[Hashable, list[tuple[Q, asyncio.Future[A]]]] = {}

    async def ask(self, question: Q) -> A:
        """The answer to this question."""
        loop = asyncio.get_running_loop()
        future: asyncio.Future[A] = loop.create_future()
        if not self._asked:
            loop.call_soon(self._flush)
        self._asked.setdefault(self._key(question), []).append((question, future))
        return await future

    def _flush(self) -> None:
        groups, self._asked = self._asked, {}
        for group in groups.values():
            live = [(question, future) for question, future in group if not future.done()]
            if live:
                self._send(live)

    def _send(self, group: Sequence[tuple[Q, asyncio.Future[A]]]) -> None:
        work = asyncio.get_running_loop().run_in_executor(self._pool, self._answer, [question for question, _ in group])
        work.add_done_callback(lambda work: _hand_out(work, [future for _, future in group]))


def _hand_out(work: asyncio.Future[Sequence[A]], futures: Sequence[asyncio.Future[A]]) -> None:
    error = work.exception()
    for position, future in enumerate(futures):
        if future.done():
            continue
        if error is not None:
            future.set_exception(error)
        else:
            future.set_result(work.result()[position])
