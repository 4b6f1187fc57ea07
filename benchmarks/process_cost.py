"""What one thing costs a process that is otherwise idle: its peak memory and its processor time, from outside."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

_PEAK, _NOW = "VmHWM", "VmRSS"
_RESET_PEAK = "5"  # proc(5), /proc/PID/clear_refs: set the peak to what is resident now
_SCHEDULED_CLOCK = 2  # clock_getcpuclockid(3) in Linux: the processor time of a process by its scheduler, in ns
_WINDOW_S = 0.1
_REST = 0.05  # of a core over a window: less than this is rest


@dataclass(frozen=True, slots=True)
class Cost:
    """What a process and its children used.

    Attributes:
        peak_bytes: The most memory above what was resident before, each process at its own peak.
        left_bytes: Memory above that when it was idle again.
        processor_seconds: User and system time of all threads.
    """

    peak_bytes: int
    left_bytes: int
    processor_seconds: float


def cost_of(pids: Sequence[int], do: Callable[[], None], settle_s: float) -> Cost:
    """Return what something costs idle processes, until they are idle again or the time is up.

    Args:
        pids: The processes; those that end meanwhile are not counted.
        do: Does it, and returns when it is done as seen by the caller.
        settle_s: How long at most to wait before and after it for the processes to be idle, in seconds.
    """
    wait_until_idle(pids, settle_s)
    for pid in pids:
        Path(f"/proc/{pid}/clear_refs").write_text(_RESET_PEAK, encoding="ascii")
    resident, used = {pid: _memory(pid, _NOW) for pid in pids}, {pid: processor_clock(pid) for pid in pids}
    do()
    wait_until_idle(pids, settle_s)
    peak = left = 0
    seconds = 0.0
    for pid in pids:
        with suppress(OSError):
            peak += max(0, _memory(pid, _PEAK) - resident[pid])
            left += max(0, _memory(pid, _NOW) - resident[pid])
            seconds += processor_clock(pid) - used[pid]
    return Cost(peak, left, seconds)


def wait_until_idle(pids: Sequence[int], seconds: float) -> bool:
    """Wait until the processes rest in two windows of a tenth of a second; return whether they did within the time."""
    until, quiet = time.monotonic() + seconds, 0
    while quiet < 2:
        if time.monotonic() > until:
            return False
        before = _all(pids)
        time.sleep(_WINDOW_S)
        quiet = quiet + 1 if _all(pids) - before < _REST * _WINDOW_S else 0
    return True


def processor_clock(pid: int) -> float:
    """Return the processor time of a process, its threads included, in seconds to the nanosecond.

    Raises:
        OSError: The process has ended.
    """
    return time.clock_gettime((~pid << 3) | _SCHEDULED_CLOCK)


def _all(pids: Sequence[int]) -> float:
    total = 0.0
    for pid in pids:
        with suppress(OSError):
            total += processor_clock(pid)
    return total


def _memory(pid: int, name: str) -> int:
    status = Path(f"/proc/{pid}/status").read_text(encoding="utf-8")
    line = next((line for line in status.splitlines() if line.startswith(f"{name}:")), None)
    if line is None:
        raise ProcessLookupError(pid)  # a zombie has no memory
    return int(line.split()[1]) * 1024


def is_alive(pid: int) -> bool:
    """Return whether a process is there, and not a zombie."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return False
    return stat.rpartition(")")[2].split()[0] != "Z"
