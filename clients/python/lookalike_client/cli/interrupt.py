"""Ctrl-C for commands that print a report or remove files after it."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from types import FrameType


@contextmanager
def on_interrupt(handler: Callable[[int, FrameType | None], object]) -> Iterator[None]:
    """Handle Ctrl-C until the block ends, unless the process was started with it ignored."""
    before = signal.getsignal(signal.SIGINT)
    if before is signal.SIG_IGN or threading.current_thread() is not threading.main_thread():
        yield
        return
    signal.signal(signal.SIGINT, handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def interruptible() -> AbstractContextManager[None]:
    """Have Ctrl-C cancel what `asyncio.run` runs instead of ending the process."""
    return on_interrupt(signal.default_int_handler)
