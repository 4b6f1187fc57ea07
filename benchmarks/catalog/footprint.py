"""What a process uses: memory by kind, processor time, SQLite's count of transactions; all from outside."""

from __future__ import annotations

import os
import struct
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

_CHANGE_AT = 8  # in a WAL index's header: the number that every transaction raises by one
_TICKS = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True, slots=True)
class Memory:
    """Bytes of a process that are in memory (RSS).

    Attributes:
        anonymous: Its own memory.
        file: Pages of files that it maps, and of shared memory: the kernel may take those of files back. Libraries are
            counted in full, however many processes share them, so they vanish from a difference.
        proportional: All of it with shared pages counted in shares (PSS), for comparison.
    """

    anonymous: int
    file: int
    proportional: int

    @property
    def total(self) -> int:
        """RSS."""
        return self.anonymous + self.file


def memory(pid: int) -> Memory:
    """Return the memory of a process, from /proc/PID/status and smaps_rollup."""
    kib: dict[str, int] = {}
    for file in ("status", "smaps_rollup"):
        for line in Path(f"/proc/{pid}/{file}").read_text(encoding="utf-8").splitlines():
            name, value, unit = (*line.split(), "", "")[:3]
            if unit == "kB":
                kib[name.rstrip(":")] = int(value)
    return Memory(1024 * kib["RssAnon"], 1024 * (kib["RssFile"] + kib["RssShmem"]), 1024 * kib["Pss"])


def processor_seconds(pid: int) -> float:
    """Return the processor time that a process has used so far, its threads included."""
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS


def transactions(catalog: Path) -> int | None:
    """Return SQLite's count of the transactions committed to a file in WAL mode; None without a WAL index file."""
    with suppress(OSError, struct.error):
        header = catalog.with_name(f"{catalog.name}-shm").read_bytes()[: _CHANGE_AT + 4]
        count: int = struct.unpack_from("=I", header, _CHANGE_AT)[0]
        return count
    return None
