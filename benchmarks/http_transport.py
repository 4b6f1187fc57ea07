"""A small HTTP/1.1 client over kept-open connections: less work a call than any library, which favors the peer."""

from __future__ import annotations

import asyncio

import grpc


class HttpError(grpc.RpcError):
    """A call that was not answered with 200, in gRPC's terms so that all outcomes are counted alike."""

    def __init__(self, code: grpc.StatusCode, details: str) -> None:
        """Say which and why."""
        super().__init__(details)
        self._code = code

    def code(self) -> grpc.StatusCode:
        """The nearest gRPC status."""
        return self._code

    def details(self) -> str:
        """What the server said."""
        return str(self)


class HttpCalls:
    """POSTs to one path of one server; as many connections as calls are under way."""

    def __init__(self, address: str, path: str) -> None:
        """Connections are opened when needed."""
        self._host, _, port = address.rpartition(":")
        self._port = int(port)
        self._head = f"POST {path} HTTP/1.1\r\nHost: {address}\r\nContent-Length: ".encode()
        self._idle: list[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = []

    async def ask(self, body: bytes, deadline: float) -> bytes:
        """Send one body and return the answer's.

        Raises:
            HttpError: When the answer is not 200, or none came in time.
        """
        try:
            async with asyncio.timeout(deadline):
                status, answer = await self._exchange(body)
        except TimeoutError:
            raise HttpError(grpc.StatusCode.DEADLINE_EXCEEDED, "no answer in time") from None
        except (OSError, asyncio.IncompleteReadError) as error:
            raise HttpError(grpc.StatusCode.UNAVAILABLE, str(error)) from None
        if status != 200:
            code = grpc.StatusCode.RESOURCE_EXHAUSTED if status in (429, 503) else grpc.StatusCode.UNKNOWN
            raise HttpError(code, f"{status} {answer[:200]!r}")
        return answer

    async def close(self) -> None:
        """Close every connection."""
        for _, writer in self._idle:
            writer.close()
            await writer.wait_closed()

    async def _exchange(self, body: bytes) -> tuple[int, bytes]:
        reader, writer = self._idle.pop() if self._idle else await asyncio.open_connection(self._host, self._port)
        kept = False
        try:
            writer.write(self._head + f"{len(body)}\r\n\r\n".encode())
            writer.write(body)
            await writer.drain()
            head = (await reader.readuntil(b"\r\n\r\n")).lower()
            length = int(head.partition(b"content-length:")[2].partition(b"\r\n")[0])
            answer = await reader.readexactly(length)
            kept = True
        finally:
            # A connection whose answer was not read to its end would give it to the next caller.
            if not kept:
                writer.close()
        self._idle.append((reader, writer))
        return int(head[9:12]), answer
