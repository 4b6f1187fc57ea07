"""The last beats of a supervisor's processes, in memory that all of them share.

Memory and not messages: a process that is late sees the newest beat and no queue of old ones, a stopped one fills no
buffer, and a beat is a store.
"""

from __future__ import annotations

import mmap
import time

from lookalike_server.rpc.readiness import Readiness

SUPERVISOR, ENGINE = 0, 1
"""The slots of the supervisor and of the engine process; those of the frontends follow."""

_BEAT, _PID, _HUNG, _DAMAGED, _READINESS = range(5)
_FIELDS = 5


class Beats:
    """One slot for each process: its last beat, its pid, whether it hangs or its catalog is damaged, and its readiness.

    Made before the processes are forked. Each field is 8 bytes that are stored at once, so nobody reads half of one.
    """

    def __init__(self, slots: int) -> None:
        """Have so many slots."""
        self._fields = memoryview(mmap.mmap(-1, slots * _FIELDS * 8)).cast("d")

    def start(self, slot: int, pid: int) -> None:
        """Begin a process: as if it had just beaten."""
        at = slot * _FIELDS
        self._fields[at + _PID], self._fields[at + _HUNG], self._fields[at + _DAMAGED] = pid, 0.0, 0.0
        self._fields[at + _READINESS] = Readiness.STARTING
        self._fields[at + _BEAT] = time.monotonic()

    def beat(self, slot: int) -> None:
        """Beat; the process' event loop calls it."""
        self._fields[slot * _FIELDS + _BEAT] = time.monotonic()

    def report_hang(self, slot: int, hung: bool) -> None:
        """Report that a process' event loop runs but something else in it hangs, or no longer does."""
        self._fields[slot * _FIELDS + _HUNG] = hung

    def report_damage(self, slot: int) -> None:
        """Report that the catalog of a process is damaged."""
        self._fields[slot * _FIELDS + _DAMAGED] = True

    def report_readiness(self, slot: int, readiness: Readiness) -> None:
        """Report what a process' health says from now on."""
        self._fields[slot * _FIELDS + _READINESS] = readiness

    def last(self, slot: int) -> float:
        """Return when the process last beat, in seconds of CLOCK_MONOTONIC."""
        return self._fields[slot * _FIELDS + _BEAT]

    def pid(self, slot: int) -> int:
        """Return the pid of the process; 0 before the first one."""
        return int(self._fields[slot * _FIELDS + _PID])

    def is_hung(self, slot: int) -> bool:
        """Whether the process says that it hangs."""
        return bool(self._fields[slot * _FIELDS + _HUNG])

    def is_damaged(self, slot: int) -> bool:
        """Whether the process says that its catalog is damaged."""
        return bool(self._fields[slot * _FIELDS + _DAMAGED])

    def readiness(self, slot: int) -> Readiness:
        """Return what the process' health says."""
        return Readiness(int(self._fields[slot * _FIELDS + _READINESS]))
