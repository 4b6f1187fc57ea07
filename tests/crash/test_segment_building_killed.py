"""A kill at each step of building a segment: before each call on graph files, and on the WAL of their manifest.

By default one or two calls of each kind are tested; with CRASH_STRIDE=1 all.
"""

from __future__ import annotations

import asyncio
import signal
from pathlib import Path

import pytest

from crash.graphs import UNUSABLE, GraphCatalog
from crash.segment_building import COMMIT_CALLS, FILE_CALLS, OF_ROWS, build, sweep
from crash.tracing import Fault, need_strace

pytestmark = pytest.mark.slow


async def _faults_after(unbuilt: GraphCatalog, at: Path, calls: str, nth: int, *bugs: str) -> list[str] | None:
    """What is wrong after a kill before the nth call; None if there was no such call."""
    run = await build(unbuilt, at, Fault(calls, "SIGKILL"), nth, *bugs)
    if run.status == 0:
        return None
    assert run.status in (None, -signal.SIGKILL), run
    assert any("killed by SIGKILL" in line for line in run.trace), run.wrong
    return await run.catalog.faults()


@pytest.mark.parametrize("calls", FILE_CALLS + COMMIT_CALLS)
def test_a_kill_at_any_step_loses_nothing(tmp_path: Path, unbuilt: GraphCatalog, calls: str) -> None:
    """After each kill the catalog is complete, no damaged file is trusted, and no other file is left."""
    need_strace(tmp_path / "strace.log")

    async def run() -> int:
        kills = 0
        for nth in sweep(calls):
            faults = await _faults_after(unbuilt, tmp_path, calls, nth)
            if faults is None:
                return kills
            assert faults == [], nth
            kills += 1
        return kills

    assert asyncio.run(run()) > 0


def test_the_suite_notices_a_manifest_that_is_committed_first(tmp_path: Path, unbuilt: GraphCatalog) -> None:
    """The control: if the manifest is committed before the file is written, a kill leaves a damaged trusted file."""
    need_strace(tmp_path / "strace.log")
    faults = asyncio.run(_faults_after(unbuilt, tmp_path, "write", 2, "early-manifest"))
    assert faults
    assert any(UNUSABLE in fault for fault in faults), faults


@pytest.mark.parametrize(("calls", "nth"), OF_ROWS)
def test_a_kill_while_rows_are_saved_loses_nothing(tmp_path: Path, unbuilt: GraphCatalog, calls: str, nth: int) -> None:
    """The same for rows that are saved beside graphs."""
    need_strace(tmp_path / "strace.log")
    assert asyncio.run(_faults_after(unbuilt, tmp_path, calls, nth, "rows-of-any-size")) == []
