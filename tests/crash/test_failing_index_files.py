"""Every open, write, sync, rename and delete of a graph file fails once, in turn: an error of a cache stops nothing.

By default one or two of each kind are tested; with CRASH_STRIDE=1 all, each with two errors.
"""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from crash.graphs import UNUSABLE, GraphCatalog
from crash.segment_building import ALL, FILE_CALLS, OF_ROWS, build, sweep
from crash.tracing import Fault, need_strace

pytestmark = pytest.mark.slow

FAULTS = [Fault(calls, error) for calls in FILE_CALLS for error in ("EIO", "ENOSPC") if ALL or error == "EIO"]


async def _wrong(unbuilt: GraphCatalog, at: Path, fault: Fault, nth: int, *bugs: str) -> list[str] | None:
    """What is wrong when the nth call fails, and at the next start; None if there was no such call."""
    run = await build(unbuilt, at, fault, nth, *bugs)
    struck = [line for line in run.trace if "(INJECTED)" in line]
    wrong = list(run.wrong)
    if run.status != 0:
        wrong.append(f"the server ended with status {run.status} after {struck}")
    if struck and not run.catalog.warned_of():
        wrong.append(f"the log has no warning about {struck}")
    wrong += await run.catalog.faults()
    return wrong if struck or wrong else None


@pytest.mark.parametrize("fault", FAULTS, ids=str)
def test_a_failing_call_costs_at_most_a_graph(tmp_path: Path, unbuilt: GraphCatalog, fault: Fault) -> None:
    """The server continues, searches are correct, the log warns, and the next start finds no damaged file."""
    need_strace(tmp_path / "strace.log")

    async def run() -> int:
        failed = 0
        for nth in sweep(fault.calls):
            wrong = await _wrong(unbuilt, tmp_path, fault, nth)
            if wrong is None:
                return failed
            assert wrong == [], nth
            failed += 1
        return failed

    assert asyncio.run(run()) > 0


def test_the_suite_notices_a_server_that_trusts_a_failed_write(tmp_path: Path, unbuilt: GraphCatalog) -> None:
    """The control: if a failed write is ignored, the next start finds a damaged file."""
    need_strace(tmp_path / "strace.log")
    wrong = asyncio.run(_wrong(unbuilt, tmp_path, Fault("write", "ENOSPC"), 2, "trusted-failures"))
    assert wrong
    assert any(UNUSABLE in fault for fault in wrong), wrong


@pytest.mark.parametrize(("calls", "nth"), OF_ROWS)
def test_a_failing_call_costs_at_most_a_file_of_rows(
    tmp_path: Path, unbuilt: GraphCatalog, calls: str, nth: int
) -> None:
    """The same for rows that are saved beside graphs."""
    need_strace(tmp_path / "strace.log")
    error = "ENOSPC" if calls == "write" else "EIO"
    assert asyncio.run(_wrong(unbuilt, tmp_path, Fault(calls, error), nth, "rows-of-any-size")) == []
