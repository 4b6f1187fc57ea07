"""The power is cut under writes that have graphs sealed all the time: what the manifest vouches for is on the disk.

Two cuts, or as many as CRASH_POWER_CUTS says, up to twenty (`make test-crash`).
"""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import pytest

from crash.disks import Ext4, ext4
from crash.graph_variants import graph_variant
from crash.graphs import UNUSABLE, GraphCatalog
from support.processes import SERVE, ServerProcess
from support.serving import until

CUTS = min(20, int(os.environ.get("CRASH_POWER_CUTS", "2")))
AT_ONCE = 10


async def _faults_after_cuts(disk: Ext4, catalog: GraphCatalog, cuts: int) -> list[str]:
    """Cut the power so many times under load, and say what was wrong after the first cut that did harm."""

    def cut(server: ServerProcess) -> None:
        disk.cut_power()
        server.process.kill()

    with catalog.served() as server:
        assert await catalog.change(server, 100) == []
        await until(lambda: any(line["event"] == "graph_built" for line in catalog.log()))
    for _ in range(cuts):
        await catalog.live_and_die(cut)
        disk.unmount()
        disk.mount()
        if faults := await catalog.faults():
            return faults
    return []


@pytest.mark.parametrize("first", range(0, CUTS, AT_ONCE))
def test_what_is_vouched_for_survives_power_cuts(tmp_path: Path, first: int) -> None:
    """After each cut no file that the manifest names is missing or damaged, none is left over, and all is right."""
    with ext4(tmp_path) as disk:
        catalog = GraphCatalog(disk.folder / "data", seed=first, command=SERVE, log=tmp_path / "server.log")
        assert asyncio.run(_faults_after_cuts(disk, catalog, min(AT_ONCE, CUTS - first))) == []


def test_the_suite_notices_a_server_that_does_not_flush_its_graphs(tmp_path: Path) -> None:
    """The control: where files are not flushed before the manifest names them, a cut leaves some that are not whole."""
    with ext4(tmp_path) as disk:
        unflushed = graph_variant("unflushed-graphs")
        catalog = GraphCatalog(disk.folder / "data", seed=1, command=unflushed, log=tmp_path / "server.log")
        faults = asyncio.run(_faults_after_cuts(disk, catalog, 5))
        assert any(UNUSABLE in fault for fault in faults), faults
