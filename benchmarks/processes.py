"""The processes of the benchmark: started in a session of their own, waited for, and ended by their ids."""

from __future__ import annotations

import os
import queue
import signal
import socket
import subprocess
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from benchmarks.environment import ROOT

STOP_SECONDS = 15.0


class StartError(Exception):
    """A server that did not start; the message says why."""


class ServerProcess:
    """A started process whose output is read, so that it never blocks on a full pipe.

    It has a session of its own: Ctrl-C reaches the benchmark alone, which then ends every process in order.
    """

    def __init__(self, command: Sequence[str], environment: Mapping[str, str]) -> None:
        self.process = subprocess.Popen(
            command,
            cwd=ROOT,
            env=os.environ | environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        self._tail: deque[str] = deque(maxlen=30)
        self._lines: queue.Queue[str | None] = queue.Queue()
        threading.Thread(target=self._read, daemon=True).start()

    def wait_for(self, ready: Callable[[str], str | None], seconds: float) -> str:
        """Wait for a line of which `ready` makes something, and return that.

        Raises:
            StartError: The process ends first, or the time is up.
        """
        limit = time.monotonic() + seconds
        while True:
            try:
                line = self._lines.get(timeout=max(0.0, limit - time.monotonic()))
            except queue.Empty:
                raise StartError(f"not ready within {seconds:.0f} s; its output: {self.tail()}") from None
            if line is None:
                raise StartError(f"ended with status {self.process.wait()}; its output: {self.tail()}")
            if (found := ready(line)) is not None:
                return found

    def lines(self) -> list[str]:
        """Return what it has written since the last call, or since what was waited for."""
        found: list[str] = []
        with suppress(queue.Empty):
            while (line := self._lines.get_nowait()) is not None:
                found.append(line)
        return found

    def tail(self) -> str:
        """Return the last lines that it wrote."""
        return " | ".join(self._tail)[-1500:]

    def processes(self) -> list[int]:
        """Return its id and those of all its descendants."""
        return process_tree(self.process.pid)

    def stop(self) -> None:
        """End it, with SIGTERM first, and then whatever it started and left behind."""
        children = list(_descendants(self.process.pid))
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            with suppress(subprocess.TimeoutExpired):
                self.process.wait(STOP_SECONDS)
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        for pid, born in children:
            if _born(pid) == born:  # the same process still, not another one with its number
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)

    def _read(self) -> None:
        assert self.process.stdout is not None  # noqa: S101 - it was started with a pipe
        for raw in self.process.stdout:
            line = raw.decode(errors="replace").rstrip()
            self._tail.append(line)
            self._lines.put(line)
        self._lines.put(None)


def process_tree(pid: int) -> list[int]:
    """Return a process's id and those of all its descendants."""
    return [pid, *(below for below, _ in _descendants(pid))]


@contextmanager
def serving(command: Sequence[str], environment: Mapping[str, str] | None = None) -> Iterator[ServerProcess]:
    """Run a process for as long as the block runs."""
    server = ServerProcess(command, environment or {})
    try:
        yield server
    finally:
        server.stop()


def free_port() -> int:
    """Return a free port of the loopback interface, for servers that cannot report which one they took."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _descendants(pid: int) -> Iterator[tuple[int, int]]:
    """Yield every descendant, with the moment it was started (clock ticks since boot)."""
    parents: dict[int, list[int]] = {}
    for entry in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            parents.setdefault(int(_stat(entry)[1]), []).append(int(entry.parent.name))
    below = list(parents.get(pid, ()))
    while below:
        child = below.pop()
        below += parents.get(child, ())
        if (born := _born(child)) is not None:
            yield child, born


def _born(pid: int) -> int | None:
    try:
        return int(_stat(Path(f"/proc/{pid}/stat"))[19])
    except OSError:
        return None


def _stat(path: Path) -> list[str]:
    """Return the fields after the name, which may hold spaces: state, parent, ..."""
    return path.read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
