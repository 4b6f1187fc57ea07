"""`kill -9` at random moments under concurrent upserts, moves, updates and deletes.

CRASH_KILLS sets how many; ten by default.
"""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path

import pytest

from crash.catalog import Catalog
from support.processes import ServerProcess

pytestmark = pytest.mark.slow

KILLS = int(os.environ.get("CRASH_KILLS", "10"))
PLANTED = (sys.executable, str(Path(__file__).with_name("early_acknowledgment.py")), "serve")


def _kill(server: ServerProcess) -> None:
    server.process.kill()


@pytest.mark.parametrize("first", range(0, KILLS, 10))
def test_acknowledged_writes_survive(tmp_path: Path, first: int) -> None:
    """After each kill everything acknowledged is stored, nothing partially, and searches equal brute force."""

    async def run() -> None:
        catalog = Catalog(tmp_path, seed=first)
        for _ in range(min(10, KILLS - first)):
            await catalog.live_and_die(_kill)
            assert await catalog.faults() == []
        assert sum(writer.acknowledged for writer in catalog.writers) > 10

    asyncio.run(run())


def test_the_suite_notices_a_server_that_acknowledges_early(tmp_path: Path) -> None:
    """The control: with writes acknowledged before their commit, a few kills show that some are lost."""

    async def run() -> list[str]:
        catalog = Catalog(tmp_path, seed=1, command=PLANTED)
        for _ in range(10):
            await catalog.live_and_die(_kill)
            if faults := await catalog.faults():
                return faults
        return []

    assert asyncio.run(run())
