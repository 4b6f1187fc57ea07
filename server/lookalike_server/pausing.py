"""Work in a thread beside an event loop, which is not to wait for it.

A thread that computes gives the interpreter up every 5 ms only (`sys.getswitchinterval`), and the event loop would wait
so long for it, again and again.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from typing import TypeVar

T = TypeVar("T")

WORK_SECONDS = 0.0005
"""After which a pause is due."""

_PAUSE_SECONDS = 1e-5  # long enough for a thread that waits for the interpreter to get it


def pausing(items: Iterable[T]) -> Iterator[T]:
    """Yield the items, with a pause behind each before which making and using them took a while."""
    begun = time.perf_counter()
    for item in items:
        yield item
        if time.perf_counter() - begun > WORK_SECONDS:
            time.sleep(_PAUSE_SECONDS)
            begun = time.perf_counter()
