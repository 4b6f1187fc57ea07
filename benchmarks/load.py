"""The load generator: a process of its own that reads jobs from its standard input and answers with outcomes.

Closed loops show how much a system can do. Open loops show what callers would wait: calls are sent by a schedule
(Poisson arrivals) and timed from the moment they were meant to be sent, so a slow system cannot slow its own load down.
"""

from __future__ import annotations

import asyncio
import gc
import random
import struct
import sys
import time
from collections.abc import Awaitable, Callable
from itertools import count, cycle
from typing import Any

import grpc
import numpy as np
import uvloop

from benchmarks.http_calls import HttpCalls
from benchmarks.images import Next, stamped, stocked
from benchmarks.jobs import OK, WRONG_ANSWER, Job, Outcome
from benchmarks.protocols import WIRES, Shape

Ask = Callable[[bytes, float], Awaitable[bytes]]
"""Sends a request with a deadline in seconds; raises grpc.RpcError-like errors with `code()`."""

_OPTIONS = (
    ("grpc.max_receive_message_length", -1),
    ("grpc.max_send_message_length", -1),
    ("grpc.use_local_subchannel_pool", 1),  # or all channels to one address would be one connection
)


class Run:
    """One job being done."""

    def __init__(self, job: Job, ask: Ask) -> None:
        """Prepare everything that must not be paid for while the clock runs."""
        self._job = job
        self._ask = ask
        self._wire = WIRES[job.target.wire]
        self._next = _images(job)
        self._left = job.limit
        self._random = random.Random(job.seed)  # noqa: S311 - a load, not a secret
        self._calls: list[tuple[float, float, float, float, float]] = []
        self._fault = ""
        self._start = 0.0

    async def outcome(self) -> Outcome:
        """Do it."""
        gc.collect()
        self._start = time.perf_counter()
        await (self._open() if self._job.loop == "open" else self._closed())
        elapsed = time.perf_counter() - self._start
        columns = np.array(self._calls, dtype=np.float64).reshape(-1, 5).T
        return Outcome.of(columns, elapsed, self._fault)

    async def _closed(self) -> None:
        job = self._job
        # The well-behaved callers end the run: what a canceling one does after them is of no account.
        patient = [asyncio.create_task(self._caller(at)) for at in range(job.callers - job.canceling)]
        hasty = [asyncio.create_task(self._hasty_caller(at)) for at in range(job.callers - job.canceling, job.callers)]
        await asyncio.gather(*patient)
        for task in hasty:
            task.cancel()
        await asyncio.gather(*hasty, return_exceptions=True)

    async def _caller(self, at: int) -> None:
        while time.perf_counter() - self._start < self._job.seconds:
            request = self._request()
            if request is None:
                return
            await self._call(request, at, time.perf_counter() - self._start)
            if self._job.pause:
                await asyncio.sleep(self._job.pause)

    async def _hasty_caller(self, at: int) -> None:
        while (request := self._request()) is not None:
            call = asyncio.create_task(self._call(request, at, time.perf_counter() - self._start))
            try:
                await asyncio.wait((call,), timeout=self._random.uniform(0, self._job.patience))
            finally:
                call.cancel()
            await asyncio.gather(call, return_exceptions=True)

    async def _open(self) -> None:
        job = self._job
        calls: set[asyncio.Task[None]] = set()
        due = 0.0
        while (due := due + self._random.expovariate(job.rate)) < job.seconds:
            wait = due - (time.perf_counter() - self._start)
            # Also when late: answers that wait in the socket are otherwise read only after the whole schedule.
            await asyncio.sleep(max(0.0, wait))
            request = self._request()
            if request is None:
                break
            task = asyncio.create_task(self._call(request, 0, due))
            calls.add(task)
            task.add_done_callback(calls.discard)
        await asyncio.gather(*calls)

    def _request(self) -> bytes | None:
        self._left -= 1
        return self._next() if self._left >= 0 else None

    async def _call(self, request: bytes, caller: int, sent: float) -> None:
        code, queue_us, answer = OK, -1, b""
        try:
            answer = await self._ask(request, self._job.deadline)
        except grpc.RpcError as error:
            code = error.code().value[0]
            self._fault = self._fault or f"{error.code().name}: {error.details()}"
        ended = time.perf_counter() - self._start
        if code == OK:
            try:
                queue_us = self._wire.judge(answer, self._job.dim)
            except ValueError as error:
                code = WRONG_ANSWER
                self._fault = self._fault or str(error)
        self._calls.append((caller, sent, ended, code, queue_us))


def _images(job: Job) -> Next:
    wire = WIRES[job.target.wire]
    if job.image == "jpeg":
        return stocked(wire.encoded, job.first, job.limit)
    shape = Shape(job.height, job.width, job.dim)
    return stamped(lambda image: wire.raw(image, shape), job.height, job.width, job.first)


async def _asker(job: Job) -> tuple[Ask, Callable[[], Awaitable[None]]]:
    """What sends to this job's system, and what closes it."""
    wire = WIRES[job.target.wire]
    if wire.http:
        http = HttpCalls(job.target.address, wire.path)
        return http.ask, http.close
    # One connection carries all callers, as in a service that calls another, unless the job says otherwise.
    channels = [grpc.aio.insecure_channel(job.target.address, options=_OPTIONS) for _ in range(job.connections)]
    methods: Any = cycle([channel.unary_unary(wire.path) for channel in channels])

    async def ask(request: bytes, deadline: float) -> bytes:
        answer: bytes = await next(methods)(request, timeout=deadline)
        return answer

    async def close() -> None:
        for channel in channels:
            await channel.close()

    for channel in channels:
        await asyncio.wait_for(channel.channel_ready(), 30)
    return ask, close


async def main() -> None:
    """Do jobs until the input ends."""
    askers: dict[tuple[str, str], tuple[Ask, Callable[[], Awaitable[None]]]] = {}
    for _ in count():
        line = await asyncio.to_thread(sys.stdin.buffer.readline)
        if not line:
            break
        job = Job.of(line)
        key = (job.target.wire, job.target.address)
        if key not in askers:
            askers[key] = await _asker(job)
        packed = (await Run(job, askers[key][0]).outcome()).pack()
        sys.stdout.buffer.write(struct.pack("<Q", len(packed)) + packed)
        sys.stdout.buffer.flush()
    for _, close in askers.values():
        await close()


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(main())
