"""Every open, write, sync, rename and removal of a graph's file fails once, in turn: a cache is no reason to stop.

`make test` takes one or two of each kind, `make test-crash` all, each with two errors.
"""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from crash.graphs import UNUSABLE, GraphCatalog
from crash.segment_building import ALL, FILE_CALLS, seal, sweep
from crash.tracing import Fault, need_strace

FAULTS = [Fault(calls, error) for calls in FILE_CALLS for error in ("EIO", "ENOSPC") if ALL or error == "EIO"]


async def _wrong(unsealed: GraphCatalog, at: Path, fault: Fault, nth: int, *bugs: str) -> list[str] | None:
    """What is wrong where the nth call fails, and at the next start; None where there was no such call."""
    sealed = await seal(unsealed, at, fault, nth, *bugs)
    struck = [line for line in sealed.trace if "(INJECTED)" in line]
    wrong = list(sealed.wrong)
    if sealed.status != 0:
        wrong.append(f"the server ended with status {sealed.status} after {struck}")
    if struck and not sealed.catalog.warned_of():
        wrong.append(f"the log does not tell of {struck}")
    wrong += await sealed.catalog.faults()
    return wrong if struck or wrong else None


@pytest.mark.parametrize("fault", FAULTS, ids=str)
def test_a_failing_call_costs_a_graph_at_most(tmp_path: Path, unsealed: GraphCatalog, fault: Fault) -> None:
    """The server goes on, every search is right, the log tells of it, and the next start finds no damaged file."""
    need_strace(tmp_path / "strace.log")

    async def run() -> int:
        failed = 0
        for nth in sweep(fault.calls):
            wrong = await _wrong(unsealed, tmp_path, fault, nth)
            if wrong is None:
                return failed
            assert wrong == [], nth
            failed += 1
        return failed

    assert asyncio.run(run()) > 0


def test_the_suite_notices_a_server_that_vouches_for_what_it_could_not_write(
    tmp_path: Path, unsealed: GraphCatalog
) -> None:
    """The control: where a failed write is not looked at, the next start finds a file that is not what it should be."""
    need_strace(tmp_path / "strace.log")
    wrong = asyncio.run(_wrong(unsealed, tmp_path, Fault("write", "ENOSPC"), 20, "vouching"))
    assert wrong
    assert any(UNUSABLE in fault for fault in wrong), wrong
