"""Accepting calls from the C core in batches, so that none grows old in the core's queue unseen.

`grpc.aio` asks the core for one call at a time, and each costs a trip through the core's polling thread and back. On a
busy machine that is 400 to 700 calls a second, fewer than the event loop could reject, and the core's queue is served
oldest first: at twice the capacity every call was accepted just before its deadline (docs/adr/0029). And when the
server stops, grpcio forgets calls that it has asked for and not begun, and their callers see CANCELLED; here they are
rejected in words that clients retry.

It reaches into grpcio's private parts, which the lock file pins; tests/integration/server/test_accepting.py fails where
another version has other ones.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, cast

import grpc
from grpc._cython import cygrpc
from grpc.aio import _server

_REQUESTS = 32
"""Calls that the core is asked for at once."""

_MAX_ACCEPTED = 4_096
"""Calls that may wait here, at 15 KB each; the others wait in the core."""

_LATE_SECONDS = 0.05
"""How long the oldest may have waited until the newest one comes first.

Then not all can be answered in time. Oldest first, all would be answered late; newest first, some are not late at all.
"""


def make_server(
    interceptors: Sequence[grpc.aio.ServerInterceptor], options: Sequence[tuple[str, int]]
) -> grpc.aio.Server:
    """Return what `grpc.aio.server` does with these interceptors and channel arguments, but for how it accepts."""
    server: Any = _Server(interceptors, options)
    return cast("grpc.aio.Server", server)  # the stubs do not know that it is one


class _Server(_server.Server):
    def __init__(self, interceptors: Sequence[grpc.aio.ServerInterceptor], options: Sequence[tuple[str, int]]) -> None:
        self._loop = cygrpc.get_working_loop()
        arguments = _server._augment_channel_arguments(options, None)  # noqa: SLF001
        self._server = _AcceptingServer(self._loop, None, (), tuple(interceptors), arguments, None)


class AcceptedCalls:
    """Calls that were accepted and have not begun; the next one is the oldest, or the newest once that one is late."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        """Take the time in seconds."""
        self._clock = clock
        self._calls: deque[tuple[float, Any]] = deque()

    def __len__(self) -> int:
        return len(self._calls)

    def add(self, call: Any) -> None:
        """Add a call that arrives now."""
        self._calls.append((self._clock(), call))

    def take(self) -> Any:
        """Remove the next one."""
        is_late = self._clock() - self._calls[0][0] > _LATE_SECONDS
        return (self._calls.pop() if is_late else self._calls.popleft())[1]


class _AcceptingServer(cygrpc.AioServer):  # type: ignore[misc]  # compiled, without types
    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self._accepted = AcceptedCalls()
        self._awaited: asyncio.Future[Any] | None = None
        self._accepting: set[asyncio.Task[None]] = set()
        self._room = asyncio.Event()
        self._room.set()
        self._stopping = False
        self._rejections: set[asyncio.Task[None]] = set()

    async def shutdown(self, grace: float | None) -> None:
        """Stop, as grpcio does, with the rejection of calls that have not begun."""
        self._stopping = True
        await super().shutdown(grace)

    def _make_request_call_future(self, _: bytes | None) -> asyncio.Future[Any]:
        """Return a future of the next call; grpcio asks for one after another, and again after a failure."""
        loop = asyncio.get_running_loop()
        while len(self._accepting) < _REQUESTS:
            task = loop.create_task(self._accept())
            self._accepting.add(task)
            task.add_done_callback(self._accepting.discard)
        future = loop.create_future()
        if self._accepted:
            future.set_result(self._accepted.take())
            self._room.set()
        else:
            self._awaited = future
        return future

    async def _accept(self) -> None:
        while True:
            try:
                call = await self._request_call()
            except Exception as error:  # noqa: BLE001 - the core has stopped, or failed: grpcio handles both
                while self._stopping and self._accepted:
                    self._reject(self._accepted.take())
                self._hand_over(error)
                return
            if self._stopping:
                self._reject(call)
            elif not self._hand_over(call):
                self._accepted.add(call)
                if len(self._accepted) >= _MAX_ACCEPTED:
                    self._room.clear()
                await self._room.wait()

    def _reject(self, call: Any) -> None:
        loop = asyncio.get_running_loop()
        context = cygrpc._ServicerContext(call, None, None, loop)  # noqa: SLF001
        rejection = context.abort(grpc.StatusCode.UNAVAILABLE, "the server is shutting down; call another one")
        # As grpcio serves calls: it also waits for the end of the call.
        task = loop.create_task(cygrpc._schedule_rpc_coro(rejection, call, loop, ""))  # noqa: SLF001
        self._rejections.add(task)
        task.add_done_callback(self._rejections.discard)

    def _hand_over(self, result: Any) -> bool:
        future, self._awaited = self._awaited, None
        if future is None or future.done():
            return False
        if isinstance(result, Exception):
            future.set_exception(result)
        else:
            future.set_result(result)
        return True
