"""The real server for tests without an event loop of their own, and its commands for tests with one."""

from __future__ import annotations

import asyncio
import io
import threading
from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import AbstractAsyncContextManager, contextmanager
from pathlib import Path
from typing import TypeVar

from click.testing import CliRunner, Result
from PIL import Image

from lookalike_client.cli import main
from support.serving import Served, noise

Value = TypeVar("Value")


@contextmanager
def in_thread(context: AbstractAsyncContextManager[Value]) -> Iterator[Value]:
    """Enter an asynchronous context, such as `serve()`, in an event loop of its own thread, until the block ends."""
    entered: Future[tuple[Value, asyncio.AbstractEventLoop, asyncio.Event]] = Future()

    async def run() -> None:
        end = asyncio.Event()
        try:
            async with context as value:
                entered.set_result((value, asyncio.get_running_loop(), end))
                await end.wait()
        except BaseException as error:
            if entered.done():
                raise
            entered.set_exception(error)

    thread = threading.Thread(target=asyncio.run, args=(run(),))
    thread.start()
    try:
        value, loop, end = entered.result()
        try:
            yield value
        finally:
            loop.call_soon_threadsafe(end.set)
    finally:
        thread.join()


def address(served: Served) -> str:
    """Return HOST:PORT of a server."""
    return f"127.0.0.1:{served.app.port}"


def png(seed: int) -> bytes:
    """Make an image file."""
    buffer = io.BytesIO()
    Image.fromarray(noise(seed)).save(buffer, "PNG")
    return buffer.getvalue()


async def command(served: Served, *arguments: str | Path) -> Result:
    """Run `lookalike` in a thread, because the server runs in this one's event loop."""
    return await asyncio.to_thread(CliRunner().invoke, main, ["--server", address(served), *map(str, arguments)])
