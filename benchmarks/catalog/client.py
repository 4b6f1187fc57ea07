"""The callers of our server: a process of its own that searches, upserts and imports as it is told.

As in the other figures requests are handed to gRPC as bytes and a call is timed until its answer's bytes are there; all
callers share one connection. Open loops time a call from the moment it was meant to be sent.
"""

from __future__ import annotations

import asyncio
import gc
import itertools
import random
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import uvloop

from benchmarks.catalog import messages, requests
from benchmarks.catalog.json_pipe import work
from benchmarks.catalog.vectors import Floats, Stock

Answer = Mapping[str, Any]
_SIZES = (("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1))
_CALL_SECONDS = 30.0
_UPSERT_SECONDS = 10.0  # the deadline of an upsert by schedule
_IMAGES = 16  # embedded side by side


class Callers:
    """The tasks; the connections stay open between them."""

    def __init__(self, runner: asyncio.Runner) -> None:
        self._runner = runner
        self._channels: dict[str, Any] = {}

    def search(self, address: str, stock: str, categories: int, seconds: float) -> Answer:
        """One caller, closed loop: seconds of each call, and what its stats says of the server's part."""
        asked = itertools.cycle(requests.searches_in_turns(Stock.heard(stock), categories))

        taken: list[float] = []
        stats: list[float] = []

        async def turn() -> None:
            ask = await self._method(address, messages.SEARCH)
            until = time.perf_counter() + seconds
            while (begun := time.perf_counter()) < until:
                answer = await ask(next(asked), timeout=_CALL_SECONDS)
                taken.append(time.perf_counter() - begun)
                stats.append(requests.told_seconds(answer))

        self._run(turn())
        return {"seconds": taken, "stats": stats}

    def search_by_schedule(
        self, address: str, stock: str, categories: int, seconds: float, rate: float, delay: float = 0.0
    ) -> Answer:
        """Open loop with Poisson arrivals, begun after `delay`: seconds from when a call was meant to be sent."""
        asked = itertools.cycle(requests.searches_in_turns(Stock.heard(stock), categories))
        taken: list[float] = []

        async def turn() -> None:
            ask = await self._method(address, messages.SEARCH)
            await asyncio.sleep(delay)

            async def call(due: float) -> None:
                answer = await ask(next(asked), timeout=_CALL_SECONDS)
                taken.append(time.perf_counter() - due)
                requests.told_seconds(answer)

            await _open_loop(call, rate, seconds, random.Random(1))  # noqa: S311 - a load, not a secret

        self._run(turn())
        return {"seconds": taken}

    def answers(self, address: str, stock: str, categories: int) -> Answer:
        """Every query once: row numbers of each answer, and whether it was exact."""

        async def turn() -> list[tuple[list[int], bool]]:
            ask = await self._method(address, messages.SEARCH)
            return [
                messages.answer_rows(await ask(request, timeout=_CALL_SECONDS))
                for request in requests.searches(Stock.heard(stock), categories)
            ]

        found = self._run(turn())
        return {"rows": [rows for rows, _ in found], "exact": [exact for _, exact in found]}

    def load(self, address: str, stock: str, categories: int) -> Answer:
        """Import every row over one stream; done when each is acknowledged."""
        told = Stock.heard(stock)
        rows = told.array("rows")

        async def every_row() -> AsyncIterator[bytes]:
            for row, vector in enumerate(rows):
                yield messages.product_request(told, row, categories, vector)

        async def turn() -> int:
            stream = self._channel(address).stream_stream(messages.IMPORT)(every_row())
            done = 0
            async for answer in stream:
                if failure := messages.import_failure(answer):
                    raise RuntimeError(f"a product was not stored: {failure}")
                done += 1
            return done

        begun = time.perf_counter()
        done = self._run(turn())
        return {"products": done, "seconds": time.perf_counter() - begun}

    def upsert_by_schedule(
        self, address: str, stock: str, categories: int, seconds: float, rate: float, seed: int
    ) -> Answer:
        """Open loop: random products get new vectors, one a call; how many were stored within the schedule."""
        asked = requests.replacements(Stock.heard(stock), categories, seed)
        ended: list[float] = []
        failed: Counter[str] = Counter()

        async def turn() -> float:
            ask = await self._method(address, messages.UPSERT)

            async def call(due: float) -> None:
                del due
                try:
                    requests.check_stored(await ask(next(asked), timeout=_UPSERT_SECONDS))
                    ended.append(time.perf_counter())
                except grpc.RpcError as error:  # a server that cannot keep up rejects or is too late: that is a figure
                    failed[error.code().name] += 1

            begun = time.perf_counter()
            await _open_loop(call, rate, seconds, random.Random(seed))  # noqa: S311 - a load, not a secret
            return begun

        begun = self._run(turn())
        in_time = sum(each <= begun + seconds for each in ended)
        return {"upserts": in_time, "seconds": seconds, "rejected": failed}

    def upsert(
        self,
        address: str,
        stock: str,
        categories: int,
        seconds: float,
        callers: int,
        products: int,
        seed: int,
        first: int | None,
    ) -> Answer:
        """Closed loop: each caller upserts again when it is answered.

        Args:
            address: The server's.
            stock: The vectors.
            categories: Over how many the rows are spread.
            seconds: How long calls are begun.
            callers: Callers side by side.
            products: Products of a call.
            seed: Of the choice of products.
            first: The number of the first new product; None replaces random ones.
        """
        told = Stock.heard(stock)
        asked = (
            requests.replacements(told, categories, seed)
            if first is None
            else requests.additions(told, categories, first)
        )

        async def turn() -> tuple[int, float]:
            ask = await self._method(address, messages.UPSERT)
            done = 0
            begun = time.perf_counter()

            async def caller() -> None:
                nonlocal done
                while time.perf_counter() - begun < seconds:
                    requests.check_stored(await ask(b"".join(itertools.islice(asked, products)), timeout=_CALL_SECONDS))
                    done += products

            await asyncio.gather(*(caller() for _ in range(callers)))
            return done, time.perf_counter() - begun

        done, elapsed = self._run(turn())
        return {"upserts": done, "seconds": elapsed}

    def embed(self, address: str, images: list[str], out: str) -> Answer:
        """Embed image files and write what comes back: float32 [images, dim]."""

        async def turn() -> list[Floats]:
            ask = await self._method(address, messages.EMBED)
            turns = asyncio.Semaphore(_IMAGES)

            async def embed(image: str) -> Floats:
                async with turns:
                    request = messages.embed_request(await asyncio.to_thread(Path(image).read_bytes))
                    return messages.embedding_of(await ask(request, timeout=_CALL_SECONDS))

            return await asyncio.gather(*map(embed, images))

        np.save(out, np.stack(self._run(turn())))
        return {"images": len(images)}

    def _run(self, turn: Coroutine[Any, Any, Any]) -> Any:
        gc.collect()
        return self._runner.run(turn)

    def _channel(self, address: str) -> Any:
        if address not in self._channels:
            self._channels[address] = grpc.aio.insecure_channel(address, options=_SIZES)
        return self._channels[address]

    async def _method(self, address: str, path: str) -> Any:
        channel = self._channel(address)
        await asyncio.wait_for(channel.channel_ready(), _CALL_SECONDS)
        return channel.unary_unary(path)


async def _open_loop(
    call: Callable[[float], Coroutine[Any, Any, None]], rate: float, seconds: float, schedule: random.Random
) -> None:
    begun = time.perf_counter()
    async with asyncio.TaskGroup() as calls:
        due = begun
        while (due := due + schedule.expovariate(rate)) < begun + seconds:
            # Also when late: answers that wait in the socket are otherwise read only after the whole schedule.
            await asyncio.sleep(max(0.0, due - time.perf_counter()))
            calls.create_task(call(due))


def main() -> None:
    """Do tasks until the input ends."""
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        callers = Callers(runner)
        names = ("search", "search_by_schedule", "answers", "load", "upsert_by_schedule", "upsert", "embed")
        work({name: getattr(callers, name) for name in names})


if __name__ == "__main__":
    main()
