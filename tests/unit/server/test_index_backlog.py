"""Writes of a category whose index is behind: they wait for it or are rejected, and all others go on."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Sequence

import numpy as np
import pytest
from google.rpc import error_details_pb2

from lookalike_server.domain.calls import Call
from lookalike_server.domain.catalog import Product, ProductUpsert
from lookalike_server.domain.errors import Code, LookalikeError, Rejection
from lookalike_server.engine.index_backlog import MAX_WAIT_SECONDS, IndexBacklog
from lookalike_server.rpc.status import to_status

_TICK = 0.25


class SlowIndex:
    """An index that takes rows in as its clock runs, which does a tick whenever it is asked; and a store."""

    def __init__(self, **behind: float) -> None:
        """Be behind by so many seconds in each of these categories."""
        self.behind = behind
        self.now = 0.0
        self.stored: list[tuple[str, float]] = []
        self.error: Exception | None = None

    def backlog_seconds(self, category: str) -> float:
        """Return in how many seconds the category is not behind any more."""
        self.now += _TICK
        return max(0.0, self.behind.get(category, 0.0) - self.now)

    async def store(self, upserts: Sequence[ProductUpsert]) -> list[Exception | None]:
        """Store products now."""
        self.stored += [(each.product.id, self.now) for each in upserts]
        await asyncio.sleep(0)
        return [self.error] * len(upserts)

    async def upsert(
        self, *categories: str, deadline: float = math.inf, streamed: bool = False
    ) -> list[Exception | None]:
        """Store a product in each of these categories, numbered from 0."""
        backlog = IndexBacklog(self.backlog_seconds, lambda: self.now, poll_seconds=0.0)
        products = [Product(f"p{number}", category, "", "", {}) for number, category in enumerate(categories)]
        upserts = [ProductUpsert(each, (), (np.ones(4, np.float32),)) for each in products]
        return await backlog.store(upserts, Call(0.0, deadline), self.store, streamed=streamed)

    @property
    def ids(self) -> list[str]:
        """The products that were stored, in order."""
        return [product_id for product_id, _ in self.stored]


async def test_nothing_waits_while_no_index_is_behind() -> None:
    """Where no category is behind, all products are stored together at once, and errors are the store's."""
    index = SlowIndex(Hats=10.0)
    index.error = ValueError("of the store")
    assert await index.upsert("Shoes", "Bags", "Shoes") == [index.error] * 3
    assert index.stored == [(f"p{number}", 2 * _TICK) for number in range(3)]


async def test_a_write_waits_until_the_index_has_caught_up() -> None:
    """A write whose wait is short is stored once its category is not behind, and not before."""
    index = SlowIndex(Shoes=3.0)
    assert await index.upsert("Shoes") == [None]
    ((product_id, at),) = index.stored
    assert product_id == "p0"
    assert at >= 3.0


async def test_a_write_that_would_wait_too_long_is_rejected() -> None:
    """A wait beyond a few seconds ends the call with RESOURCE_EXHAUSTED and the predicted wait, and stores nothing."""
    index = SlowIndex(Shoes=MAX_WAIT_SECONDS + 10.0)
    left = MAX_WAIT_SECONDS + 10.0 - 2 * _TICK
    with pytest.raises(LookalikeError, match="'Shoes' has received products faster") as caught:
        await index.upsert("Shoes", "Shoes")
    assert caught.value.code is Code.RESOURCE_EXHAUSTED
    assert caught.value.retry_after == left
    assert caught.value.rejection is Rejection.INDEX_BEHIND
    assert index.stored == []
    retry = error_details_pb2.RetryInfo()
    assert to_status(caught.value).details[0].Unpack(retry)
    assert abs(retry.retry_delay.ToMilliseconds() / 1000 - left) <= 0.5  # a prediction, in two digits


async def test_a_write_that_would_wait_beyond_its_deadline_is_rejected_at_once() -> None:
    """A wait that a call has no time for is RESOURCE_EXHAUSTED without waiting; with the time for it, it waits."""
    index = SlowIndex(Shoes=3.0)
    with pytest.raises(LookalikeError) as caught:
        await index.upsert("Shoes", deadline=2.0)
    assert caught.value.code is Code.RESOURCE_EXHAUSTED
    assert index.now == 2 * _TICK
    assert await index.upsert("Shoes", deadline=4.0) == [None]


async def test_a_prediction_that_never_comes_true_ends_after_the_longest_wait() -> None:
    """Where an index stays behind by a little for ever, a call waits no longer than any other."""
    index = SlowIndex()

    def always_a_second(category: str) -> float:
        index.backlog_seconds(category)
        return 1.0

    backlog = IndexBacklog(always_a_second, lambda: index.now, poll_seconds=0.0)
    upsert = ProductUpsert(Product("p", "Shoes", "", "", {}), (), (np.ones(4, np.float32),))
    with pytest.raises(LookalikeError) as caught:
        await backlog.store([upsert], Call(0.0, math.inf), index.store, streamed=False)
    assert caught.value.code is Code.RESOURCE_EXHAUSTED
    assert MAX_WAIT_SECONDS - 1.0 <= index.now <= MAX_WAIT_SECONDS


async def test_other_categories_of_a_call_are_stored() -> None:
    """Only the products of a category that is behind for too long are rejected, each with the error of its own."""
    index = SlowIndex(Shoes=100.0, Bags=3.0)
    outcomes = await index.upsert("Hats", "Shoes", "Bags", "Hats", "Shoes")
    assert [outcome is None for outcome in outcomes] == [True, False, True, True, False]
    error = outcomes[1]
    assert isinstance(error, LookalikeError)
    assert (error.code, outcomes[4]) == (Code.RESOURCE_EXHAUSTED, error)
    assert index.ids == ["p0", "p3", "p2"]


async def test_a_stream_waits_for_as_long_as_it_takes() -> None:
    """An item of a stream is not rejected but stored in the end; only its own deadline ends the wait."""
    index = SlowIndex(Shoes=20 * MAX_WAIT_SECONDS)
    assert await index.upsert("Shoes", streamed=True) == [None]
    assert index.now >= 20 * MAX_WAIT_SECONDS
    late = SlowIndex(Shoes=20 * MAX_WAIT_SECONDS)
    with pytest.raises(LookalikeError) as caught:
        await late.upsert("Shoes", deadline=2 * MAX_WAIT_SECONDS, streamed=True)
    assert caught.value.code is Code.DEADLINE_EXCEEDED
    assert late.stored == []


async def test_a_canceled_call_stores_nothing_that_waits() -> None:
    """A caller that gives up ends the wait, and what has not been stored by then never is."""
    index = SlowIndex(Shoes=math.inf)
    call = asyncio.ensure_future(index.upsert("Shoes", "Hats", streamed=True))
    while not index.stored:  # noqa: ASYNC110 - other tasks run until then
        await asyncio.sleep(0)
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    index.behind["Shoes"] = 0.0
    for _ in range(5):
        await asyncio.sleep(0)
    assert index.ids == ["p1"]


async def test_a_fault_of_the_store_is_raised_as_it_is() -> None:
    """What the store raises for a part of a call ends the call with just that."""
    index = SlowIndex(Shoes=1.0)

    async def fail(upserts: Sequence[ProductUpsert]) -> list[Exception | None]:
        raise KeyError(upserts[0].product.id)

    index.store = fail  # type: ignore[method-assign]
    with pytest.raises(KeyError, match="p0"):
        await index.upsert("Shoes")
