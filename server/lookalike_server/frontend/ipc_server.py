"""The engine process's end of a frontend's connection: calls the engine for the frontend."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

from lookalike_server.domain.inference import Model, RawImage, Runtime
from lookalike_server.engine.engine import Engine
from lookalike_server.frontend.ipc import LENGTH, IpcConnection, dumps, picklable_error
from lookalike_server.frontend.shared_images import SharedImageReader

IpcRequest: TypeAlias = tuple[int, str | None, int | RawImage | None, tuple[Any, ...], dict[str, Any]]
"""A request's number, the engine's method (None cancels the request), an image or its slot, and the other arguments."""

IpcReply: TypeAlias = int | tuple[int, Exception | None, Any]
"""A slot that is free again; or a request's number with the method's exception or result."""


@dataclass(frozen=True, slots=True)
class Handshake:
    """What a frontend receives first, together with the file of the shared images."""

    model: Model
    runtime: Runtime
    stream_window: int
    slots: int


class IpcServer:
    """One frontend's connection. When it breaks, the calls of this frontend are cancelled, and no others."""

    def __init__(self, engine: Engine, on_disconnect: Callable[[IpcServer], None]) -> None:
        """Serve this engine after `start`."""
        self._engine = engine
        self._on_disconnect = on_disconnect
        self._connection = IpcConnection(self._on_request, self._on_connection_lost)
        self._loop = asyncio.get_running_loop()
        self._thread = threading.get_ident()
        self._images: SharedImageReader
        self._tasks: dict[int, asyncio.Task[None]] = {}

    async def start(self, frontend: socket.socket, slots: int) -> None:
        """Share `slots` slots for images with the frontend at the other end, and serve it from now on.

        Raises:
            OSError: When the frontend has ended.
        """
        engine = self._engine
        self._images = SharedImageReader(slots, engine.model.height, engine.model.width, self._on_free)
        try:
            handshake = dumps(Handshake(engine.model, engine.runtime, engine.stream_window, slots))
            # The first bytes on a fresh socket: they fit into its buffer, and arrive together with the file.
            socket.send_fds(frontend, [LENGTH.pack(len(handshake)) + handshake], [self._images.file])
        finally:
            self._images.close()
        frontend.setblocking(False)
        await self._loop.create_unix_connection(lambda: self._connection, sock=frontend)

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()

    def _on_request(self, request: IpcRequest) -> None:
        number, method, image, arguments, options = request
        if method is None:
            if number in self._tasks:
                self._tasks[number].cancel()
            return
        if isinstance(image, int):
            # Here and not in the task, which may be cancelled before it starts: only reading a slot frees it again.
            image = RawImage(self._images.read(image), None, "")
        if image is not None and method == "search":
            arguments = (replace(arguments[0], image=image), *arguments[1:])
        elif image is not None:
            arguments = (image, *arguments)
        task = self._tasks[number] = self._loop.create_task(self._reply(number, method, arguments, options))
        task.add_done_callback(lambda _: self._tasks.pop(number))

    async def _reply(self, number: int, method: str, arguments: tuple[Any, ...], options: dict[str, Any]) -> None:
        try:
            value = await getattr(self._engine, method)(*arguments, **options)
        except Exception as error:  # noqa: BLE001 - the caller gets it, whatever it is
            self._connection.send((number, picklable_error(error), None))
            _drop_tracebacks(error)
            return
        if isinstance(value, list):  # one result or error per item
            value = [picklable_error(each) if isinstance(each, Exception) else each for each in value]
        self._connection.send((number, None, value))

    def _on_free(self, slot: int) -> None:
        if threading.get_ident() == self._thread:
            self._connection.send(slot)
        elif not self._loop.is_closed():  # a thread that runs the model may be the last to reference an image
            self._loop.call_soon_threadsafe(self._connection.send, slot)

    def _on_connection_lost(self) -> None:
        for task in self._tasks.values():
            task.cancel()
        del self._images  # what still runs references its own images; the rest of the memory is freed now
        self._on_disconnect(self)


def _drop_tracebacks(error: BaseException | None) -> None:
    """Release the images that traceback frames reference, which only the garbage collector would free: cycles."""
    while error is not None:
        error.__traceback__ = None
        error = error.__context__
