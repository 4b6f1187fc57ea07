"""The requests of a stream: items are read at the server's pace, and what reading them raises is kept for the caller.

gRPC itself would only say that the stream failed.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any, Generic, TypeVar

import grpc

from lookalike_client.errors import from_rpc_error

Item = TypeVar("Item")
Message = TypeVar("Message")


class RequestStream(Generic[Item, Message]):
    """The items of one stream, each converted to a message when its turn comes.

    Args:
        items: What to send; read only as fast as it is sent.
        to_message: Converts an item to a message, and reads its file if it has one.
        window: The most items that may be sent without a response yet; None leaves flow control to the server.

    Attributes:
        error: What reading the items raised; None while nothing has.

    Raises:
        ValueError: A window below 1.
    """

    def __init__(self, items: Iterable[Item], to_message: Callable[[Item], Message], window: int | None = None) -> None:
        self._items = items
        self._to_message = to_message
        self._slots = None if window is None else threading.Semaphore(_checked(window))
        self._closed = False
        self.error: Exception | None = None

    def messages(self) -> Iterator[Message]:
        """Yield the items as messages, in a thread of gRPC; keep and raise what reading them raises."""
        try:
            for item in self._items:
                if self._slots is not None:
                    self._slots.acquire()
                if self._closed:
                    return
                yield self._to_message(item)
        except Exception as error:
            self.error = error
            raise

    def response_received(self) -> None:
        """Let another item go."""
        if self._slots is not None:
            self._slots.release()

    def close(self) -> None:
        """Stop reading the items, also where a thread waits for a free slot."""
        self._closed = True
        self.response_received()


class AsyncRequestStream(Generic[Item, Message]):
    """As `RequestStream`, in an event loop: items are read in the loop and converted in a thread."""

    def __init__(self, items: Iterable[Item], to_message: Callable[[Item], Message], window: int) -> None:
        self._items = items
        self._to_message = to_message
        self._slots = asyncio.Semaphore(_checked(window))
        self.error: Exception | None = None

    async def messages(self) -> AsyncIterator[Message]:
        """Yield the items as messages; keep and raise what reading them raises."""
        try:
            for item in self._items:
                await self._slots.acquire()
                yield await asyncio.to_thread(self._to_message, item)
        except Exception as error:
            self.error = error
            raise

    def response_received(self) -> None:
        """Let another item go."""
        self._slots.release()


@contextmanager
def stream_errors(stream: RequestStream[Any, Any] | AsyncRequestStream[Any, Any]) -> Iterator[None]:
    """Turn a broken stream into what reading the items raised, or else into a `LookalikeError`."""
    try:
        yield
    except grpc.RpcError as error:
        raise (stream.error or from_rpc_error(error)) from error
    except asyncio.CancelledError:
        # grpc.aio cancels the call, not the task, when the items raise
        if stream.error is None:
            raise
        raise stream.error from None


def _checked(window: int) -> int:
    if window < 1:
        raise ValueError(f"window must be 1 or more, not {window}")
    return window
