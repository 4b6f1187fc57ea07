"""A caller that opens a stream and never lets the server send a byte of its responses."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import h2.config
import h2.connection
import h2.events
import h2.settings


@asynccontextmanager
async def unread_stream(port: int, method: str, request: bytes) -> AsyncIterator[None]:
    """Call a method with a flow-control window of 0 for its responses; the block runs once its headers have arrived.

    Args:
        port: Of the server, on this host.
        method: The full name, as in `/grpc.health.v1.Health/Watch`.
        request: The message, serialized.
    """
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    connection = h2.connection.H2Connection(h2.config.H2Configuration(header_encoding="utf-8"))
    connection.local_settings = h2.settings.Settings(
        client=True, initial_values={h2.settings.SettingCodes.INITIAL_WINDOW_SIZE: 0}
    )
    connection.initiate_connection()
    headers = {":method": "POST", ":scheme": "http", ":path": method, ":authority": "test"}
    headers |= {"te": "trailers", "content-type": "application/grpc"}
    connection.send_headers(1, list(headers.items()))
    connection.send_data(1, b"\0" + len(request).to_bytes(4, "big") + request, end_stream=True)
    try:
        answered = False
        while not answered:
            writer.write(connection.data_to_send())
            data = await reader.read(65_536)
            assert data, "the server closed the connection"
            answered = any(isinstance(event, h2.events.ResponseReceived) for event in connection.receive_data(data))
        yield
    finally:
        writer.close()
        await writer.wait_closed()
