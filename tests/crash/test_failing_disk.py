"""A disk that fails for a while and then works again, when Linux has forgotten what it could not write.

What is acknowledged afterwards must be on disk, which a power cut shows.
"""

from __future__ import annotations

import asyncio
from pathlib import Path

import grpc
import pytest

from crash.catalog import Catalog
from crash.disks import Ext4, ext4
from crash.variants import variant
from support.processes import SERVE, ServerProcess

pytestmark = pytest.mark.slow


async def _fail_and_work(disk: Ext4, catalog: Catalog, command: tuple[str, ...], *, restart: bool) -> list[str]:
    """Let the disk fail during writes, work again, and lose its power; return what is wrong at any time."""
    with catalog.served(command) as server:
        assert await catalog.change(server, 8) == []
        disk.fail()
        rejections = await catalog.change(server, 3)
        assert [rejected.code for rejected in rejections] == [grpc.StatusCode.INTERNAL] * 3
        wrong = await catalog.faults_of(server, crashed=False)
        disk.work()
        if not restart:
            return wrong + await _continue(disk, catalog, server)
    with catalog.served(command) as server:
        wrong += await catalog.faults_of(server, crashed=True)
        return wrong + await _continue(disk, catalog, server)


async def _continue(disk: Ext4, catalog: Catalog, server: ServerProcess) -> list[str]:
    await catalog.change(server, 1)  # may be rejected: Linux reports a failure once for every open file
    assert await catalog.change(server, 8) == []
    wrong = await catalog.faults_of(server, crashed=False)
    disk.cut_power()
    server.process.kill()
    server.process.wait()
    disk.unmount()
    disk.mount()
    return wrong + await catalog.faults()


@pytest.mark.parametrize("restart", [False, True])
def test_writes_after_a_failed_disk_survive_a_power_cut(tmp_path: Path, *, restart: bool) -> None:
    """While the disk fails, writes are rejected and reads work; what is acknowledged afterwards is on the disk."""
    with ext4(tmp_path) as disk:
        catalog = Catalog(disk.folder / "data", seed=1, writers=1)
        assert asyncio.run(_fail_and_work(disk, catalog, SERVE, restart=restart)) == []


@pytest.mark.parametrize(
    ("bug", "restart"),
    [("trusting", False), ("trusting", True), ("not-preallocated", False), ("not-preallocated", True)],
)
def test_the_suite_notices_a_server_that_trusts_a_later_sync(tmp_path: Path, bug: str, *, restart: bool) -> None:
    """The controls: a server that trusts its WAL, or new blocks of its file, loses what it acknowledged.

    Not always: Linux may evict a page that the bug depends on from its cache at any time, hence several attempts.
    """
    assert any(_loses(tmp_path / f"{attempt}", variant(bug), restart=restart) for attempt in range(5))


def _loses(at: Path, command: tuple[str, ...], *, restart: bool) -> bool:
    at.mkdir()
    with ext4(at) as disk:
        catalog = Catalog(disk.folder / "data", seed=1, writers=1)
        return bool(asyncio.run(_fail_and_work(disk, catalog, command, restart=restart)))
