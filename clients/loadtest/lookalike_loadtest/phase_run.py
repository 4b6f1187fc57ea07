"""Runs one phase in a worker: sends calls at their times, whatever is outstanding, and records what became of each."""

from __future__ import annotations

import asyncio
import random
import time
from array import array
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from typing import Any

import grpc

from lookalike_loadtest.arrivals import Pick, arrivals, picks
from lookalike_loadtest.plan import CANCELLED, NOT_SENT, OK, UNFINISHED, WRONG_ANSWER, Phase
from lookalike_loadtest.response_stats import read_details
from lookalike_loadtest.worker_messages import Begin, Call, Configure, WorkerUpdate

_DETAILS_A_SECOND = 200  # stats read; reading all of them would make a fast tester a slow one

Prepare = Callable[[Pick], tuple[str, bytes]]
"""Makes the method and the request of a pick."""

Send = Callable[[str, bytes, float], Awaitable[bytes]]
"""Sends a request to a method with a deadline in seconds, and returns its answer."""


class PhaseRun:
    """One phase of one worker."""

    def __init__(self, begin: Begin, configured: Configure, prepare: Prepare, send: Send) -> None:
        config = configured.config
        self._phase = begin.phase
        self._begins = begin.begins
        self._index, self._of = configured.index, configured.of
        self._shares = [requests.share for requests in config.requests]
        self._judge = config.judge
        self._prepare = prepare
        self._send = send
        self._calls: set[asyncio.Task[None]] = set()
        self._slots = asyncio.Semaphore(max(1, begin.phase.max_outstanding // configured.of))
        self._random = random.Random(f"{begin.phase.seed} {configured.index}")  # noqa: S311 - a load, not a secret
        self._over = False
        self._rows = array("q")
        self._details = array("q")
        self._answers = 0
        self._answers_per_detail = _answers_per_detail(begin.phase, configured.of)
        self._messages: dict[int, str] = {}
        self._codes_seen: set[int] = set()
        self._cpu = time.process_time()
        self._wall = time.monotonic()

    async def run(self) -> None:
        """Send everything, and wait for all answers: each comes, or fails, within its deadline."""
        await asyncio.sleep(max(0.0, self._begins - self._phase.warmup - time.monotonic()))
        self._cpu, self._wall = time.process_time(), time.monotonic()
        await (self._open() if self._phase.is_open else self._closed())
        await self.end(None)

    async def end(self, patience: float | None) -> None:
        """Wait for what is under way, at most so many seconds, and give up the rest."""
        self._over = True
        if self._calls:
            await asyncio.wait(self._calls, timeout=patience)
        for call in self._calls:
            call.cancel()
        await asyncio.gather(*self._calls, return_exceptions=True)

    def update(self) -> WorkerUpdate:
        """Take what happened since the last update."""
        rows, details, messages = self._rows, self._details, self._messages
        self._rows, self._details, self._messages = array("q"), array("q"), {}
        cpu, wall = time.process_time() - self._cpu, time.monotonic() - self._wall
        return WorkerUpdate(rows.tobytes(), details.tobytes(), messages, len(self._calls), cpu, wall)

    async def _open(self) -> None:
        for arrival in arrivals(self._phase, self._shares, self._index, self._of):
            due = self._begins + arrival.due
            # also when late: answers that wait in the socket would otherwise be read only after the whole schedule
            await asyncio.sleep(max(0.0, due - time.monotonic()))
            if time.monotonic() - due > self._phase.deadline:
                self._record(arrival.pick.kind, NOT_SENT, due, None, time.monotonic())
            else:
                self._start(self._call_in_turn(arrival.pick, due))

    async def _closed(self) -> None:
        picked = picks(self._phase.seed, self._shares, self._index)
        for _ in range(self._index, self._phase.concurrency or 0, self._of):
            self._start(self._call_repeatedly(picked))
        if self._calls:
            await asyncio.wait(self._calls)

    def _start(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._calls.add(task)
        task.add_done_callback(self._calls.discard)

    async def _call_repeatedly(self, picked: Iterator[Pick]) -> None:
        until = self._begins + self._phase.seconds
        while not self._over and time.monotonic() < until:
            pick = next(picked)
            request = self._prepare(pick)
            code = await self._call(pick.kind, request, time.monotonic())
            if self._phase.think_time:
                await asyncio.sleep(self._phase.think_time)
            elif code not in (OK, CANCELLED):
                await asyncio.sleep(self._phase.failure_pause)

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
            await self._call(pick.kind, self._prepare(pick), due)
        finally:
            self._slots.release()

    async def _call(self, kind: int, request: tuple[str, bytes], due: float) -> int:
        sent = time.monotonic()
        answer = b""
        try:
            answer = await self._send_and_maybe_cancel(*request)
            code = OK
        except grpc.RpcError as error:
            code = error.code().value[0]
            self._note(code, error.details() or "")
        except TimeoutError:
            code = CANCELLED
        except asyncio.CancelledError:
            # only ever by `end`: the task has nothing else to do
            code = UNFINISHED
        ended = time.monotonic()
        judged = -1
        if code == OK and self._judge:
            try:
                judged = self._judge(answer)
            except ValueError as error:
                code = WRONG_ANSWER
                self._note(code, str(error))
        self._record(kind, code, due, sent, ended, judged)
        if code == OK and due >= self._begins and not self._judge:
            self._read_some_details(kind, answer)
        return code

    async def _send_and_maybe_cancel(self, method: str, request: bytes) -> bytes:
        if self._phase.cancel_within is None:
            return await self._send(method, request, self._phase.deadline)
        async with asyncio.timeout(self._random.uniform(0, self._phase.cancel_within)):
            return await self._send(method, request, self._phase.deadline)

    def _read_some_details(self, kind: int, answer: bytes) -> None:
        self._answers += 1
        if self._answers % self._answers_per_detail == 0 and (details := read_details(answer)) is not None:
            self._details.extend((kind, *details))

    def _note(self, code: int, message: str) -> None:
        if code not in self._codes_seen:
            self._codes_seen.add(code)
            self._messages[code] = message

    def _record(self, kind: int, code: int, due: float, sent: float | None, ended: float, judged: int = -1) -> None:
        service = -1 if sent is None else _microseconds(ended - sent)
        lag = _microseconds((ended if sent is None else sent) - due)
        since = _microseconds(due - self._begins)
        self._rows.extend(Call(kind, code, since, _microseconds(ended - due), service, lag, judged))


def _answers_per_detail(phase: Phase, workers: int) -> int:
    """Return of how many answers one has its stats read."""
    if phase.rate is None:
        return 5  # nobody knows the rate in advance
    return max(1, round(phase.rate / workers / _DETAILS_A_SECOND))


def _microseconds(seconds: float) -> int:
    return round(seconds * 1e6)
