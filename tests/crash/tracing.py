"""System calls of a running server that fail on request, by strace.

strace counts the calls of each thread and of each name separately, from the moment it is attached.
"""

from __future__ import annotations

import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest


@dataclass(frozen=True)
class Fault:
    """How calls fail: the names of the calls, and the error (or deadly signal) that replaces their effect."""

    calls: str
    error: str

    @property
    def deadly(self) -> bool:
        """Whether the process is killed before the call."""
        return self.error.startswith("SIG")

    def __str__(self) -> str:
        return f"{self.calls}:{self.error}"


@dataclass(frozen=True)
class Injection:
    """The nth such call of each thread on one of the paths (empty: any) fails; strace logs it."""

    fault: Fault
    nth: int
    paths: Sequence[Path]
    log: Path

    def command(self, pid: int) -> list[str]:
        """Return the strace command for a process."""
        at = [word for path in self.paths for word in ("-P", str(path))]
        kind = "signal" if self.fault.deadly else "error"
        inject = f"inject={self.fault.calls}:{kind}={self.fault.error}:when={self.nth}"
        return ["strace", "-f", "-y", "-o", str(self.log), *at, f"-etrace={self.fault.calls}", "-e", inject, f"-p{pid}"]

    def from_the_start(self, server: tuple[str, ...] = ("serve",)) -> tuple[str, ...]:
        """Return the command of a server whose calls fail from the start; `server` may be a script with arguments."""
        # Without the process: the server adds itself.
        strace = self.command(0)[:-1]
        return (sys.executable, str(Path(__file__).with_name("under_strace.py")), *strace, "--", *server)

    def struck(self) -> list[str]:
        """Return the calls that failed by it, once strace has detached."""
        return [line for line in self.log.read_text(errors="replace").splitlines() if "(INJECTED)" in line]


@contextmanager
def failing(pid: int, injection: Injection) -> Iterator[None]:
    """Let calls of this process fail until the end of the block."""
    tracer = subprocess.Popen(injection.command(pid), stderr=subprocess.PIPE)
    assert tracer.stderr is not None
    try:
        line = tracer.stderr.readline().decode()
        assert "attached" in line, line
        yield
    finally:
        tracer.send_signal(signal.SIGINT)  # it detaches from the process
        tracer.wait(60)
        tracer.stderr.close()


def need_strace(log: Path) -> None:
    """Skip the test if strace is missing or may not trace a process."""
    if shutil.which("strace") is None:
        pytest.skip("strace is not installed")
    with subprocess.Popen(["cat"], stdin=subprocess.PIPE) as process:
        try:
            with failing(process.pid, Injection(Fault("fsync", "EIO"), 1, (), log)):
                pass
        except AssertionError as error:
            pytest.skip(f"strace cannot be used here: {error}")
