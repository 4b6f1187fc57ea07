"""Writes wait for the index where it is behind: backpressure, before new rows slow searches down.

New rows are compared one by one until a graph holds them. Where a category has too many of these, its writes wait here,
and so before they hold anything that others' writes need; those of other categories go on, and deletes and attribute
updates never wait. What would wait for too long is rejected, and its caller learns when to try again. A stream waits
instead, and is read no further meanwhile.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import TypeAlias

from lookalike_server.domain.calls import Call
from lookalike_server.domain.catalog import ProductUpsert
from lookalike_server.domain.errors import LookalikeError, Rejection, deadline_exceeded, exhausted

MAX_WAIT_SECONDS = 5.0
"""The longest that a call waits: after a longer one, callers had better spread their writes."""

_POLL_SECONDS = 0.05

Store: TypeAlias = Callable[[Sequence[ProductUpsert]], Awaitable[list[Exception | None]]]
"""Stores products, at least one, and returns for each its error, or None."""


class IndexBacklog:
    """Holds back the writes of categories whose index is behind. Lives on one event loop."""

    def __init__(
        self,
        backlog_seconds: Callable[[str], float],
        clock: Callable[[], float],
        poll_seconds: float = _POLL_SECONDS,
    ) -> None:
        """Ask `VectorIndex.backlog_seconds` so often while something waits; the clock is that of deadlines."""
        self._backlog_seconds = backlog_seconds
        self._clock = clock
        self._poll_seconds = poll_seconds

    async def store(
        self, upserts: Sequence[ProductUpsert], call: Call, store: Store, *, streamed: bool
    ) -> list[Exception | None]:
        """Store products, each once the index of its category is not behind.

        Args:
            upserts: The products, at least one.
            call: Whose they are.
            store: Stores those that need not wait any more.
            streamed: Whether they may wait until the call's deadline.

        Returns:
            For each product its error, or None.

        Raises:
            LookalikeError: RESOURCE_EXHAUSTED where all products would wait for too long, and nothing was stored;
                where only some would, it is these products' error. DEADLINE_EXCEEDED where a stream has waited.
        """
        behind = {each for each in set(map(_category, upserts)) if self._backlog_seconds(each) > 0}
        if not behind:
            return await store(upserts)
        parts: dict[str | None, list[int]] = {}  # positions by category; None for all that are not behind
        for position, upsert in enumerate(upserts):
            category = _category(upsert)
            parts.setdefault(category if category in behind else None, []).append(position)
        rejections: list[LookalikeError] = []
        outcomes: list[Exception | None] = [None] * len(upserts)

        async def store_part(category: str | None, positions: Sequence[int]) -> None:
            try:
                if category is not None:
                    await self._catch_up(category, call, streamed=streamed)
            except LookalikeError as error:
                rejections.append(error)
                stored: Sequence[Exception | None] = [error] * len(positions)
            else:
                stored = await store([upserts[position] for position in positions])
            for position, outcome in zip(positions, stored, strict=True):
                outcomes[position] = outcome

        try:
            async with asyncio.TaskGroup() as group:
                for part in parts.items():
                    group.create_task(store_part(*part))
        except ExceptionGroup as failures:
            raise failures.exceptions[0] from None
        if len(rejections) == len(parts):
            raise max(rejections, key=lambda error: error.retry_after or 0.0)
        return outcomes

    async def _catch_up(self, category: str, call: Call, *, streamed: bool) -> None:
        """Wait until a category's index is not behind.

        Raises:
            LookalikeError: RESOURCE_EXHAUSTED once that is predicted to take too long; DEADLINE_EXCEEDED.
        """
        longest = call.deadline if streamed else min(call.deadline, self._clock() + MAX_WAIT_SECONDS)
        while (backlog := self._backlog_seconds(category)) > 0:
            now = self._clock()
            if now >= call.deadline:
                raise deadline_exceeded()
            if not streamed and now + backlog > longest:
                raise exhausted(
                    f"the category {category!r} has received products faster than its index takes them in; try again"
                    " later",
                    backlog,
                    Rejection.INDEX_BEHIND,
                )
            await asyncio.sleep(min(self._poll_seconds, longest - now))


def _category(upsert: ProductUpsert) -> str:
    return upsert.product.category
