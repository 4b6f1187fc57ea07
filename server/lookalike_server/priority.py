"""The priority of threads, for all that runs beside the threads that take calls."""

from __future__ import annotations

import os
import threading

_MAX_NICE = 19


def lower_priority(nice: int) -> None:
    """Give the calling thread, and those that it starts, a nice value of `nice` above the process's own.

    Never raises a priority, and never fails: a process that was started with `nice -n 10` may go on from there, but
    only a privileged one may go back. Lowering a thread twice is the same as lowering it once by the larger value.

    Only on Linux, which has a nice value per thread; elsewhere it belongs to the process and is left alone.

    Args:
        nice: By how much, 0 or more; the sum is at most 19, which is Linux's largest.
    """
    if nice and hasattr(os, "sched_getaffinity"):
        thread = threading.get_native_id()
        current = os.getpriority(os.PRIO_PROCESS, thread)
        wanted = min(_MAX_NICE, os.getpriority(os.PRIO_PROCESS, os.getpid()) + nice)
        if wanted > current:
            os.setpriority(os.PRIO_PROCESS, thread, wanted)
