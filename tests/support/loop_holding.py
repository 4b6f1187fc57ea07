"""How long a thread keeps the event loop from running, in processor time of that thread."""

from __future__ import annotations

import asyncio
import sys
import threading
import time
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

_NEVER = 3600.0  # seconds: longer than any test


@dataclass(frozen=True, slots=True)
class Held:
    """What a thread spent, in seconds of its processor time.

    Attributes:
        longest: The most between two turns of the event loop, which wanted to run all the while.
        total: All of it.
    """

    longest: float
    total: float


@contextmanager
def without_preemption() -> Iterator[None]:
    """Let no thread take the interpreter from another one: each runs until it pauses by itself."""
    interval = sys.getswitchinterval()
    sys.setswitchinterval(_NEVER)
    try:
        yield
    finally:
        sys.setswitchinterval(interval)


async def held_by(name: str, work: Coroutine[Any, Any, Any]) -> Held:
    """Await what a thread does, with an event loop that is always busy, and return what it took of its time.

    Not the clock's time, which grows while others have the processor.

    Args:
        name: How the thread's name begins; it has been started.
        work: What to await.
    """
    (thread,) = (each for each in threading.enumerate() if each.name.startswith(name))
    assert thread.ident is not None
    clock = time.pthread_getcpuclockid(thread.ident)
    task = asyncio.create_task(work)
    begun = before = time.clock_gettime(clock)
    longest = 0.0
    while not task.done():
        await asyncio.sleep(0)
        now = time.clock_gettime(clock)
        longest, before = max(longest, now - before), now
    await task
    return Held(longest, before - begun)
