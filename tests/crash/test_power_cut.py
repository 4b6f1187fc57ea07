"""The power is cut at random moments under concurrent writes: what was not synced is lost, as on a real machine.

CRASH_POWER_CUTS sets how often; three by default.
"""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import pytest

from crash.catalog import Catalog
from crash.disks import Ext4, ext4
from crash.variants import variant
from support.processes import SERVE, ServerProcess

pytestmark = pytest.mark.slow

CUTS = int(os.environ.get("CRASH_POWER_CUTS", "3"))
CUTS_PER_TEST = 10


async def _faults_after_cuts(disk: Ext4, catalog: Catalog, cuts: int) -> list[str]:
    """Cut the power under load until something is wrong, at most `cuts` times, and return what is."""

    def cut(server: ServerProcess) -> None:
        disk.cut_power()
        server.process.kill()

    for _ in range(cuts):
        await catalog.live_and_die(cut)
        disk.unmount()
        disk.mount()
        if faults := await catalog.faults():
            return faults
    return []


@pytest.mark.parametrize("first", range(0, CUTS, CUTS_PER_TEST))
def test_acknowledged_writes_survive_power_cuts(tmp_path: Path, first: int) -> None:
    """After each cut everything acknowledged is stored, nothing partially, and searches equal brute force."""
    with ext4(tmp_path) as disk:
        catalog = Catalog(disk.folder / "data", seed=first, command=SERVE)
        assert asyncio.run(_faults_after_cuts(disk, catalog, min(CUTS_PER_TEST, CUTS - first))) == []
        assert sum(writer.acknowledged for writer in catalog.writers) > 0


def test_the_suite_notices_a_server_that_does_not_sync(tmp_path: Path) -> None:
    """The control: with synchronous=OFF, acknowledged writes are lost."""
    with ext4(tmp_path) as disk:
        catalog = Catalog(disk.folder / "data", seed=1, command=variant("unsynced"))
        assert asyncio.run(_faults_after_cuts(disk, catalog, 5))
