"""The batcher on a device with two batches in flight, and a whole server on one."""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncIterator
from dataclasses import replace
from functools import partial
from typing import ClassVar

import numpy as np
import pytest
import structlog

from lookalike.v1 import embedding_service_pb2
from lookalike_server.config import Settings, load_settings
from lookalike_server.domain.errors import Code, LookalikeError
from lookalike_server.domain.inference import BatchProfile
from lookalike_server.engine.model_loading import load_model
from lookalike_server.inference.autotune import Plan, measure_plan
from lookalike_server.inference.batcher import MicroBatcher
from lookalike_server.inference.io_binding import Act
from lookalike_server.inference.manifest import ModelFolder, read_model_folder
from lookalike_server.inference.onnx_session import OnnxSession
from support.batcher_harness import color
from support.fake_device import FakeDevice, bound
from support.fake_device import load as load_on_fake_device
from support.fakes import RecordingObserver
from support.paths import MODELS
from support.serving import Serve, noise, raw, until

SMALL = replace(read_model_folder(MODELS / "tiny").model, height=2, width=2, dim=3)


class DeviceRig:
    """A batcher over a device that can be held, two batches of up to four images in flight."""

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
        """Ask for an image of one color; the answer must be that color."""

        async def ask() -> float:
            return float((await self.batcher.embed(color(value), deadline)).vector[0])

        return asyncio.create_task(ask())

    async def computing(self) -> asyncio.Task[float]:
        """Have the device held while it computes one image."""
        self.device.hold("run")
        task = self.embed(200)
        await asyncio.to_thread(self.device.wait_for, "run", ended=False)
        return task


@pytest.fixture
async def rig() -> AsyncIterator[DeviceRig]:
    """One that must have found nothing wrong and given everything back in the end."""
    rig = DeviceRig()
    yield rig
    rig.device.let_go("run")
    await rig.batcher.close()
    assert rig.device.faults == []
    assert rig.device.open_slots == {}


async def test_next_batch_is_on_the_device_before_the_first_is_done(rig: DeviceRig) -> None:
    """While one batch computes the next is copied in, and what comes then waits together for a batch of its own."""
    first = await rig.computing()
    second = rig.embed(1)
    await asyncio.to_thread(rig.device.wait_for, "copy in", ended=True, beside=rig.device.events[0].slot)
    waiting = [rig.embed(value) for value in (2, 3, 4, 5, 6)]
    await until(lambda: repr(rig.batcher) == "<MicroBatcher [Queued: 5 | Running: 2]>")
    rig.device.let_go("run")
    assert await asyncio.gather(first, second, *waiting) == [200, 1, 2, 3, 4, 5, 6]
    assert rig.observer.batches == [1, 1, 4, 1]


@pytest.mark.parametrize(("more", "batches"), [(2, [1, 1, 4, 2]), (4, [1, 1, 4, 4])])
async def test_few_wait_for_more_while_many_compute(rig: DeviceRig, more: int, batches: list[int]) -> None:
    """While four compute, fewer wait where others can join them and then run as one batch; four are handed over."""
    two = [await rig.computing(), rig.embed(1)]
    four = [rig.embed(value) for value in (2, 3, 4, 5)]
    await until(lambda: repr(rig.batcher) == "<MicroBatcher [Queued: 4 | Running: 2]>")
    rig.device.hold("copy out")
    rig.device.let_go("run")
    leaving = await asyncio.to_thread(rig.device.wait_for, "copy out", ended=False)
    await asyncio.to_thread(rig.device.wait_for, "copy out", ended=False, beside=leaving)
    rig.device.hold("run")
    rig.device.let_go("copy out")
    await asyncio.gather(*two)
    await until(lambda: repr(rig.batcher) == "<MicroBatcher [Queued: 0 | Running: 4]>")
    late = [rig.embed(value) for value in range(10, 10 + more)]
    told = f"Queued: 0 | Running: {4 + more}" if more == 4 else f"Queued: {more} | Running: 4"
    await until(lambda: told in repr(rig.batcher))
    rig.device.let_go("run")
    assert await asyncio.gather(*four, *late) == [2, 3, 4, 5, *range(10, 10 + more)]
    assert rig.observer.batches == batches


async def test_padded_batches_answer_each_its_own(rig: DeviceRig) -> None:
    """A batch of three runs as four rows, of which three were copied, and each caller has its own answer."""
    first, second = await rig.computing(), rig.embed(1)
    waiting = [rig.embed(value) for value in (7, 8, 9)]
    await until(lambda: "Queued: 3 " in repr(rig.batcher))
    rig.device.let_go("run")
    assert await asyncio.gather(first, second, *waiting) == [200, 1, 7, 8, 9]
    acts = [(event.what, event.rows) for event in rig.device.events if event.ended]
    assert {("copy in", 3), ("run", 4), ("copy out", 3)} <= set(acts)


async def test_whoever_leaves_or_is_late_is_not_computed(rig: DeviceRig) -> None:
    """Cancelled and expired callers leave the queue before anything of theirs is copied; the others are answered."""
    first, second = await rig.computing(), rig.embed(1)
    gone, late, patient = rig.embed(2), rig.embed(3, deadline=rig.now + 5), rig.embed(4)
    await until(lambda: "Queued: 3 " in repr(rig.batcher))
    gone.cancel()
    await until(lambda: "Queued: 2 " in repr(rig.batcher))
    rig.now += 10
    rig.device.let_go("run")
    assert list(await asyncio.gather(first, second, patient)) == [200, 1, 4]
    with pytest.raises(LookalikeError) as caught:
        await late
    assert caught.value.code is Code.DEADLINE_EXCEEDED
    assert sum(event.rows for event in rig.device.events if event.what == "copy in" and event.ended) == 3


async def test_a_caller_that_leaves_in_flight_costs_the_others_nothing(rig: DeviceRig) -> None:
    """A caller that gives up while its batch computes, or is copied already, spoils no answer."""
    first, second = await rig.computing(), rig.embed(1)
    await until(lambda: "Running: 2]" in repr(rig.batcher))
    waiting = [rig.embed(value) for value in (2, 3)]
    first.cancel()
    second.cancel()
    await asyncio.gather(first, second, return_exceptions=True)
    rig.device.let_go("run")
    assert await asyncio.gather(*waiting) == [2, 3]


@pytest.mark.parametrize("what", ["copy in", "run", "copy out"])
async def test_a_failing_batch_fails_alone(rig: DeviceRig, what: str) -> None:
    """Whatever of a batch fails, its callers are told so and nothing of the inside; the next batch is answered."""
    rig.device.fails = what
    with pytest.raises(LookalikeError, match="the model failed on this batch"):
        await rig.embed(1)
    assert [size for size, _ in rig.observer.failed_batches] == [1]
    assert await asyncio.gather(*(rig.embed(value) for value in (2, 3, 4))) == [2, 3, 4]


@pytest.mark.parametrize(("max_concurrent_batches", "in_flight"), [(0, 2), (3, 3), (1, 1)])
def test_the_plan_keeps_the_batches_in_flight(max_concurrent_batches: int, in_flight: int) -> None:
    """The max_concurrent_batches of a device are its batches in flight, all on one session, and every profile is warm in every slot."""
    device = FakeDevice()
    session, card = bound(device, SMALL, rows=6, in_flight=max_concurrent_batches or 2)
    plan = measure_plan(
        lambda _: session,
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
    assert sorted(card.graphs.values()) == [(slot, rows) for slot in range(in_flight) for rows in (1, 2, 4, 6)]
    assert {profile.concurrency for profile in plan.profiles} == {in_flight}
    plan.close()
    assert device.open_slots == {}


class OnFakeCard(OnnxSession):
    """The processor's session, but it claims a card, and cannot record what it runs there."""

    devices: ClassVar[list[FakeDevice]] = []

    def __init__(self, folder: ModelFolder, settings: Settings) -> None:
        super().__init__(folder, "cpu", 1)
        self._records = settings.cuda_graphs

    def card(self) -> FakeDevice:
        """A device of its own."""
        self.devices.append(FakeDevice())
        return self.devices[-1]

    def bind(self, kind: str, input_address: int, output_address: int, rows: int, graph: int) -> Act:
        """Fail where graphs are asked for."""
        if self._records:
            raise RuntimeError("operation not permitted when stream is capturing")
        return super().bind(kind, input_address, output_address, rows, graph)


def test_a_model_that_cannot_be_recorded_runs_without_graphs() -> None:
    """Where recording fails the model is loaded again without, what the first try took is given back, and it runs."""
    OnFakeCard.devices.clear()
    settings = load_settings({"model": MODELS / "tiny", "cuda_graphs": True, "max_batch_size": 4})
    with structlog.testing.capture_logs() as log:
        session = load_model(read_model_folder(MODELS / "tiny"), settings, OnFakeCard)
    (event,) = log
    assert (event["log_level"], event["reason"]) == ("warning", "operation not permitted when stream is capturing")
    first, second = OnFakeCard.devices
    assert (first.open_slots, len(second.open_slots)) == ({}, 2)
    images = np.stack([noise(1)])
    assert np.array_equal(session.run(images), OnnxSession(read_model_folder(MODELS / "tiny"), "cpu", 1).run(images))
    session.close()


async def test_a_server_on_a_device_answers_as_one_without(serve: Serve) -> None:
    """A whole server gives through a device's memory the processor's embeddings, and gives the memory back."""
    device = FakeDevice()
    requests = [embedding_service_pb2.EmbedRequest(image=raw(noise(seed))) for seed in range(20)]
    async with serve() as plain:
        right = [list((await plain.embedding.Embed(request)).embedding) for request in requests]
    on_device = partial(load_on_fake_device, device=device)
    async with serve(
        load_session=on_device, max_concurrent_batches=0, preferred_batch_size=8, max_batch_size=8
    ) as served:
        device.hold("run")
        calls = [served.embedding.Embed(request) for request in requests]
        await until(lambda: repr(served.app.batcher) == "<MicroBatcher [Queued: 18 | Running: 2]>")
        device.let_go("run")
        answers = await asyncio.gather(*calls)
        assert served.observer.batches == [1, 1, 8, 8, 2]
    for answer, expected in zip(answers, right, strict=True):
        assert list(answer.embedding) == pytest.approx(expected, abs=1e-6)
    assert device.faults == []
    assert device.open_slots == {}
