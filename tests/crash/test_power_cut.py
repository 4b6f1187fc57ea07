"""The power is cut at random moments under concurrent writes: what was not synced is gone, as on a real machine.

Three cuts, or as many as CRASH_POWER_CUTS says (`make test-crash`: fifty).
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

CUTS = int(os.environ.get("CRASH_POWER_CUTS", "3"))
AT_ONCE = 10


async def _faults_after_cuts(disk: Ext4, catalog: Catalog, cuts: int) -> list[str]:
    """Cut the power so many times under load, and say what was wrong after the first cut that did harm."""

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


@pytest.mark.parametrize("first", range(0, CUTS, AT_ONCE))
def test_acknowledged_writes_survive_power_cuts(tmp_path: Path, first: int) -> None:
    """After each cut what was acknowledged is there, nothing is half there, and every search equals brute force."""
    with ext4(tmp_path) as disk:
        catalog = Catalog(disk.folder / "data", seed=first, command=SERVE)
        assert asyncio.run(_faults_after_cuts(disk, catalog, min(AT_ONCE, CUTS - first))) == []
        assert sum(writer.acknowledged for writer in catalog.writers) > 0


def test_the_suite_notices_a_server_that_does_not_sync(tmp_path: Path) -> None:
    """The control: with synchronous=OFF, acknowledged writes are lost."""
    with ext4(tmp_path) as disk:
        catalog = Catalog(disk.folder / "data", seed=1, command=variant("unsynced"))
        assert asyncio.run(_faults_after_cuts(disk, catalog, 5))
