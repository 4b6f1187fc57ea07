"""The process that serves the metrics of a server with frontend processes, and whether it is ready.

A process of its own, so that it says what is wrong while the others hang, and takes no time from them but what it costs
to collect their metrics. It needs nothing of the supervisor but its memory, and when it ends nothing is lost.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator, Sequence

from prometheus_client import Metric
from prometheus_client.registry import Collector

from lookalike_server.frontend.control_channel import READY, ControlChannel
from lookalike_server.frontend.metrics_sum import Families, Snapshot, SummedMetrics, add
from lookalike_server.frontend.shared_snapshots import SharedSnapshots
from lookalike_server.frontend.watching import silence_of
from lookalike_server.metrics_assembly import MetricsListener
from lookalike_server.monitoring.serving import serving_metrics
from lookalike_server.rpc.readiness import Readiness
from lookalike_server.watchdog.beats import SUPERVISOR, Beats
from lookalike_server.watchdog.own_time import OwnTime
from lookalike_server.watchdog.silence import SUSPECT_SECONDS
from lookalike_server.watchdog.thread import Watchdog

_LOOK_SECONDS = 0.1
_WAIT_SECONDS = 1.0  # for processes that do not answer: of these the last metrics are served
_POLL_SECONDS = 0.005


async def run_metrics(
    listener: MetricsListener,
    beats: Beats,
    snapshots: SharedSnapshots,
    frontends: Sequence[int],
    control: ControlChannel,
    watchdog: Watchdog,
) -> None:
    """Serve until the supervisor says that all others have ended.

    Args:
        listener: Its sockets are the supervisor's too, so that the port stays while this process is replaced.
        beats: Of all processes.
        snapshots: Of their metrics.
        frontends: The slots of the frontends.
        control: The channel to the supervisor.
        watchdog: Of this process.
    """
    control.start()
    watchdog.log_stalls()
    ready = _Ready(beats, frontends)
    looking = asyncio.create_task(ready.look())

    async def source() -> Collector:
        await _answered(snapshots, beats)
        return _Sum(snapshots, beats)

    async with serving_metrics(listener.address, listener.sockets, source, lambda: ready.readiness):
        control.report(READY)
        await control.draining.wait()
    looking.cancel()


class _Ready:
    """Judges whether the server is ready: where any frontend is, and it is not being shut down."""

    def __init__(self, beats: Beats, frontends: Sequence[int]) -> None:
        self._beats = beats
        self._silences = {slot: silence_of(beats, slot) for slot in frontends}
        self._silent: set[int] = set()

    async def look(self) -> None:
        """Notice frontends that fall silent, for good."""
        own = OwnTime(_LOOK_SECONDS)
        while True:
            step = own.step()
            silent = {slot for slot, silence in self._silences.items() if silence.look(step) > SUSPECT_SECONDS}
            self._silent = {slot for slot in silent if self._beats.pid(slot)}
            await asyncio.sleep(_LOOK_SECONDS)

    @property
    def readiness(self) -> Readiness:
        """What the health of the frontends says: SERVING where one does, or the worst of why they do not."""
        if self._beats.readiness(SUPERVISOR) is Readiness.DRAINING:
            return Readiness.DRAINING
        found = [Readiness.HUNG if slot in self._silent else self._beats.readiness(slot) for slot in self._silences]
        return Readiness.SERVING if Readiness.SERVING in found else max(found)


async def _answered(snapshots: SharedSnapshots, beats: Beats) -> None:
    """Ask all processes that live for their metrics, and wait until they have answered, but not for long."""
    request = snapshots.request()
    until = time.monotonic() + _WAIT_SECONDS
    while time.monotonic() < until:
        living = (slot for slot in range(snapshots.slots) if beats.pid(slot) and slot != SUPERVISOR)
        if all(snapshots.answered(slot) >= request for slot in living):
            return
        await asyncio.sleep(_POLL_SECONDS)


class _Sum(Collector):
    """Reads the snapshots when it is collected, which is in a thread."""

    def __init__(self, snapshots: SharedSnapshots, beats: Beats) -> None:
        self._snapshots = snapshots
        self._beats = beats

    def collect(self) -> Iterator[Metric]:
        """Return the sum."""
        parts: list[Families] = []
        for slot in range(self._snapshots.slots):
            stored = self._snapshots.read(slot)
            snapshot = Snapshot.loads(stored.data)
            lives = stored.pid and stored.pid == self._beats.pid(slot)
            parts += [snapshot.before, snapshot.own] if lives else [snapshot.counted()]
        return SummedMetrics(add(parts)).collect()
