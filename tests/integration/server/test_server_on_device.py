"""A whole server whose model runs on a fake device."""

from __future__ import annotations

import asyncio
from functools import partial

import pytest

from lookalike.v1 import embedding_service_pb2
from support.fake_device import FakeDevice
from support.fake_device import load as load_on_fake_device
from support.serving import Serve, noise, raw, until


async def test_a_server_on_a_device_gives_the_same_embeddings(serve: Serve) -> None:
    """A whole server on a device returns the CPU's embeddings, and frees the memory in the end."""
    device = FakeDevice()
    requests = [embedding_service_pb2.EmbedRequest(image=raw(noise(seed))) for seed in range(20)]
    async with serve() as cpu:
        expected_embeddings = [list((await cpu.embedding.Embed(request)).embedding) for request in requests]
    on_device = partial(load_on_fake_device, device=device)
    async with serve(
        load_session=on_device, max_concurrent_batches=0, preferred_batch_size=8, max_batch_size=8
    ) as served:
        device.hold("run")
        calls = [served.embedding.Embed(request) for request in requests]
        await until(lambda: repr(served.app.batcher) == "<MicroBatcher [Queued: 18 | Running: 2]>")
        device.let_go("run")
        answers = await asyncio.gather(*calls)
        assert sorted(served.observer.batches) == [1, 1, 2, 8, 8]  # which of two running ones ends first is open
    for answer, expected in zip(answers, expected_embeddings, strict=True):
        assert list(answer.embedding) == pytest.approx(expected, abs=1e-6)
    assert device.faults == []
    assert device.open_slots == {}
