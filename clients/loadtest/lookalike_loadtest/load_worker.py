"""The client process: sends calls at their times, whatever is outstanding, and says what became of each.

It does as little as it can beside that: requests are written in advance, answers are not read (but for some stats),
and the counting is done by the tester's own process. It ends when the tester does.
"""

from __future__ import annotations

import asyncio
import gc
import os
import selectors
import signal
import sys
import time
from array import array
from collections.abc import Callable, Iterator
from dataclasses import replace
from multiprocessing.connection import Connection
from typing import Any

import grpc

from lookalike_client.channel import call_metadata, channel_options
from lookalike_loadtest.arrivals import Pick, arrivals, picks
from lookalike_loadtest.plan import NOT_SENT, OK, UNFINISHED, Phase
from lookalike_loadtest.requests import Stock
from lookalike_loadtest.response_stats import cost_of
from lookalike_loadtest.worker_messages import Begin, Call, Connected, News, NotConnected, Stop

_NEWS_EVERY_S = 0.25
_CONNECT_WITHIN_S = 10.0
_COSTS_A_SECOND = 200  # stats read; reading all of them would make a fast tester a slow one
_AFTER_FAILURE_S = 0.1  # a closed loop's caller rests, or a server that is gone would fail millions of calls


class Caller:
    """One client process' work; lives on one event loop."""

    def __init__(self, connection: Connection, stock: Stock, channel: grpc.aio.Channel) -> None:
        self._connection = connection
        self._stock = stock
        self._channel = channel
        # bytes in and out: nothing is serialized or parsed while the clock runs
        self._methods: list[Any] = [channel.unary_unary(path) for path in stock.paths]
        self._metadata = call_metadata(stock.token)
        # numbers of its own for every process: none sends a million million images
        self._stamp = (stock.first_stamp + stock.index * 10**12) % 2**63

    async def serve(self) -> None:
        """Do one phase after another until the tester goes."""
        orders: asyncio.Queue[Begin | Stop] = asyncio.Queue()
        loop = asyncio.get_running_loop()
        loop.add_reader(self._connection.fileno(), self._read, orders.put_nowait)
        try:
            await asyncio.wait_for(self._channel.channel_ready(), _CONNECT_WITHIN_S)
        except TimeoutError:
            self._connection.send(NotConnected(f"no connection to {self._stock.target} in {_CONNECT_WITHIN_S:.0f} s"))
            return
        self._connection.send(Connected())
        while True:
            order = await orders.get()
            if isinstance(order, Begin):
                await self._do(order, orders)

    def _read(self, put: Callable[[Begin | Stop], None]) -> None:
        try:
            put(self._connection.recv())
        except (EOFError, OSError):
            # the tester is gone, and nobody wants to know what becomes of the calls
            os._exit(0)

    async def _do(self, begin: Begin, orders: asyncio.Queue[Begin | Stop]) -> None:
        run = _Run(begin, self._stock, self._ask)
        reporting = asyncio.create_task(self._report(run))
        sending = asyncio.create_task(run.send())
        ordered = asyncio.create_task(orders.get())
        await asyncio.wait((sending, ordered), return_when=asyncio.FIRST_COMPLETED)
        if ordered.done():
            order = ordered.result()
            sending.cancel()
            await asyncio.gather(sending, return_exceptions=True)
            await run.end(order.patience if isinstance(order, Stop) else 0.0)
        else:
            ordered.cancel()
            await sending
        reporting.cancel()
        await asyncio.gather(reporting, return_exceptions=True)
        await asyncio.to_thread(self._connection.send, replace(run.news(), last=True))

    async def _report(self, run: _Run) -> None:
        while True:
            await asyncio.sleep(_NEWS_EVERY_S)
            # in a thread: a tester that is slow to read must not hold up the calls; and to its end, as half a message
            # would be the last one
            sent = asyncio.ensure_future(asyncio.to_thread(self._connection.send, run.news()))
            try:
                await asyncio.shield(sent)
            except asyncio.CancelledError:
                await sent
                raise

    async def _ask(self, pick: Pick, deadline: float) -> bytes:
        questions = self._stock.questions[pick.kind]
        self._stamp += 1
        request = questions[int(pick.at * len(questions))].stamped(self._stamp)
        answer: bytes = await self._methods[pick.kind](request, timeout=deadline, metadata=self._metadata)
        return answer


class _Run:
    """One phase being done."""

    def __init__(self, begin: Begin, stock: Stock, ask: Callable[[Pick, float], Any]) -> None:
        self._phase = begin.phase
        self._begins = begin.begins
        self._stock = stock
        self._ask = ask
        self._calls: set[asyncio.Task[None]] = set()
        self._slots = asyncio.Semaphore(max(1, begin.phase.max_outstanding // stock.of))
        self._over = False
        self._rows = array("q")
        self._costs = array("q")
        self._answers = 0
        self._answers_a_cost = _answers_a_cost(begin.phase, stock.of)
        self._said: dict[int, str] = {}
        self._codes_seen: set[int] = set()
        self._cpu = time.process_time()
        self._wall = time.monotonic()

    async def send(self) -> None:
        """Send everything, and wait for all answers: each comes, or fails, within its deadline."""
        await asyncio.sleep(max(0.0, self._begins - self._phase.warmup - time.monotonic()))
        self._cpu, self._wall = time.process_time(), time.monotonic()
        await (self._open() if self._phase.is_open else self._closed())
        await self.end(None)

    async def end(self, patience: float | None) -> None:
        """Wait for what is under way, at most so long, and give up the rest."""
        self._over = True
        if self._calls:
            await asyncio.wait(self._calls, timeout=patience)
        for call in self._calls:
            call.cancel()
        await asyncio.gather(*self._calls, return_exceptions=True)

    def news(self) -> News:
        """What happened since this was last asked."""
        rows, costs, said = self._rows, self._costs, self._said
        self._rows, self._costs, self._said = array("q"), array("q"), {}
        cpu, wall = time.process_time() - self._cpu, time.monotonic() - self._wall
        return News(rows.tobytes(), costs.tobytes(), said, len(self._calls), cpu, wall)

    async def _open(self) -> None:
        for arrival in arrivals(self._phase, self._stock.weights, self._stock.index, self._stock.of):
            due = self._begins + arrival.due
            # also when late: answers that wait in the socket would otherwise be read only after the whole schedule
            await asyncio.sleep(max(0.0, due - time.monotonic()))
            if time.monotonic() - due > self._phase.deadline:
                self._record(arrival.pick.kind, NOT_SENT, due, None, time.monotonic())
            else:
                self._start(self._call_in_turn(arrival.pick, due))

    async def _closed(self) -> None:
        callers = self._phase.callers or 0
        asked = picks(self._phase.seed, self._stock.weights, self._stock.index)
        for _ in range(self._stock.index, callers, self._stock.of):
            self._start(self._caller(asked))
        if self._calls:
            await asyncio.wait(self._calls)

    def _start(self, work: Any) -> None:
        task = asyncio.create_task(work)
        self._calls.add(task)
        task.add_done_callback(self._calls.discard)

    async def _caller(self, asked: Iterator[Pick]) -> None:
        until = self._begins + self._phase.seconds
        while not self._over and (now := time.monotonic()) < until:
            if await self._call(next(asked), now) != OK:
                await asyncio.sleep(_AFTER_FAILURE_S)

    async def _call_in_turn(self, pick: Pick, due: float) -> None:
        if self._slots.locked():
            try:
                async with asyncio.timeout(due + self._phase.deadline - time.monotonic()):
                    await self._slots.acquire()
            except (TimeoutError, asyncio.CancelledError):
                self._record(pick.kind, NOT_SENT, due, None, time.monotonic())
                return
        else:
            await self._slots.acquire()
        try:
            await self._call(pick, due)
        finally:
            self._slots.release()

    async def _call(self, pick: Pick, due: float) -> int:
        sent = time.monotonic()
        answer = b""
        try:
            answer = await self._ask(pick, self._phase.deadline)
            code = OK
        except grpc.aio.AioRpcError as error:
            code = error.code().value[0]
            self._say(code, error.details() or "")
        except asyncio.CancelledError:
            # only ever by `end`: the task has nothing else to do
            code = UNFINISHED
        self._record(pick.kind, code, due, sent, time.monotonic())
        if code == OK and due >= self._begins:
            self._answers += 1
            if self._answers % self._answers_a_cost == 0 and (cost := cost_of(answer)) is not None:
                self._costs.extend((pick.kind, *cost))
        return code

    def _say(self, code: int, message: str) -> None:
        if code not in self._codes_seen:
            self._codes_seen.add(code)
            self._said[code] = message

    def _record(self, kind: int, code: int, due: float, sent: float | None, ended: float) -> None:
        service = -1 if sent is None else _microseconds(ended - sent)
        lag = _microseconds((ended if sent is None else sent) - due)
        row = Call(kind, code, _microseconds(due - self._begins), _microseconds(ended - due), service, lag)
        self._rows.extend(row)


def _answers_a_cost(phase: Phase, processes: int) -> int:
    """Of how many answers one has its stats read."""
    if phase.rate is None:
        return 5  # nobody knows the rate in advance
    return max(1, round(phase.rate / processes / _COSTS_A_SECOND))


def _microseconds(seconds: float) -> int:
    return round(seconds * 1e6)


def without_retries(target: str) -> list[tuple[str, str | int]]:
    """The client's options but for its repeats, which would hide rejections and send more than was asked."""
    options = [(name, value) for name, value in channel_options(target) if name != "grpc.service_config"]
    return [*options, ("grpc.enable_retries", 0), ("grpc.primary_user_agent", "lookalike-load")]


def _precise_loop() -> asyncio.AbstractEventLoop:
    # epoll waits in whole milliseconds and would send every call half a millisecond late; select waits as asked
    return asyncio.SelectorEventLoop(selectors.SelectSelector())


async def _work(connection: Connection) -> None:
    stock: Stock = connection.recv()
    gc.collect()
    gc.freeze()  # the stock is never garbage: no use in looking it through again and again
    async with grpc.aio.insecure_channel(stock.target, options=without_retries(stock.target)) as channel:
        await Caller(connection, stock, channel).serve()


def main() -> None:
    """Work for the tester at the other end of the socket that it has given this process."""
    # Ctrl-C is for the tester, which says what to do about it
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with Connection(int(sys.argv[1])) as connection, asyncio.Runner(loop_factory=_precise_loop) as runner:
        try:
            runner.run(_work(connection))
        except (EOFError, BrokenPipeError, ConnectionResetError):
            return


if __name__ == "__main__":
    main()
