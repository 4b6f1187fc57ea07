"""The worker process: sends calls as it is configured, phase after phase, and reports what became of each.

It does as little as it can beside that: requests are serialized in advance, answers are not read (but for some stats,
or as a judge wants), and the counting is done by the load test's own process. It ends when that one does.
"""

from __future__ import annotations

import asyncio
import gc
import os
import selectors
import signal
import sys
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import replace
from multiprocessing.connection import Connection

from lookalike_client.tls import TlsError
from lookalike_loadtest.arrivals import Pick
from lookalike_loadtest.phase_run import PhaseRun
from lookalike_loadtest.transports import CONNECT_WITHIN_S, Transport
from lookalike_loadtest.worker_messages import Begin, Configure, Connected, NotConnected, Stop, WorkerConfig

Order = Configure | Begin | Stop

_UPDATE_EVERY_S = 0.25


class LoadWorker:
    """The work of one worker process; lives on one event loop."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._transports: dict[tuple[object, str, int], Transport] = {}
        self._orders: asyncio.Queue[Order] = asyncio.Queue()
        self._number = 0
        self._generated: list[Iterator[bytes] | None] = []

    async def work(self) -> None:
        """Follow orders until the load test goes."""
        asyncio.get_running_loop().add_reader(self._connection.fileno(), self._read, self._orders.put_nowait)
        configured: Configure | None = None
        while True:
            order = await self._orders.get()
            if isinstance(order, Configure):
                configured = order
                await self._connect(order)
            elif isinstance(order, Begin) and configured:
                await self._run(order, configured)

    def _read(self, put: Callable[[Order], None]) -> None:
        try:
            put(self._connection.recv())
        except (EOFError, OSError):
            # the load test is gone, and nobody wants to know what becomes of the calls
            os._exit(0)

    async def _connect(self, configured: Configure) -> None:
        gc.collect()
        gc.freeze()  # the requests are never garbage: no use in looking through them again and again
        config = configured.config
        # numbers of its own for every worker: none sends a million million images
        self._number = (config.first_number + configured.index * 10**12) % 2**63
        self._generated = [requests.generate and requests.generate() for requests in config.requests]
        key = _transport_key(config)
        try:
            if key not in self._transports:
                self._transports[key] = config.transport(config.target, config.connections)
            await self._transports[key].connect()
        except TlsError as error:
            self._connection.send(NotConnected(str(error)))
            return
        except TimeoutError:
            self._connection.send(NotConnected(f"no connection to {config.target} in {CONNECT_WITHIN_S:.0f} s"))
            return
        self._connection.send(Connected())

    async def _run(self, begin: Begin, configured: Configure) -> None:
        config = configured.config
        transport = self._transports[_transport_key(config)]

        def prepare(pick: Pick) -> tuple[str, bytes]:
            requests, generator = config.requests[pick.kind], self._generated[pick.kind]
            if generator:
                return requests.method, next(generator)
            self._number += 1
            return requests.method, requests.templates[int(pick.at * len(requests.templates))].render(self._number)

        def send(method: str, request: bytes, deadline: float) -> Awaitable[bytes]:
            return transport.send(method, request, deadline, config.token)

        run = PhaseRun(begin, configured, prepare, send)
        reporting = asyncio.create_task(self._report(run))
        sending = asyncio.create_task(run.run())
        ordered = asyncio.create_task(self._orders.get())
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
        await asyncio.to_thread(self._connection.send, replace(run.update(), last=True))

    async def _report(self, run: PhaseRun) -> None:
        while True:
            await asyncio.sleep(_UPDATE_EVERY_S)
            # in a thread: a load test that is slow to read must not hold up the calls; and to its end, as half a
            # message would be the last one
            sent = asyncio.ensure_future(asyncio.to_thread(self._connection.send, run.update()))
            try:
                await asyncio.shield(sent)
            except asyncio.CancelledError:
                await sent
                raise


def _transport_key(config: WorkerConfig) -> tuple[object, str, int]:
    return config.transport, config.target, config.connections


def _precise_loop() -> asyncio.AbstractEventLoop:
    # epoll waits in whole milliseconds and would send every call half a millisecond late; select waits as long as asked
    return asyncio.SelectorEventLoop(selectors.SelectSelector())


def main() -> None:
    """Work for the load test at the other end of the socket that it has given this process."""
    # Ctrl-C is for the load test, which says what to do about it
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with Connection(int(sys.argv[1])) as connection, asyncio.Runner(loop_factory=_precise_loop) as runner:
        try:
            runner.run(LoadWorker(connection).work())
        except (EOFError, BrokenPipeError, ConnectionResetError):
            return


if __name__ == "__main__":
    main()
