"""HTTP requests as bytes, one connection each, as a stranger may send them."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Reply:
    """A response: its headers by lower-case name."""

    status: int
    headers: Mapping[str, str]
    body: bytes


async def get(port: int, path: str, **headers: str) -> Reply:
    """Send a GET request to this port of the loopback interface; `accept_encoding` is the header Accept-Encoding."""
    lines = [f"GET {path} HTTP/1.1", f"Host: 127.0.0.1:{port}"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    return await reply_to(port, "\r\n".join([*lines, "", ""]).encode())


async def reply_to(port: int, request: bytes) -> Reply:
    """Send bytes, and return the response once the server has closed the connection."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        writer.write(request)
        async with asyncio.timeout(60):
            received = await reader.read()
    finally:
        writer.close()
    head, _, body = received.partition(b"\r\n\r\n")
    status, *lines = head.decode("latin-1").split("\r\n")
    headers = dict(line.split(": ", 1) for line in lines)
    return Reply(int(status.split()[1]), {name.lower(): value for name, value in headers.items()}, body)
