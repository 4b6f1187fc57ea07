"""A kill at each step of sealing: before each call on the graphs' files, and on the log that commits their manifest.

Before a call is after the one before it. `make test` takes one or two of each kind, `make test-crash` all.
"""

from __future__ import annotations

import asyncio
import signal
from pathlib import Path

import pytest

from crash.graphs import UNUSABLE, GraphCatalog
from crash.segment_building import COMMIT_CALLS, FILE_CALLS, seal, sweep
from crash.tracing import Fault, need_strace


async def _faults_after(unsealed: GraphCatalog, at: Path, calls: str, nth: int, *bugs: str) -> list[str] | None:
    """What was wrong after a kill before the nth call; None where there was no such call."""
    sealed = await seal(unsealed, at, Fault(calls, "SIGKILL"), nth, *bugs)
    if sealed.status == 0:
        return None
    assert sealed.status in (None, -signal.SIGKILL), sealed
    assert any("killed by SIGKILL" in line for line in sealed.trace), sealed.wrong
    return await sealed.catalog.faults()


@pytest.mark.parametrize("calls", FILE_CALLS + COMMIT_CALLS)
def test_a_kill_at_any_step_of_sealing_loses_nothing(tmp_path: Path, unsealed: GraphCatalog, calls: str) -> None:
    """After each kill all is there and right, no damaged file is vouched for, and no other file is left."""
    need_strace(tmp_path / "strace.log")

    async def run() -> int:
        kills = 0
        for nth in sweep(calls):
            faults = await _faults_after(unsealed, tmp_path, calls, nth)
            if faults is None:
                return kills
            assert faults == [], nth
            kills += 1
        return kills

    assert asyncio.run(run()) > 0


def test_the_suite_notices_a_manifest_that_names_what_is_not_written(tmp_path: Path, unsealed: GraphCatalog) -> None:
    """The control: with the manifest committed first, a kill leaves a file that is vouched for and not whole."""
    need_strace(tmp_path / "strace.log")
    faults = asyncio.run(_faults_after(unsealed, tmp_path, "write", 20, "early-manifest"))
    assert faults
    assert any(UNUSABLE in fault for fault in faults), faults
