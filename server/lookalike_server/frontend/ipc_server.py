"""The end of a worker's connection in the process with the model: does what the worker asks of the engine."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

from lookalike_server.domain.inference import Model, RawImage, Runtime
from lookalike_server.engine.engine import Engine
from lookalike_server.frontend.ipc import LENGTH, IpcConnection, dumps, portable
from lookalike_server.frontend.shared_images import SharedImageReader

Ask: TypeAlias = tuple[int, str | None, int | RawImage | None, tuple[Any, ...], dict[str, Any]]
"""A query's number; which method of the engine, None to cancel; its image, mostly in a row; and its arguments."""

Reply: TypeAlias = int | tuple[int, Exception | None, Any]
"""A row that is free again; or a query's number with what the method raised or returned."""


@dataclass(frozen=True, slots=True)
class Hello:
    """What a worker hears first, and with it the file of the rows."""

    model: Model
    runtime: Runtime
    stream_window: int
    rows: int


class IpcServer:
    """One worker's connection. When it breaks, what the worker's callers asked for is cancelled, and nothing else."""

    def __init__(self, engine: Engine, ended: Callable[[IpcServer], None]) -> None:
        """SearchResult with this engine, and say when it has ended; `start` begins."""
        self._engine = engine
        self._ended = ended
        self._wire = IpcConnection(self._heard, self._lost)
        self._loop = asyncio.get_running_loop()
        self._thread = threading.get_ident()
        self._rows: SharedImageReader
        self._tasks: dict[int, asyncio.Task[None]] = {}

    async def start(self, worker: socket.socket, rows: int) -> None:
        """Share `rows` rows with the worker at the other end, and answer it from now on.

        Raises:
            OSError: The worker is gone.
        """
        engine = self._engine
        self._rows = SharedImageReader(rows, engine.model.height, engine.model.width, self._freed)
        try:
            hello = dumps(Hello(engine.model, engine.runtime, engine.stream_window, rows))
            # The first bytes on a fresh socket: they fit, and arrive together with the file.
            socket.send_fds(worker, [LENGTH.pack(len(hello)) + hello], [self._rows.file])
        finally:
            self._rows.close()
        worker.setblocking(False)
        await self._loop.create_unix_connection(lambda: self._wire, sock=worker)

    def close(self) -> None:
        """Hang up."""
        self._wire.close()

    def _heard(self, message: Ask) -> None:
        number, method, image, arguments, options = message
        if method is None:
            if number in self._tasks:
                self._tasks[number].cancel()
            return
        if isinstance(image, int):
            # Here and not in the task, which may be cancelled before it begins: a row is let go by whoever took it.
            image = RawImage(self._rows.take(image), None, "")
        if image is not None and method == "find_similar":
            arguments = (replace(arguments[0], image=image), *arguments[1:])
        elif image is not None:
            arguments = (image, *arguments)
        task = self._tasks[number] = self._loop.create_task(self._answer(number, method, arguments, options))
        task.add_done_callback(lambda _: self._tasks.pop(number))

    async def _answer(self, number: int, method: str, arguments: tuple[Any, ...], options: dict[str, Any]) -> None:
        try:
            value = await getattr(self._engine, method)(*arguments, **options)
        except Exception as error:  # noqa: BLE001 - whatever it is, it is the caller's answer
            self._wire.send((number, portable(error), None))
            _forget(error)
            return
        if isinstance(value, list):  # what became of each item
            value = [portable(each) if isinstance(each, Exception) else each for each in value]
        self._wire.send((number, None, value))

    def _freed(self, row: int) -> None:
        if threading.get_ident() == self._thread:
            self._wire.send(row)
        elif not self._loop.is_closed():  # the last to hold an image may be a thread that runs the model
            self._loop.call_soon_threadsafe(self._wire.send, row)

    def _lost(self) -> None:
        for task in self._tasks.values():
            task.cancel()
        del self._rows  # what still runs holds on to its own; the rest of the memory goes now
        self._ended(self)


def _forget(error: BaseException | None) -> None:
    """Let go of what its traceback's frames hold: images, and in circles, which only the garbage collector ends."""
    while error is not None:
        error.__traceback__ = None
        error = error.__context__
