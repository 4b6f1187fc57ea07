"""Logs an event loop that stalls, with the stack that holds it."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable
from types import FrameType
from typing import Any

import structlog

from lookalike_server.watchdog.silence import BEAT_SECONDS

STALL_SECONDS = 0.25 + BEAT_SECONDS
"""A silence from which a loop has certainly stalled for 250 ms; a stall may begin right after a beat."""

_LINE_SECONDS = 1.0
_FRAMES = 16
_IDLE_FILES = ("threading.py", "concurrent/futures/thread.py", "selectors.py", "queue.py")


class StallLog:
    """Logs stalls, at most one line a second; those between two lines are counted."""

    def __init__(self, thread: int, clock: Callable[[], float] = time.monotonic) -> None:
        """Look at the stack of this thread (`threading.get_ident`)."""
        self._thread = thread
        self._clock = clock
        self._next_line = clock()
        self._stalled = False
        self._stalls = 0
        self._last: dict[str, Any] | None = None

    def look(self, silence: float) -> None:
        """Log, if the loop has been silent for too long."""
        stalled = silence > STALL_SECONDS
        if not stalled and not self._stalls:
            self._stalled = False
            return
        now = self._clock()
        if stalled and not self._stalled:
            self._stalls += 1
        if stalled and (not self._stalled or now >= self._next_line):
            self._last = {
                "ms": round(silence * 1e3),
                "frames": stack(self._thread),
                "other_threads": busy_threads(self._thread),
            }
        self._stalled = stalled
        if self._last is not None and now >= self._next_line:
            structlog.get_logger().warning("event_loop_stalled", stalls=max(1, self._stalls), **self._last)
            self._next_line, self._stalls, self._last = now + _LINE_SECONDS, 0, None


def stack(thread: int) -> list[str]:
    """Return a thread's innermost frames, outermost first, as `FILE:LINE FUNCTION`; never a value of theirs."""
    frames: list[str] = []
    frame: FrameType | None = sys._current_frames().get(thread)  # noqa: SLF001 - documented, for debuggers
    while frame is not None and len(frames) < _FRAMES:
        frames.append(_line(frame))
        frame = frame.f_back
    return frames[::-1]


def busy_threads(thread: int) -> list[str]:
    """Return the innermost frame of each thread that may hold the interpreter's lock: not this one, the caller or idle.

    Where the stack of a loop that stalled is the one it waits for events with, one of these held the lock.
    """
    return [
        _line(frame)
        for each, frame in sys._current_frames().items()  # noqa: SLF001 - as above
        if each not in (thread, threading.get_ident()) and not frame.f_code.co_filename.endswith(_IDLE_FILES)
    ]


def _line(frame: FrameType) -> str:
    file = "/".join(frame.f_code.co_filename.rsplit("/", 3)[-3:])
    return f"{file}:{frame.f_lineno} {frame.f_code.co_qualname}"
