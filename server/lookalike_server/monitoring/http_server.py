"""A small HTTP/1.1 server on the event loop, for GET requests of few clients; strangers can neither fill nor hold it.

A connection has one request and a time for each of its parts. There are few connections at once: the oldest that waits
for its client makes room for a new one, so that clients that are slow on purpose do not keep others out.
"""

from __future__ import annotations

import asyncio
import socket
import struct
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from http import HTTPStatus
from typing import TypeAlias, cast

import structlog

from lookalike_server.monitoring.exchange import Exchange, Request, Response

Answer: TypeAlias = Callable[[Request], Awaitable[Response]]

MAX_CONNECTIONS = 32
HEAD_SECONDS = 5.0
"""In which a client must send its request's head."""

TAKE_SECONDS = 10.0
"""In which a client must take the response and close the connection."""

_DROP = struct.pack("ii", 1, 0)  # struct linger: on, for no time
_LOG_SECONDS = 60.0  # in which one error is logged


class HttpServer:
    """Serves on sockets that listen, from `start` to `close`. Lives on one event loop."""

    def __init__(
        self,
        answer: Answer,
        *,
        max_connections: int = MAX_CONNECTIONS,
        head_seconds: float = HEAD_SECONDS,
        take_seconds: float = TAKE_SECONDS,
    ) -> None:
        """Answer requests with `answer`, which may raise: then the response is 500, and the log has why."""
        self._answer = answer
        self._max_connections = max_connections
        self._head_seconds = head_seconds
        self._take_seconds = take_seconds
        self._waiting: dict[_Connection, None] = {}  # for their clients, oldest first
        self._answering: dict[_Connection, asyncio.Task[None]] = {}
        self._servers: list[asyncio.Server] = []
        self._logged = -_LOG_SECONDS

    async def start(self, sockets: Sequence[socket.socket]) -> None:
        """Accept connections from now on."""
        loop = asyncio.get_running_loop()
        for bound in sockets:
            self._servers.append(await loop.create_server(lambda: _Connection(self), sock=bound))

    def close(self) -> None:
        """Close the port and every connection."""
        for server in self._servers:
            server.close()
        for task in self._answering.values():
            task.cancel()
        for connection in (*self._waiting, *self._answering):
            connection.abort()

    def connected(self, connection: _Connection) -> None:
        """Wait for a new connection's request, and make room for it where there are too many."""
        self._waiting[connection] = None
        if len(self._waiting) + len(self._answering) > self._max_connections:
            next(iter(self._waiting)).abort()
        connection.expect(self._head_seconds)

    def received(self, connection: _Connection, request: Request) -> None:
        """Answer a connection's request."""
        self._waiting.pop(connection, None)
        connection.expect(None)
        self._answering[connection] = asyncio.get_running_loop().create_task(self._respond(connection, request))

    def responded(self, connection: _Connection) -> None:
        """Wait for the client to take its response."""
        self._answering.pop(connection, None)
        self._waiting.pop(connection, None)
        self._waiting[connection] = None
        connection.expect(self._take_seconds)

    def disconnected(self, connection: _Connection) -> None:
        """Forget a connection."""
        self._waiting.pop(connection, None)
        if task := self._answering.pop(connection, None):
            task.cancel()

    async def _respond(self, connection: _Connection, request: Request) -> None:
        try:
            response = await self._answer(request)
        except Exception as error:  # noqa: BLE001 - whatever it is, it ends this request alone
            self._log(error, request)
            response = Response(HTTPStatus.INTERNAL_SERVER_ERROR, "this failed; the server's log says why\n")
        connection.respond(response)

    def _log(self, error: Exception, request: Request) -> None:
        """Log an error, but not as often as strangers may ask for it."""
        if time.monotonic() - self._logged > _LOG_SECONDS:
            self._logged = time.monotonic()
            structlog.get_logger().error("http_request_failed", path=request.path, exc_info=error)


class _Connection(asyncio.Protocol):
    """A client's connection: its request's head is parsed, then it gets one response, and what it sends is dropped."""

    def __init__(self, server: HttpServer) -> None:
        self._server = server
        self._exchange = Exchange()
        self._transport: asyncio.Transport
        self._timer: asyncio.TimerHandle | None = None
        self._is_complete = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # uvloop's class does not derive from it
        self._server.connected(self)

    def data_received(self, data: bytes) -> None:
        if self._is_complete:
            return  # read and dropped: unread bytes would make closing reset the connection, and lose the response
        received = self._exchange.receive(data)
        if received is None:
            return
        self._is_complete = True
        if isinstance(received, Request):
            self._server.received(self, received)
        else:
            self.respond(received)

    def eof_received(self) -> bool:
        return self._is_complete  # a client that has closed its half still gets its response

    def connection_lost(self, exc: Exception | None) -> None:
        del exc
        self.expect(None)
        self._server.disconnected(self)

    def expect(self, seconds: float | None) -> None:
        """Give the client so long from now on for what it is to do; None: it is to do nothing."""
        if self._timer is not None:
            self._timer.cancel()
        self._timer = None
        if seconds is not None:
            self._timer = asyncio.get_running_loop().call_later(seconds, self._expire)

    def respond(self, response: Response) -> None:
        """Send the response, and nothing after it."""
        if self._transport.is_closing():
            return
        self._transport.write(self._exchange.respond(response))
        self._transport.write_eof()
        self._server.responded(self)

    def abort(self) -> None:
        """Close the connection at once, and drop what the client has not taken, which the kernel would keep."""
        bound = self._transport.get_extra_info("socket")
        with suppress(OSError):  # it has just been closed
            bound.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _DROP)
        self._transport.abort()

    def _expire(self) -> None:
        self._timer = None
        if self._is_complete:
            self.abort()
            return
        self._is_complete = True
        self.respond(Response(HTTPStatus.REQUEST_TIMEOUT, "the request's head did not arrive in time\n"))
