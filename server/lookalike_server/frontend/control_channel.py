"""A child process's socket to the supervisor: commands, passed connections, and the child's reports."""

from __future__ import annotations

import asyncio
import os
import socket
from contextlib import suppress

from lookalike_server.reloading import Reloads

READY, FAILED = b"ready", b"failed"
"""What a child reports: it serves; or it cannot start, with the reason as text."""

CONNECT, RELOAD, DRAIN, STOP = b"connect", b"reload", b"drain", b"stop"
"""What the supervisor sends: a connection's file descriptor; reload what can be; after so many seconds, a number that
follows, finish the calls under way; end without doing so.
"""

MAX_MESSAGE_BYTES = 65536


class ControlChannel:
    """The child's end. Lives on one event loop, and ends the process at once when the supervisor has died.

    Attributes:
        reloads: What the process reloads.
        lame_duck_seconds: How long a process that is to finish serves everything before.
        draining: Set once the process is to finish.
        stopping: Set once it is to finish without waiting for calls under way.
    """

    def __init__(self, channel: socket.socket) -> None:
        """Take the child's end of a SOCK_SEQPACKET pair."""
        self._channel = channel
        self._connections: asyncio.Queue[socket.socket] = asyncio.Queue()
        self.reloads = Reloads()
        self.lame_duck_seconds = 0.0
        self.draining = asyncio.Event()
        self.stopping = asyncio.Event()

    def start(self) -> None:
        """Receive commands from now on."""
        self._channel.setblocking(False)
        asyncio.get_running_loop().add_reader(self._channel, self._receive)

    async def connection(self) -> socket.socket:
        """Wait for the next connection that the supervisor passes."""
        return await self._connections.get()

    def report(self, status: bytes, text: str = "") -> None:
        """Send a status, and a text that is cut to fit."""
        with suppress(OSError):  # the supervisor has died, and `_receive` is about to notice
            self._channel.send(status + b" " + text.encode()[: MAX_MESSAGE_BYTES - 64])

    def _receive(self) -> None:
        try:
            command, files, _, _ = socket.recv_fds(self._channel, MAX_MESSAGE_BYTES, 1)
        except ConnectionError:
            command, files = b"", []
        if not command:
            os._exit(1)
        if command == CONNECT:
            self._connections.put_nowait(socket.socket(fileno=files[0]))
        elif command == RELOAD:
            self.reloads.run()
        else:
            name, _, seconds = command.partition(b" ")
            self.lame_duck_seconds = float(seconds or 0)
            self.draining.set()
            if name == STOP:
                self.stopping.set()
