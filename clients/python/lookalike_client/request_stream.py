"""Hands a caller's items over to a stream, and keeps what went wrong: gRPC itself would only say that something did."""

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


class Handover(Generic[Item, Message]):
    """The items of one stream, each made a message when its turn comes.

    Args:
        items: What to send; read as it is needed.
        to_message: Makes an item a message, reading its file if it has one.
        window: Items that may be sent and not yet answered; None leaves it to the server how many it takes.

    Attributes:
        failure: What reading the items raised; None as long as nothing did.
    """

    def __init__(self, items: Iterable[Item], to_message: Callable[[Item], Message], window: int | None = None) -> None:
        self._items = items
        self._to_message = to_message
        self._room = None if window is None else threading.Semaphore(window)
        self._over = False
        self.failure: Exception | None = None

    def messages(self) -> Iterator[Message]:
        """The items as messages, for a thread of gRPC; raises what reading them raises, and keeps it."""
        try:
            for item in self._items:
                if not self._has_room():
                    return
                yield self._to_message(item)
        except Exception as error:
            self.failure = error
            raise

    def _has_room(self) -> bool:
        if self._room is not None:
            self._room.acquire()
        return not self._over

    def answered(self) -> None:
        """An answer was taken, so another item may go."""
        if self._room is not None:
            self._room.release()

    def end(self) -> None:
        """The stream is over: nothing more is read, and whoever waits for room stops."""
        self._over = True
        self.answered()


class AsyncHandover(Generic[Item, Message]):
    """The same in an event loop: items are taken from the iterable in the loop, and made messages in a thread."""

    def __init__(self, items: Iterable[Item], to_message: Callable[[Item], Message], window: int) -> None:
        self._items = items
        self._to_message = to_message
        self._room = asyncio.Semaphore(window)
        self.failure: Exception | None = None

    async def messages(self) -> AsyncIterator[Message]:
        """The items as messages; raises what reading them raises, and keeps it."""
        try:
            for item in self._items:
                await self._room.acquire()
                yield await asyncio.to_thread(self._to_message, item)
        except Exception as error:
            self.failure = error
            raise

    def answered(self) -> None:
        """An answer was taken, so another item may go."""
        self._room.release()


@contextmanager
def told(handover: Handover[Any, Any] | AsyncHandover[Any, Any]) -> Iterator[None]:
    """Raise what reading the items raised where a stream breaks of it, and else the server's error in our words."""
    try:
        yield
    except grpc.RpcError as error:
        raise (handover.failure or from_rpc_error(error)) from error
    except asyncio.CancelledError:
        # grpc.aio cancels the call, not the task, when the items raise
        if handover.failure is None:
            raise
        raise handover.failure from None


def at_least_one(window: int) -> int:
    """The window.

    Raises:
        ValueError: Nothing would ever fit through it.
    """
    if window < 1:
        raise ValueError(f"window must be 1 or more, not {window}")
    return window
