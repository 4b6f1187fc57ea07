"""A small HTTP/1.1 client over kept-open connections: less work a call than any library, which favors the peer."""

from __future__ import annotations

import asyncio

import grpc


class HttpError(grpc.RpcError):
    """A call that was not answered with 200, in gRPC's terms so that all outcomes are counted alike."""

    def __init__(self, code: grpc.StatusCode, details: str) -> None:
        super().__init__(details)
        self._code = code

    def code(self) -> grpc.StatusCode:
        """Return the nearest gRPC status."""
        return self._code

    def details(self) -> str:
        """Return the message."""
        return str(self)


class HttpTransport:
    """POSTs to one server, over as many connections as calls are under way."""

    def __init__(self, target: str, connections: int) -> None:
        del connections
        self._target = target
        self._host, _, port = target.rpartition(":")
        self._port = int(port)
        self._idle: list[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = []

    async def connect(self) -> None:
        """Do nothing: connections are opened when needed."""

    async def send(self, method: str, request: bytes, deadline: float, token: str | None) -> bytes:
        """POST a body to a path and return the answer's body.

        Raises:
            HttpError: The answer is not 200, or none came in time.
        """
        del token
        try:
            async with asyncio.timeout(deadline):
                status, answer = await self._exchange(method, request)
        except TimeoutError:
            raise HttpError(grpc.StatusCode.DEADLINE_EXCEEDED, "no answer in time") from None
        except (OSError, asyncio.IncompleteReadError) as error:
            raise HttpError(grpc.StatusCode.UNAVAILABLE, str(error)) from None
        if status != 200:
            code = grpc.StatusCode.RESOURCE_EXHAUSTED if status in (429, 503) else grpc.StatusCode.UNKNOWN
            raise HttpError(code, f"{status} {answer[:200]!r}")
        return answer

    async def _exchange(self, path: str, body: bytes) -> tuple[int, bytes]:
        reader, writer = self._idle.pop() if self._idle else await asyncio.open_connection(self._host, self._port)
        kept = False
        try:
            head = f"POST {path} HTTP/1.1\r\nHost: {self._target}\r\nContent-Length: {len(body)}\r\n\r\n"
            writer.write(head.encode())
            writer.write(body)
            await writer.drain()
            answer_head = (await reader.readuntil(b"\r\n\r\n")).lower()
            length = int(answer_head.partition(b"content-length:")[2].partition(b"\r\n")[0])
            answer = await reader.readexactly(length)
            kept = True
        finally:
            # a connection whose answer was not read to its end would give it to the next call
            if not kept:
                writer.close()
        self._idle.append((reader, writer))
        return int(answer_head[9:12]), answer
