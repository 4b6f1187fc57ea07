"""The batcher on a device with two batches in flight."""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import ClassVar

import numpy as np
import pytest
import structlog

from lookalike_server.config import Settings
from lookalike_server.config_loading import load_settings
from lookalike_server.domain.errors import Code, LookalikeError, Rejection
from lookalike_server.domain.inference import BatchProfile
from lookalike_server.engine.model_loading import load_model
from lookalike_server.inference.autotune import measure_plan
from lookalike_server.inference.batcher import MicroBatcher
from lookalike_server.inference.gpu_errors import GpuFailure, gpu_failure
from lookalike_server.inference.io_binding import RunBatch
from lookalike_server.inference.manifest import ModelFolder, read_model_folder
from lookalike_server.inference.onnx_session import OnnxSession
from lookalike_server.inference.plan import Plan
from support.batcher_harness import color
from support.fake_device import FakeDevice, bound
from support.fakes import RecordingObserver
from support.paths import MODELS
from support.serving import noise, until

SMALL = replace(read_model_folder(MODELS / "tiny").model, height=2, width=2, dim=3)


class DeviceHarness:
    """A batcher over a device that can be held, with two batches of up to four images in flight."""

    def __init__(self) -> None:
        self.device = FakeDevice()
        self.observer = RecordingObserver()
        self.now = 1000.0
        session, _ = bound(self.device, SMALL)
        for rows in (1, 2, 4):
            session.run(color(0)[None].repeat(rows, axis=0))
        self.device.forget()
        profiles = tuple(BatchProfile(rows, 0.01 * rows, 2) for rows in (1, 2, 4))
        self.batcher = MicroBatcher(
            Plan(session, session, 2, 4, profiles, BatchProfile(1, 0.01)),
            max_queue_size=100,
            bulk_wait=math.inf,
            observer=self.observer,
            clock=lambda: self.now,
        )

    def embed(self, value: int, deadline: float = math.inf) -> asyncio.Task[float]:
        """Embed an image of one color, whose embedding is that color."""

        async def embed() -> float:
            return float((await self.batcher.embed(color(value), deadline)).vector[0])

        return asyncio.create_task(embed())

    async def occupy(self) -> asyncio.Task[float]:
        """Hold the device while it computes one image."""
        self.device.hold("run")
        task = self.embed(200)
        await asyncio.to_thread(self.device.wait_for, "run", ended=False)
        return task


@pytest.fixture
async def harness() -> AsyncIterator[DeviceHarness]:
    """Provide a harness that must end without faults and with all memory freed."""
    harness = DeviceHarness()
    yield harness
    harness.device.let_go("run")
    await harness.batcher.close()
    assert harness.device.faults == []
    assert harness.device.open_slots == {}


async def test_next_batch_is_copied_in_while_one_computes(harness: DeviceHarness) -> None:
    """While one batch computes the next is copied in, and images that arrive then form batches of their own."""
    first = await harness.occupy()
    second = harness.embed(1)
    await asyncio.to_thread(harness.device.wait_for, "copy in", ended=True, beside=harness.device.events[0].slot)
    waiting = [harness.embed(value) for value in (2, 3, 4, 5, 6)]
    await until(lambda: repr(harness.batcher) == "<MicroBatcher [Queued: 5 | Running: 2]>")
    harness.device.let_go("run")
    assert await asyncio.gather(first, second, *waiting) == [200, 1, 2, 3, 4, 5, 6]
    assert sorted(harness.observer.batches) == [1, 1, 1, 4]  # whichever of two is reported first


@pytest.mark.parametrize(("more", "batches"), [(2, [1, 1, 4, 2]), (4, [1, 1, 4, 4])])
async def test_a_batch_grows_while_a_larger_one_computes(harness: DeviceHarness, more: int, batches: list[int]) -> None:
    """While four images compute, fewer stay in the queue, where others can join them; four are copied in."""
    two = [await harness.occupy(), harness.embed(1)]
    four = [harness.embed(value) for value in (2, 3, 4, 5)]
    await until(lambda: repr(harness.batcher) == "<MicroBatcher [Queued: 4 | Running: 2]>")
    harness.device.hold("copy out")
    harness.device.let_go("run")
    leaving = await asyncio.to_thread(harness.device.wait_for, "copy out", ended=False)
    await asyncio.to_thread(harness.device.wait_for, "copy out", ended=False, beside=leaving)
    harness.device.hold("run")
    harness.device.let_go("copy out")
    await asyncio.gather(*two)
    await until(lambda: repr(harness.batcher) == "<MicroBatcher [Queued: 0 | Running: 4]>")
    late = [harness.embed(value) for value in range(10, 10 + more)]
    state = f"Queued: 0 | Running: {4 + more}" if more == 4 else f"Queued: {more} | Running: 4"
    await until(lambda: state in repr(harness.batcher))
    harness.device.let_go("run")
    assert await asyncio.gather(*four, *late) == [2, 3, 4, 5, *range(10, 10 + more)]
    assert harness.observer.batches == batches


async def test_padded_batches_give_each_caller_its_result(harness: DeviceHarness) -> None:
    """A batch of three runs as four rows, of which three are copied, and each caller gets its own result."""
    first, second = await harness.occupy(), harness.embed(1)
    waiting = [harness.embed(value) for value in (7, 8, 9)]
    await until(lambda: "Queued: 3 " in repr(harness.batcher))
    harness.device.let_go("run")
    assert await asyncio.gather(first, second, *waiting) == [200, 1, 7, 8, 9]
    operations = [(event.operation, event.rows) for event in harness.device.events if event.ended]
    assert {("copy in", 3), ("run", 4), ("copy out", 3)} <= set(operations)


async def test_cancelled_and_expired_images_do_not_run(harness: DeviceHarness) -> None:
    """Cancelled and expired images leave the queue before they are copied; the others run."""
    first, second = await harness.occupy(), harness.embed(1)
    gone, late, patient = harness.embed(2), harness.embed(3, deadline=harness.now + 5), harness.embed(4)
    await until(lambda: "Queued: 3 " in repr(harness.batcher))
    gone.cancel()
    await until(lambda: "Queued: 2 " in repr(harness.batcher))
    harness.now += 10
    harness.device.let_go("run")
    assert list(await asyncio.gather(first, second, patient)) == [200, 1, 4]
    with pytest.raises(LookalikeError) as caught:
        await late
    assert caught.value.code is Code.DEADLINE_EXCEEDED
    assert sum(event.rows for event in harness.device.events if event.operation == "copy in" and event.ended) == 3


async def test_callers_that_cancel_in_flight_do_not_affect_others(harness: DeviceHarness) -> None:
    """Callers that cancel while their batch computes, or is copied already, do not change other results."""
    first, second = await harness.occupy(), harness.embed(1)
    await until(lambda: "Running: 2]" in repr(harness.batcher))
    waiting = [harness.embed(value) for value in (2, 3)]
    first.cancel()
    second.cancel()
    await asyncio.gather(first, second, return_exceptions=True)
    harness.device.let_go("run")
    assert await asyncio.gather(*waiting) == [2, 3]


@pytest.mark.parametrize("operation", ["copy in", "run", "copy out"])
async def test_a_failing_batch_fails_alone(harness: DeviceHarness, operation: str) -> None:
    """Whichever operation fails, the batch's callers get an error without internals; the next batch succeeds."""
    harness.device.fails = operation
    with pytest.raises(LookalikeError, match="the model failed on this batch"):
        await harness.embed(1)
    assert [size for size, _ in harness.observer.failed_batches] == [1]
    assert await asyncio.gather(*(harness.embed(value) for value in (2, 3, 4))) == [2, 3, 4]


async def three_wait(harness: DeviceHarness) -> list[asyncio.Task[float]]:
    """Queue three images behind two that compute, of which the first is held; they will be one batch."""
    ahead = [await harness.occupy(), harness.embed(1)]
    waiting = [harness.embed(value) for value in (7, 8, 9)]
    await until(lambda: repr(harness.batcher) == "<MicroBatcher [Queued: 3 | Running: 2]>")
    return [*ahead, *waiting]


async def test_a_batch_without_memory_is_split(harness: DeviceHarness) -> None:
    """Where memory is short for a batch its halves run, and every caller gets its own result."""
    images = await three_wait(harness)
    harness.device.fits = lambda _, rows: rows < 4
    harness.device.let_go("run")
    assert await asyncio.gather(*images) == [200, 1, 7, 8, 9]
    assert harness.observer.split_batches == [3]
    assert harness.observer.failed_batches == []
    assert sorted(harness.observer.batches) == [1, 1, 1, 2]


async def test_a_half_without_memory_fails_alone(harness: DeviceHarness) -> None:
    """A half is not split again: its callers get RESOURCE_EXHAUSTED and a time to retry, all others their results."""
    images = await three_wait(harness)
    harness.device.fits = lambda _, rows: rows < 2
    harness.device.let_go("run")
    first, second, seven, eight, nine = await asyncio.gather(*images, return_exceptions=True)
    assert [first, second, nine] == [200, 1, 9]
    for failed in (seven, eight):
        assert isinstance(failed, LookalikeError)
        assert (failed.code, failed.rejection) == (Code.RESOURCE_EXHAUSTED, Rejection.MEMORY)
        assert failed.retry_after == 1.0
    assert harness.observer.split_batches == [3]
    assert [size for size, _ in harness.observer.failed_batches] == [2]


async def test_an_image_without_memory_is_not_split(harness: DeviceHarness) -> None:
    """A batch of one has no halves."""
    harness.device.fits = lambda _, _rows: False
    with pytest.raises(LookalikeError, match="too little memory") as caught:
        await harness.embed(1)
    assert caught.value.code is Code.RESOURCE_EXHAUSTED
    harness.device.fits = lambda _, _rows: True
    assert await harness.embed(2) == 2


async def test_callers_that_leave_a_split_batch(harness: DeviceHarness) -> None:
    """A caller that goes while its batch finds no memory is not in a half."""
    images = await three_wait(harness)
    loop = asyncio.get_running_loop()

    def fits(_: str, rows: int) -> bool:
        if rows == 4:
            loop.call_soon_threadsafe(images[2].cancel)
        return rows < 4

    harness.device.fits = fits
    harness.device.let_go("run")
    assert await asyncio.gather(*images[3:]) == [8, 9]
    assert harness.observer.split_batches == [3]
    assert sorted(harness.observer.batches) == [1, 1, 1, 1]


@pytest.mark.parametrize("operation", ["copy in", "run", "copy out"])
async def test_after_a_sticky_error_nothing_runs(harness: DeviceHarness, operation: str) -> None:
    """Whoever runs, waits or comes later gets UNAVAILABLE and a time to retry, and the watchdog sees the error."""
    images = await three_wait(harness)
    harness.device.breaks_at = operation
    harness.device.let_go("run")
    for failed in await asyncio.gather(*images, return_exceptions=True):
        if operation == "copy in" and failed in (200, 1):
            continue  # they were copied in before the device broke
        assert isinstance(failed, LookalikeError)
        assert (failed.code, failed.retry_after) == (Code.UNAVAILABLE, 1.0)
    with pytest.raises(LookalikeError, match="the GPU failed") as caught:
        await harness.embed(3)
    assert caught.value.code is Code.UNAVAILABLE
    error = harness.batcher.runs.gpu_error
    assert error is not None
    assert gpu_failure(error) is GpuFailure.STICKY


@pytest.mark.parametrize(("max_concurrent_batches", "in_flight"), [(0, 2), (3, 3), (1, 1)])
def test_the_plan_keeps_the_batches_in_flight(max_concurrent_batches: int, in_flight: int) -> None:
    """A device's concurrent batches are those in flight, on one session, and every profile is warm in every slot."""
    device = FakeDevice()
    session, gpu_model = bound(device, SMALL, rows=6, in_flight=max_concurrent_batches or 2)
    plan = measure_plan(
        [lambda _: session],
        color(0),
        cores=2,
        max_batch_size=6,
        max_concurrent_batches=max_concurrent_batches,
        preferred_batch_size=6,
    )
    assert (plan.throughput_session, plan.latency_session, plan.max_concurrent_batches) == (session, session, in_flight)
    assert plan.serialized == (in_flight > 1)
    assert plan.prefetch == 0
    assert not plan.inline
    assert sorted(gpu_model.graphs.values()) == [(slot, rows) for slot in range(in_flight) for rows in (1, 2, 4, 6)]
    assert {profile.concurrency for profile in plan.profiles} == {in_flight}
    plan.close()
    assert device.open_slots == {}


class OnFakeGpu(OnnxSession):
    """The CPU's session, which claims to be on a GPU and fails to record CUDA graphs."""

    devices: ClassVar[list[FakeDevice]] = []

    def __init__(self, folder: ModelFolder, settings: Settings) -> None:
        super().__init__(folder, "cpu", 1)
        self._records = settings.cuda_graphs

    def gpu(self) -> FakeDevice:
        """Return a new device."""
        self.devices.append(FakeDevice())
        return self.devices[-1]

    def bind(self, kind: str, input_address: int, output_address: int, rows: int, graph: int) -> RunBatch:
        """Fail where CUDA graphs are enabled."""
        if self._records:
            raise RuntimeError("operation not permitted when stream is capturing")
        return super().bind(kind, input_address, output_address, rows, graph)


def test_a_model_that_cannot_be_recorded_runs_without_graphs() -> None:
    """Where recording fails, the memory of the first attempt is freed, and the model is loaded again without graphs."""
    OnFakeGpu.devices.clear()
    settings = load_settings({"model": MODELS / "tiny", "cuda_graphs": True, "max_batch_size": 4})
    with structlog.testing.capture_logs() as log:
        session = load_model(read_model_folder(MODELS / "tiny"), settings, OnFakeGpu)
    (event,) = log
    assert (event["log_level"], event["reason"]) == ("warning", "operation not permitted when stream is capturing")
    first, second = OnFakeGpu.devices
    assert (first.open_slots, len(second.open_slots)) == ({}, 2)
    images = np.stack([noise(1)])
    assert np.array_equal(session.run(images), OnnxSession(read_model_folder(MODELS / "tiny"), "cpu", 1).run(images))
    session.close()
