"""The metrics of several processes are summed, and none that was counted is lost with its process."""

from __future__ import annotations

import asyncio
import os
import signal
import threading
from collections.abc import Iterator

import pytest
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Info, Metric
from prometheus_client.registry import Collector

from lookalike_server.frontend.metrics_sum import GAUGES, Snapshot, SummedMetrics, add, families_of
from lookalike_server.frontend.publishing import publishing
from lookalike_server.frontend.shared_snapshots import MAX_BYTES, SharedSnapshots
from lookalike_server.metrics.metrics import Metrics

SLOT = 1

SUMMED = {
    "lookalike_database_bytes",  # the engine's alone, as are all of rows and files
    "lookalike_decoding_bytes",
    "lookalike_disk_free_bytes",
    "lookalike_index_dead_rows",
    "lookalike_index_rows",
    "lookalike_index_waiting_rows",
    "lookalike_message_bytes",
    "lookalike_queue_depth",
    "lookalike_wal_bytes",
    "process_open_fds",
    "process_resident_memory_bytes",
    "process_virtual_memory_bytes",
}


class Process:
    """What a process counts."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.calls = Counter("calls", "Calls.", ["code"], registry=self.registry)
        self.seconds = Histogram("call_seconds", "Seconds.", buckets=(0.1, 1.0), registry=self.registry)
        self.bytes = Gauge("bytes", "Bytes in flight.", registry=self.registry)
        self.oldest = Gauge("lookalike_queue_oldest_seconds", "Age.", registry=self.registry)
        self.started = Gauge("process_start_time_seconds", "Start.", registry=self.registry)
        Info("lookalike_model", "Model.", registry=self.registry).info({"digest": "abc"})

    def snapshot(self, before: Snapshot | None = None) -> Snapshot:
        """Return a snapshot as another process gets it."""
        counted = {} if before is None else before.counted()
        return Snapshot.loads(Snapshot(counted, families_of(self.registry)).dumps())


def values(*snapshots: Snapshot) -> dict[str, float]:
    """Return the sum's value of each sample, by its name and labels, with what their predecessors counted."""
    summed = SummedMetrics(add([part for each in snapshots for part in each]))
    return {
        "".join((each.name, *(f",{key}={value}" for key, value in each.labels.items()))): each.value
        for metric in summed.collect()
        for each in metric.samples
    }


def test_counters_and_histograms_are_summed() -> None:
    """Each sample of counters and histograms is the sum over the processes that have it."""
    one, other = Process(), Process()
    one.calls.labels("OK").inc(3)
    other.calls.labels("OK").inc(4)
    other.calls.labels("INTERNAL").inc()
    for seconds in (0.05, 0.5, 5.0):
        one.seconds.observe(seconds)
    other.seconds.observe(0.5)
    total = values(one.snapshot(), other.snapshot())
    assert (total["calls_total,code=OK"], total["calls_total,code=INTERNAL"]) == (7, 1)
    assert [total[f"call_seconds_bucket,le={bound}"] for bound in ("0.1", "1.0", "+Inf")] == [1, 3, 4]
    assert total["call_seconds_count"] == 4
    assert total["call_seconds_sum"] == pytest.approx(6.05)
    created = [values(each.snapshot())["call_seconds_created"] for each in (one, other)]
    assert total["call_seconds_created"] == min(created)


def test_gauges_are_combined_as_fits() -> None:
    """Amounts are summed; of ages the oldest counts, of starts the first, and a fact stays a fact."""
    one, other = Process(), Process()
    for process, number in ((one, 2.0), (other, 5.0)):
        for gauge in (process.bytes, process.oldest, process.started):
            gauge.set(number)
    total = values(one.snapshot(), other.snapshot())
    assert total["bytes"] == 7
    assert total["lookalike_queue_oldest_seconds"] == 5
    assert total["process_start_time_seconds"] == 2
    assert total["lookalike_model_info,digest=abc"] == 1


def test_every_gauge_is_combined_on_purpose() -> None:
    """Each gauge of the server is summed, or is in the table of those that are not."""
    gauges = {metric.name for metric in Metrics().registry.collect() if metric.type == "gauge"}
    assert gauges == SUMMED | set(GAUGES)
    assert not SUMMED & set(GAUGES)


def test_what_ended_processes_counted_is_kept() -> None:
    """Whatever replaces a process goes on from its counters and histograms, also the third time; gauges begin again."""
    last: Snapshot | None = None
    for _ in range(3):
        process = Process()
        process.calls.labels("OK").inc(2)
        process.seconds.observe(0.5)
        process.bytes.set(9)
        last = process.snapshot(last)
    assert last is not None
    total = values(last)
    assert (total["calls_total,code=OK"], total["call_seconds_count"], total["bytes"]) == (6, 3, 9)
    ended = values(Snapshot(last.counted(), {}))
    assert (ended["calls_total,code=OK"], "bytes" in ended) == (6, False)


def test_exemplars_are_kept() -> None:
    """Of two processes' exemplars of a bucket the newer one is kept."""
    one, other = Process(), Process()
    other.seconds.observe(0.5, {"trace_id": "second"})
    one.seconds.observe(0.4, {"trace_id": "third"})
    for parts in ((one, other), (other, one)):
        summed = SummedMetrics(add(families_of(each.registry) for each in parts))
        found = [each.exemplar for metric in summed.collect() for each in metric.samples if each.exemplar]
        assert [each.labels for each in found] == [{"trace_id": "third"}]


def test_a_snapshot_outlives_its_process() -> None:
    """A process that is killed while it writes leaves its last complete snapshot."""
    snapshots = SharedSnapshots(2)
    assert snapshots.read(SLOT) == (0, 0, b"")
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        data, number = bytes(1000), 0
        while True:
            snapshots.write(SLOT, os.getpid(), number := number + 1, number.to_bytes(8, "big") + data)
            if number == 100:
                os.write(writing, b"x")
    os.read(reading, 1)
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    os.close(reading)
    os.close(writing)
    stored = snapshots.read(SLOT)
    assert stored.pid == pid
    assert stored.request >= 99
    assert stored.data == stored.request.to_bytes(8, "big") + bytes(1000)
    assert snapshots.read(0) == (0, 0, b"")


def test_a_reader_never_gets_half_of_a_snapshot() -> None:
    """A reader beside a writer gets one snapshot or another, whole."""
    snapshots = SharedSnapshots(2)
    pid = os.fork()
    if pid == 0:
        number = 0
        while True:
            number += 1
            snapshots.write(SLOT, os.getpid(), number, bytes([number % 251]) * 5000)
    try:
        seen: set[int] = set()
        while len(seen) < 30:
            stored = snapshots.read(SLOT)
            assert len(set(stored.data)) <= 1
            seen.add(stored.request)
    finally:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)


def test_a_snapshot_that_is_too_large_is_an_error() -> None:
    """A snapshot above the size of a slot is not written, and the one before stays."""
    snapshots = SharedSnapshots(2)
    snapshots.write(SLOT, 7, 1, b"small")
    with pytest.raises(ValueError, match="larger"):
        snapshots.write(SLOT, 7, 2, bytes(MAX_BYTES + 1))
    assert snapshots.read(SLOT) == (7, 1, b"small")
    assert snapshots.answered(SLOT) == 1


async def answered(snapshots: SharedSnapshots) -> Snapshot:
    """Ask for metrics, and return those of the answer."""
    request = snapshots.request()
    async with asyncio.timeout(60):
        # No event to wait for: it is another process that answers, as a rule.
        while snapshots.answered(SLOT) < request:  # noqa: ASYNC110
            await asyncio.sleep(0)
    return Snapshot.loads(snapshots.read(SLOT).data)


async def test_metrics_are_shared_when_they_are_asked_for() -> None:
    """A snapshot has what was counted before it was asked for, and what its predecessor in the slot had counted."""
    snapshots = SharedSnapshots(2)
    for counted in (1, 2):
        process = Process()
        process.bytes.set(1)
        async with publishing(process.registry, snapshots, SLOT):
            process.calls.labels("OK").inc()
            total = values(await answered(snapshots))
            assert (total["calls_total,code=OK"], total["bytes"]) == (2 * counted - 1, 1)
            process.calls.labels("OK").inc()
        # the last one is shared at the end, unasked
        assert values(Snapshot.loads(snapshots.read(SLOT).data))["calls_total,code=OK"] == 2 * counted


async def test_metrics_that_cannot_be_shared_disturb_nobody(capsys: pytest.CaptureFixture[str]) -> None:
    """A collector that fails is logged once; the last metrics stay, and whoever asks is not kept waiting."""
    snapshots = SharedSnapshots(2)
    process = Process()
    fails = threading.Event()

    class Failing(Collector):
        def collect(self) -> Iterator[Metric]:
            if fails.is_set():
                raise RuntimeError("it cannot be read")
            return iter(())

    process.registry.register(Failing())
    process.calls.labels("OK").inc()
    async with publishing(process.registry, snapshots, SLOT):
        assert values(await answered(snapshots))["calls_total,code=OK"] == 1
        fails.set()
        for _ in range(2):
            assert values(await answered(snapshots))["calls_total,code=OK"] == 1
    assert capsys.readouterr().out.count("metrics_not_shared") == 1
