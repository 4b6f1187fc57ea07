"""A child's line to the supervisor: what it is told to do, the connections it is handed, and what it reports."""

from __future__ import annotations

import asyncio
import os
import socket
from contextlib import suppress

OPEN, REJECTED = b"open", b"rejected"
CONNECT, DRAIN, NOW = b"connect", b"drain", b"now"

MOST = 65536


class ControlChannel:
    """Lives on one event loop, and ends the process at once where the supervisor is gone: nobody else would."""

    def __init__(self, line: socket.socket) -> None:
        """Take the child's end."""
        self._line = line
        self._connections: asyncio.Queue[socket.socket] = asyncio.Queue()
        self.draining = asyncio.Event()
        self.now = asyncio.Event()

    def listen(self) -> None:
        """Begin to hear."""
        self._line.setblocking(False)
        asyncio.get_running_loop().add_reader(self._line, self._read)

    async def connection(self) -> socket.socket:
        """The next connection that the supervisor hands over."""
        return await self._connections.get()

    def tell(self, word: bytes, text: str = "") -> None:
        """Report."""
        with suppress(OSError):  # the supervisor is gone, as is about to be read
            self._line.send(word + b" " + text.encode()[: MOST - 64])

    def _read(self) -> None:
        try:
            word, files, _, _ = socket.recv_fds(self._line, MOST, 1)
        except ConnectionError:
            word, files = b"", []
        if not word:
            os._exit(1)
        if word == CONNECT:
            self._connections.put_nowait(socket.socket(fileno=files[0]))
        else:
            self.draining.set()
            if word == NOW:
                self.now.set()
