"""Queries of one turn are searched together by their key, and each gets its own result."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from lookalike.v1 import catalog_service_pb2, embedding_service_pb2
from lookalike.v1 import search_service_pb2 as pb
from lookalike_server.search.coalescer import Coalescer
from support.serving import HeldModel, Serve, noise, product, raw, until


@pytest.fixture
def pool() -> Iterator[ThreadPoolExecutor]:
    """A pool of two threads."""
    with ThreadPoolExecutor(2) as one:
        yield one


async def test_one_turn_is_one_call_a_key(pool: ThreadPoolExecutor) -> None:
    """The queries of one turn are one call per key, in any order, and each gets its own result."""
    calls: list[list[int]] = []

    def search(numbers: Sequence[int]) -> list[int]:
        calls.append(list(numbers))
        return [number * 10 for number in numbers]

    coalescer: Coalescer[int, int] = Coalescer(pool, lambda number: number % 2, search)
    assert await asyncio.gather(*map(coalescer.submit, range(6))) == [0, 10, 20, 30, 40, 50]
    assert sorted(calls) == [[0, 2, 4], [1, 3, 5]]
    assert await coalescer.submit(7) == 70
    assert len(calls) == 3


async def test_a_cheap_query_alone_runs_inline(pool: ThreadPoolExecutor) -> None:
    """While no call runs, a single cheap query takes no thread; several ones, and slow ones, do."""
    where: list[tuple[int, bool]] = []
    main = threading.get_ident()

    def search(numbers: Sequence[int]) -> list[int]:
        where.extend((number, threading.get_ident() == main) for number in numbers)
        if 13 in numbers:
            raise ValueError("no 13 here")
        return list(numbers)

    coalescer: Coalescer[int, int] = Coalescer(pool, lambda _: None, search, lambda number: number % 2 == 1)
    assert [await coalescer.submit(1), await coalescer.submit(2)] == [1, 2]
    assert list(await asyncio.gather(coalescer.submit(3), coalescer.submit(5))) == [3, 5]
    with pytest.raises(ValueError, match="no 13 here"):
        await coalescer.submit(13)
    assert await coalescer.submit(7) == 7
    assert where == [(1, True), (2, False), (3, False), (5, False), (13, True), (7, True)]
    where.clear()
    slow, gone = asyncio.ensure_future(coalescer.submit(4)), asyncio.ensure_future(coalescer.submit(9))
    asyncio.get_running_loop().call_soon(gone.cancel)
    assert await slow == 4  # by a thread, although a cheap one came after it and was cancelled
    assert (4, False) in where


async def test_cancelled_queries_are_not_searched(pool: ThreadPoolExecutor) -> None:
    """A query that is cancelled in the same turn is left out, and the others get their results."""
    searched: list[int] = []

    def search(numbers: Sequence[int]) -> list[int]:
        searched.extend(numbers)
        return list(numbers)

    coalescer: Coalescer[int, int] = Coalescer(pool, lambda _: None, search)
    tasks = [asyncio.ensure_future(coalescer.submit(number)) for number in range(3)]
    asyncio.get_running_loop().call_soon(tasks[1].cancel)
    outcomes = await asyncio.gather(*tasks, return_exceptions=True)
    assert (outcomes[0], outcomes[2]) == (0, 2)
    assert isinstance(outcomes[1], asyncio.CancelledError)
    assert set(searched) >= {0, 2}


async def test_a_failure_is_its_groups(pool: ThreadPoolExecutor) -> None:
    """A call that raises fails the queries it was for, and no others."""

    def search(numbers: Sequence[int]) -> list[int]:
        if numbers[0] % 2:
            raise ValueError("odd")
        return list(numbers)

    coalescer: Coalescer[int, int] = Coalescer(pool, lambda number: number % 2, search)
    outcomes = await asyncio.gather(*map(coalescer.submit, range(4)), return_exceptions=True)
    assert outcomes[0::2] == [0, 2]
    assert all(isinstance(outcome, ValueError) for outcome in outcomes[1::2])


async def test_images_of_one_batch_are_searched_together_and_apart(serve: Serve) -> None:
    """Images that share a batch share a search, and get the results that they get alone; a bad query fails alone."""
    model = HeldModel()
    async with serve(load_session=model) as served:
        request = catalog_service_pb2.UpsertProductsRequest(products=[product(f"p{i:02}", i) for i in range(20)])
        await served.catalog.UpsertProducts(request)
        requests = [pb.SearchRequest(image=raw(noise(i)), category="Shoes", k=3) for i in range(8)]
        alone = [(await served.search.Search(request)).neighbors for request in requests]
        model.session.hold()
        first = served.embedding.Embed(embedding_service_pb2.EmbedRequest(image=raw(noise(99))))
        await model.caught()
        calls = [served.search.Search(request) for request in requests]
        await until(lambda: "Queued: 8 " in repr(served.app.batcher))
        model.session.let_go()
        await first
        together = await asyncio.gather(*calls)
        assert [response.neighbors for response in together] == alone
        assert {response.stats.batch_size for response in together} == {8}
        mixed = [pb.SearchRequest(product_id=name, all_categories=True, k=2) for name in ("p01", "ghost", "p02")]
        outcomes: list[Any] = await asyncio.gather(*map(served.search.Search, mixed), return_exceptions=True)
        assert isinstance(outcomes[1], Exception)
        assert [len(outcomes[i].neighbors) for i in (0, 2)] == [2, 2]
