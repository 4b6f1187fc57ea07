"""How long threads waited for a processor, from Linux's /proc; elsewhere no wait is known of."""

from __future__ import annotations

import os
import time
from contextlib import suppress
from pathlib import Path

_THREADS = Path("/proc/self/task")


def waited_seconds(path: str) -> float:
    """Return the seconds that a thread was ready to run and did not, since it began.

    Args:
        path: /proc/PID (the main thread) or /proc/self/task/TID.
    """
    try:
        with open(f"{path}/schedstat", "rb", buffering=0) as file:  # noqa: PTH123 - read many times a second
            return int(file.read(128).split()[1]) / 1e9
    except (OSError, IndexError, ValueError):  # it has ended, or this kernel does not count
        return 0.0


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
        self._waited = {thread: waited_seconds(f"{_THREADS}/{thread}") for thread in _lowered(_thread_ids())}

    def starved_share(self) -> float:
        """Return the share of the time since then for which the one that waited longest had no processor or disk."""
        seconds = time.monotonic() - self._since
        waits = [waited_seconds(f"{_THREADS}/{thread}") - waited for thread, waited in self._waited.items()]
        if any(_state(f"{_THREADS}/{thread}") == "D" for thread in self._waited):
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
