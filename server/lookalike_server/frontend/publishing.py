"""A process of the server shares the metrics that it has counted: when they are asked for, and every few seconds."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, suppress

import structlog
from prometheus_client.registry import Collector

from lookalike_server.frontend.metrics_sum import Snapshot, families_of
from lookalike_server.frontend.shared_snapshots import SharedSnapshots, check_size

_LOOK_SECONDS = 0.02
"""How often a process looks whether somebody asks; a scrape waits for so long."""

_KEEP_SECONDS = 2.0
"""How often it shares what it has counted unasked: so much is lost with a process that is killed."""


@asynccontextmanager
async def publishing(collector: Collector, snapshots: SharedSnapshots, slot: int) -> AsyncIterator[None]:
    """Share metrics in this slot while the block runs, and as they are at its end.

    What the process before in this slot had counted is shared with them, so that no counter goes back.
    """
    publisher = _Publisher(collector, snapshots, slot)
    with ThreadPoolExecutor(1, "metrics") as thread:
        running = asyncio.create_task(publisher.run(thread))
        try:
            yield
        finally:
            running.cancel()
            with suppress(asyncio.CancelledError):
                await running
    publisher.publish()


class _Publisher:
    def __init__(self, collector: Collector, snapshots: SharedSnapshots, slot: int) -> None:
        self._collector = collector
        self._snapshots = snapshots
        self._slot = slot
        self._before = Snapshot.loads(snapshots.read(slot).data).counted()
        self._data = Snapshot(self._before, {}).dumps()
        self._answered = 0
        self._has_failed = False

    async def run(self, thread: ThreadPoolExecutor) -> None:
        loop = asyncio.get_running_loop()
        next_at = 0.0
        while True:
            if self._snapshots.requested() != self._answered or loop.time() >= next_at:
                await loop.run_in_executor(thread, self.publish)
                next_at = loop.time() + _KEEP_SECONDS
            await asyncio.sleep(_LOOK_SECONDS)

    def publish(self) -> None:
        """Share the metrics of now; where they cannot be, log it once and share the last ones again."""
        request = self._snapshots.requested()
        try:
            data = Snapshot(self._before, families_of(self._collector)).dumps()
            check_size(data)
        except Exception as error:  # noqa: BLE001 - whatever it is, it must not end the process
            if not self._has_failed:
                structlog.get_logger().error("metrics_not_shared", exc_info=error)
            self._has_failed = True
        else:
            self._data = data
        self._snapshots.write(self._slot, os.getpid(), request, self._data)
        self._answered = request
