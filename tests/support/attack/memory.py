"""The memory of processes, from /proc."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

MIB = 1024 * 1024


@dataclass
class Growth:
    """What a process needed more while a block ran: bytes at the peak, and after it."""

    peak: int = 0
    kept: int = 0


@contextmanager
def growth(pid: int) -> Iterator[Growth]:
    """Measure by how much a process grows while the block runs."""
    proc = Path(f"/proc/{pid}")
    (proc / "clear_refs").write_text("5")  # resets VmHWM
    before = _status(proc, "VmRSS")
    grown = Growth()
    try:
        yield grown
    finally:
        if (proc / "status").exists():
            grown.peak = _status(proc, "VmHWM") - before
            grown.kept = _status(proc, "VmRSS") - before


def _status(proc: Path, name: str) -> int:
    for line in (proc / "status").read_text().splitlines():
        if line.startswith(f"{name}:"):
            return int(line.split()[1]) * 1024
    raise AssertionError(f"{name} is not in {proc}/status: the process has ended")
