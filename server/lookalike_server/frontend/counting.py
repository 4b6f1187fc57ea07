"""What receives the events of one of several processes: the log, and its metrics where they are wanted."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from lookalike_server.domain.events import Observer
from lookalike_server.domain.observing import Observers
from lookalike_server.frontend.shared_snapshots import SharedSnapshots

if TYPE_CHECKING:
    from lookalike_server.metrics.metrics import Metrics


@asynccontextmanager
async def counting(
    log: Observer, snapshots: SharedSnapshots | None, slot: int
) -> AsyncIterator[tuple[Observer, Metrics | None]]:
    """Return what receives events while the block runs, and the metrics to attach what they read.

    Args:
        log: Receives the events too.
        snapshots: Where the metrics are shared; without them there are none.
        slot: Of this process.
    """
    if snapshots is None:
        yield log, None
        return
    # Imported here, because most servers do not need them; the supervisor has already.
    from lookalike_server.frontend.publishing import publishing
    from lookalike_server.metrics.metrics import Metrics

    metrics = Metrics()
    async with publishing(metrics.registry, snapshots, slot):
        yield Observers(log, metrics), metrics
