"""How long threads waited for a processor, from Linux's /proc; elsewhere no wait is known of."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path

_THREADS = Path("/proc/self/task")


class WaitedSeconds:
    """The seconds for which a thread was ready to run and did not, since it began.

    The kernel adds a wait once it is over, so one that is not is found by looking twice: ready, and not run meanwhile.
    """

    def __init__(self, path: Callable[[], str]) -> None:
        """Look at the thread of this path: /proc/PID (the main thread) or /proc/self/task/TID."""
        self._path = path
        self._counts: tuple[int, int] | None = None
        self._ready_since = 0.0

    def __call__(self) -> float:
        """Return them."""
        path, now = self._path(), time.monotonic()
        ran, waited, turns = _schedstat(path)
        if _state(path) != "R" or self._counts != (ran, turns):
            self._counts, self._ready_since = (ran, turns), now
        return waited / 1e9 + now - self._ready_since


def _schedstat(path: str) -> tuple[int, int, int]:
    """Return the nanoseconds that a thread ran and waited for, and how many times it was given a processor."""
    try:
        with open(f"{path}/schedstat", "rb", buffering=0) as file:  # noqa: PTH123 - read many times a second
            ran, waited, turns = map(int, file.read(128).split())
            return ran, waited, turns
    except (OSError, ValueError):  # it has ended, or this kernel does not count
        return 0, 0, 0


def is_stopped(pid: int) -> bool:
    """Whether a process was stopped, by SIGSTOP for instance, or by a debugger."""
    return _state(f"/proc/{pid}") in "Tt"


class ModelThreads:
    """The threads of this process that run the model, from when this was made on.

    They are those of lower priority (`lookalike_server.priority`), or all where there are none.
    """

    def __init__(self) -> None:
        """Remember how long each has waited until now."""
        self._since = time.monotonic()
        self._threads = _lowered(_thread_ids())
        self._waits = [WaitedSeconds(partial(str, _THREADS / str(thread))) for thread in self._threads]
        self._before = [wait() for wait in self._waits]

    def starved_share(self) -> float:
        """Return the share of the time since then for which the one that waited longest had no processor or disk."""
        seconds = time.monotonic() - self._since
        waits = [wait() - before for wait, before in zip(self._waits, self._before, strict=True)]
        if any(_state(f"{_THREADS}/{thread}") == "D" for thread in self._threads):
            return 1.0  # it reads from the disk: pages of the model that were swapped out
        return max(waits, default=0.0) / seconds if seconds else 0.0


def _thread_ids() -> list[int]:
    try:
        return [int(thread) for thread in os.listdir(_THREADS)]  # noqa: PTH208 - names are all that is wanted
    except OSError:
        return []


def _lowered(threads: list[int]) -> list[int]:
    """Return the threads whose priority was lowered, or all."""
    nice = {}
    for thread in threads:
        with suppress(OSError):  # it has just ended
            nice[thread] = os.getpriority(os.PRIO_PROCESS, thread)
    usual = min(nice.values(), default=0)
    return [thread for thread, value in nice.items() if value > usual] or threads


def _state(path: str) -> str:
    """Return the state of a process or thread ("R", "S", "D", "T", ...); "?" where it is not known."""
    try:
        with open(f"{path}/stat", "rb", buffering=0) as file:  # noqa: PTH123 - as above
            return file.read(512).rpartition(b")")[2].split()[0].decode()
    except (OSError, IndexError):
        return "?"
