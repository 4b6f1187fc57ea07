"""Every write, sync and rename of the server fails once, in turn, until a run has no such call left.

Each step of the server's life is swept for each kind of fault: the first such call fails, then the second, and so on.
By default some pairs of step and fault are tested, with one call in CRASH_STRIDE; CRASH_STRIDE=1 tests all pairs and
calls.
"""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path

import grpc
import pytest

from crash.catalog import Catalog
from crash.shop import Rejected
from crash.tracing import Fault, Injection, failing, need_strace
from crash.variants import variant
from support.processes import SERVE

pytestmark = pytest.mark.slow

STRIDE = int(os.environ.get("CRASH_STRIDE", "29"))
LIMIT = 2000
"""More than the calls of any step: a sweep must end before."""

SYNC = Fault("fsync,fdatasync", "EIO")
WRITE = Fault("pwrite64,write", "EIO")
NO_SPACE = Fault("pwrite64,write", "ENOSPC")
OTHERS = Fault("ftruncate,rename,renameat,renameat2,unlink", "EIO")
FAULTS = (SYNC, WRITE, NO_SPACE, OTHERS)

SMALL_WAL = variant("small-wal")

CODES = {"EIO": grpc.StatusCode.INTERNAL, "ENOSPC": grpc.StatusCode.RESOURCE_EXHAUSTED}


def paths(folder: Path, fault: Fault) -> list[Path]:
    """Return the files whose calls fail; none means all, also those of the index, whose names are random."""
    if fault in (SYNC, OTHERS):
        return []
    # Not all writes: sockets are written too.
    names = ("catalog.sqlite", "catalog.sqlite-wal", "catalog.sqlite-shm", "catalog.sqlite-journal", "lock")
    return [folder / name for name in names]


class Trial:
    """One catalog under one kind of fault; each step returns the calls that failed, and records what was wrong."""

    def __init__(self, folder: Path, fault: Fault) -> None:
        self._folder = folder
        self._fault = fault
        self._log = folder / "strace.log"
        self._catalog = Catalog(folder / "data", seed=1, writers=1)
        self.rejected = 0
        self.wrong: list[str] = []

    def _injection(self, nth: int) -> Injection:
        return Injection(self._fault, nth, paths(self._catalog.folder, self._fault), self._log)

    async def create(self, nth: int) -> list[str]:
        """Calls fail while a catalog is created and first written."""
        self._catalog = Catalog(self._folder / f"data-{nth}", seed=nth, writers=1)
        return await self.start(nth)

    async def start(self, nth: int) -> list[str]:
        """Calls fail while a catalog is opened after a crash, and written again."""
        injection = self._injection(nth)
        try:
            with self._catalog.served(injection.from_the_start()) as server:
                self._record(await self._catalog.change(server, 3))
                self.wrong += await self._catalog.faults_of(server, crashed=False)
        except AssertionError as error:
            self._check_end(str(error))
        self.wrong += await self._catalog.faults()
        return injection.struck()

    async def write(self, nth: int, command: tuple[str, ...] = SERVE) -> list[str]:
        """Calls fail while products are written; afterwards the server works as before."""
        injection = self._injection(nth)
        # Without graphs only callers write, so that each failing call is one of theirs.
        with self._catalog.served(command, "--full-scan-threshold", "1000") as server:
            self.wrong += await self._catalog.faults_of(server, crashed=True)
            with failing(server.process.pid, injection):
                rejected = self._record(await self._catalog.change(server, 6))
            self.wrong += await self._catalog.faults_of(server, crashed=False)
            if await self._catalog.change(server, 2):
                self.wrong.append("writes are rejected although no call fails any more")
        struck = injection.struck()
        committing = [line for line in struck if "catalog.sqlite-wal>" in line]
        if command != SMALL_WAL and rejected < len(committing):  # too short for a checkpoint, so these were commits
            self.wrong.append(f"acknowledged although {committing}")
        return struck

    async def checkpoint(self, nth: int) -> list[str]:
        """The same, with a checkpoint every few writes."""
        return await self.write(nth, SMALL_WAL)

    async def stop(self, nth: int) -> list[str]:
        """Calls fail while the server ends and closes the catalog."""
        injection = self._injection(nth)
        with self._catalog.served() as server:
            self.wrong += await self._catalog.faults_of(server, crashed=True)
            self._record(await self._catalog.change(server, 3))
            with failing(server.process.pid, injection):
                if status := server.stop(signal.SIGTERM):
                    self.wrong.append(f"the server ended with status {status}")
        return injection.struck()

    async def finish(self) -> list[str]:
        """Return what was wrong at any time, and what is wrong now."""
        return self.wrong + await self._catalog.faults()

    def _record(self, rejections: Sequence[Rejected]) -> int:
        expected = CODES[self._fault.error]
        for rejected in rejections:
            if rejected.code is not expected:
                self.wrong.append(f"{rejected}, should be {expected.name}")
        self.rejected += len(rejections)
        return len(rejections)

    def _check_end(self, log: str) -> None:
        last = log.strip().splitlines()[-1]
        if "Traceback" in log or not last.startswith("lookalike-server: ") or str(self._catalog.folder) not in last:
            self.wrong.append(f"the server does not say why it did not start: {log}")


Step = Callable[[Trial, int], Awaitable[list[str]]]
STEPS: tuple[Step, ...] = (Trial.create, Trial.start, Trial.write, Trial.checkpoint, Trial.stop)

SOME: tuple[tuple[Step, Fault], ...] = (
    (Trial.create, NO_SPACE),
    (Trial.start, SYNC),
    (Trial.write, SYNC),
    (Trial.write, NO_SPACE),
    (Trial.checkpoint, WRITE),
    (Trial.stop, SYNC),
)
ALL = tuple((step, fault) for step in STEPS for fault in FAULTS)


async def _sweep(trial: Trial, step: Step, stride: int) -> int:
    """Run the step with one call after another failing, until none fails; return how many failed."""
    total = 0
    for nth in range(1, LIMIT, stride):
        struck = await step(trial, nth)
        if not struck:
            return total
        total += len(struck)
    raise AssertionError(f"the step has more than {LIMIT} calls")


@pytest.mark.parametrize(
    ("step", "fault"), SOME if STRIDE > 1 else ALL, ids=lambda value: getattr(value, "__name__", str(value))
)
def test_a_failing_call_loses_nothing(tmp_path: Path, step: Step, fault: Fault) -> None:
    """Nothing is acknowledged that a failed call prevented, nothing acknowledged is lost, and the server continues."""
    need_strace(tmp_path / "strace.log")

    async def run() -> list[str]:
        trial = Trial(tmp_path, fault)
        total = await _sweep(trial, step, STRIDE)
        assert total > 0 or fault == OTHERS
        return await trial.finish()

    assert asyncio.run(run()) == []


def test_the_suite_notices_a_server_that_ignores_failed_commits(tmp_path: Path) -> None:
    """The control: a server that acknowledges although the commit failed is detected by the first failing sync."""
    need_strace(tmp_path / "strace.log")

    async def run() -> list[str]:
        trial = Trial(tmp_path, SYNC)
        assert await trial.write(1, variant("swallowed"))
        return trial.wrong

    assert asyncio.run(run())
