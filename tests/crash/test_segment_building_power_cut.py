"""The power is cut while graphs are built and saved all the time: what the manifest names is on the disk.

CRASH_POWER_CUTS sets how often, up to twenty; two by default.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from crash.disks import Ext4, ext4
from crash.graph_variants import graph_variant
from crash.graphs import UNUSABLE, GraphCatalog
from support.processes import SERVE, ServerProcess
from support.serving import until

pytestmark = pytest.mark.slow

CUTS = min(20, int(os.environ.get("CRASH_POWER_CUTS", "2")))
CUTS_PER_TEST = 10


def _is_built(catalog: GraphCatalog) -> bool:
    return any(line["event"] == "graph_built" for line in catalog.log())


def _has_rows(catalog: GraphCatalog) -> bool:
    return any(name.endswith(".rows") for names in catalog.manifest().values() for name in names)


async def _faults_after_cuts(
    disk: Ext4, catalog: GraphCatalog, cuts: int, ready: Callable[[GraphCatalog], bool] = _is_built
) -> list[str]:
    """Cut the power under load until something is wrong, at most `cuts` times, and return what is; first once ready."""

    def cut(server: ServerProcess) -> None:
        disk.cut_power()
        server.process.kill()

    with catalog.served() as server:
        assert await catalog.change(server, 100) == []
        await until(lambda: ready(catalog))
    for _ in range(cuts):
        await catalog.live_and_die(cut)
        disk.unmount()
        disk.mount()
        if faults := await catalog.faults():
            return faults
    return []


@pytest.mark.parametrize("first", range(0, CUTS, CUTS_PER_TEST))
def test_trusted_files_survive_power_cuts(tmp_path: Path, first: int) -> None:
    """After each cut no file in the manifest is missing or damaged, no other file is left, and searches are correct."""
    with ext4(tmp_path) as disk:
        catalog = GraphCatalog(disk.folder / "data", seed=first, command=SERVE, log=tmp_path / "server.log")
        assert asyncio.run(_faults_after_cuts(disk, catalog, min(CUTS_PER_TEST, CUTS - first))) == []


def test_the_suite_notices_a_server_that_does_not_flush_its_graphs(tmp_path: Path) -> None:
    """The control: if files are not flushed before they are in the manifest, a cut damages some."""
    with ext4(tmp_path) as disk:
        unflushed = graph_variant("unflushed-graphs")
        catalog = GraphCatalog(disk.folder / "data", seed=1, command=unflushed, log=tmp_path / "server.log")
        faults = asyncio.run(_faults_after_cuts(disk, catalog, 5))
        assert any(UNUSABLE in fault for fault in faults), faults


def test_rows_on_disk_survive_power_cuts(tmp_path: Path) -> None:
    """The same for rows that are saved beside graphs, and searches of what a start mapped are correct."""
    with ext4(tmp_path) as disk:
        command = graph_variant("rows-of-any-size")
        catalog = GraphCatalog(disk.folder / "data", seed=3, command=command, log=tmp_path / "server.log")
        assert asyncio.run(_faults_after_cuts(disk, catalog, min(CUTS_PER_TEST, CUTS), _has_rows)) == []
