"""A model bound to a device's memory: what is copied when, and that batches never see each other's rows."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest

from lookalike_server.domain.inference import Pixels
from lookalike_server.inference.device import HostDevice
from lookalike_server.inference.io_binding import BoundSession
from lookalike_server.inference.manifest import read_model_folder
from lookalike_server.inference.onnx_session import OnnxSession
from support.fake_device import Event, FakeDevice, FakeSlot, bound
from support.paths import MODELS
from support.serving import noise

FOLDER = read_model_folder(MODELS / "tiny")
SMALL = replace(FOLDER.model, height=2, width=2, dim=3)
BATCH_SIZES = (1, 2, 4, 8)


def colors(*values: int) -> Pixels:
    """Make an image of each color: uint8 [n, 2, 2, 3]."""
    return np.stack([np.full((2, 2, 3), value, dtype=np.uint8) for value in values])


@pytest.fixture
def device() -> Iterator[FakeDevice]:
    """Provide a device that must end without faults."""
    device = FakeDevice()
    yield device
    assert device.faults == []


@pytest.fixture
def session(device: FakeDevice) -> Iterator[BoundSession]:
    """Provide a session with two batches in flight that has run sizes 1, 2 and 4."""
    session, _ = bound(device, SMALL)
    for rows in (1, 2, 4):
        session.run(colors(*range(rows)))
    device.forget()
    yield session
    session.close()


@pytest.fixture
def threads() -> Iterator[ThreadPoolExecutor]:
    """Provide two threads that run batches."""
    with ThreadPoolExecutor(2) as threads:
        yield threads


def test_io_binding_gives_the_same_embeddings() -> None:
    """With IO binding, for every size and padded, embeddings are bit for bit those without."""
    plain = OnnxSession(FOLDER, "cpu", 1)
    images = np.stack([noise(seed) for seed in range(8)])
    session = BoundSession(OnnxSession(FOLDER, "cpu", 1), HostDevice(), FOLDER.model, rows=8)
    for rows in BATCH_SIZES:
        assert np.array_equal(session.run(images[:rows]), plain.run(images[:rows]))
    for size in range(1, 9):
        rows = next(profile for profile in BATCH_SIZES if profile >= size)
        for shift in range(3):  # in both slots, and over an earlier batch's rows
            shifted = np.roll(images, shift, axis=0)
            with session.stage(rows) as buffer:
                buffer.images[:size] = shifted[:size]
                found = buffer.run(size)
            assert np.array_equal(found, plain.run(shifted[:rows])[:size])
    session.close()


def test_one_copy_in_and_one_out(device: FakeDevice, session: BoundSession) -> None:
    """A batch is one copy in, one run and one copy out, in this order, and padding is not copied."""
    with session.stage(4) as buffer:
        buffer.images[:3] = colors(7, 8, 9)
        assert buffer.run(3)[:, 0].tolist() == [7, 8, 9]
    slot = device.events[0].slot
    operations = (("copy in", 3), ("run", 4), ("copy out", 3))
    assert device.events == [
        Event(operation, slot, rows, ended) for operation, rows in operations for ended in (False, True)
    ]


def test_padding_changes_no_embedding(session: BoundSession) -> None:
    """Rows that an earlier batch left in a slot change no embedding and are not returned."""
    for _ in range(2):  # both slots
        session.run(colors(250, 251, 252, 253))
    for _ in range(2):
        with session.stage(4) as buffer:
            buffer.images[:1] = colors(3)
            assert buffer.run(1)[:, 0].tolist() == [3]


def test_next_batch_is_copied_while_one_computes(
    device: FakeDevice, session: BoundSession, threads: ThreadPoolExecutor
) -> None:
    """While the device computes a batch the next one is copied in; its run starts when the first ends."""
    device.hold("run")
    first = threads.submit(session.run, colors(1, 2))
    running = device.wait_for("run", ended=False)
    second = threads.submit(session.run, colors(3, 4))
    waiting = device.wait_for("copy in", ended=True, beside=running)
    assert not any(event.operation == "run" and event.slot == waiting for event in device.events)
    device.let_go("run")
    assert first.result()[:, 0].tolist() == [1, 2]
    assert second.result()[:, 0].tolist() == [3, 4]
    runs = [event for event in device.events if event.operation == "run"]
    assert [(event.slot, event.ended) for event in runs] == [
        (running, False),
        (running, True),
        (waiting, False),
        (waiting, True),
    ]


def test_embeddings_are_copied_while_the_next_batch_computes(
    device: FakeDevice, session: BoundSession, threads: ThreadPoolExecutor
) -> None:
    """While a batch's embeddings are copied out the next batch computes."""
    device.hold("copy out")
    first = threads.submit(session.run, colors(1))
    leaving = device.wait_for("copy out", ended=False)
    second = threads.submit(session.run, colors(2))
    device.wait_for("run", ended=True, beside=leaving)
    device.let_go("copy out")
    assert [first.result()[0, 0], second.result()[0, 0]] == [1, 2]


def test_slots_share_nothing(device: FakeDevice, session: BoundSession) -> None:
    """Batches in flight have separate memory on both sides, and the result is not a view of it."""
    with session.stage(4) as first, session.stage(4) as second:
        assert not np.shares_memory(first.images, second.images)
        first.images[:], second.images[:] = 1, 2
        embeddings = first.run(4)
        assert second.run(4)[:, 0].tolist() == [2] * 4
        first.images[:] = 9
        first.run(4)
        assert embeddings[:, 0].tolist() == [1] * 4


def test_the_fake_device_reports_writes_during_a_copy(threads: ThreadPoolExecutor) -> None:
    """A slot that is written while it is copied is a fault, which the other tests rely on."""
    device = FakeDevice()
    session, _ = bound(device, SMALL)
    session.run(colors(0))
    device.forget()
    device.hold("copy in")
    with session.stage(1) as buffer:
        buffer.images[:] = 1
        run = threads.submit(buffer.run, 1)
        device.wait_for("copy in", ended=False)
        buffer.images[:] = 2
        device.let_go("copy in")
        run.result()
    assert len(device.faults) == 1
    session.close()


def test_every_slot_is_warm_before_it_is_used() -> None:
    """The first run of a size runs it in every slot, each with its own graph id, and all in one thread."""
    device = FakeDevice()
    session, gpu_model = bound(device, SMALL)
    for rows in (4, 1):
        device.forget()
        session.run(colors(*range(rows)))
        warmed = [event.slot for event in device.events if event.operation == "run" and event.ended]
        assert warmed[:2] == [0, 1]
    with ThreadPoolExecutor(2) as threads:
        list(threads.map(session.run, [colors(1)] * 4))
    assert sorted(gpu_model.graphs.values()) == [(0, 1), (0, 4), (1, 1), (1, 4)]
    assert len(gpu_model.threads) == 1
    session.close()


def test_warm_up_waits_for_the_batches_in_flight(
    device: FakeDevice, session: BoundSession, threads: ThreadPoolExecutor
) -> None:
    """A new size does not run in a slot whose embeddings are not copied out yet."""
    device.hold("copy out")
    first = threads.submit(session.run, colors(1))
    leaving = device.wait_for("copy out", ended=False)
    before = list(device.events)
    new = threads.submit(session.run, colors(5, 6, 7))
    # Nothing may happen, so there is no event to wait for: a run would start within this time.
    with pytest.raises(TimeoutError):
        device.wait_for("run", ended=False, beside=leaving, seconds=0.3)
    assert device.events == before
    device.let_go("copy out")
    assert first.result()[:, 0].tolist() == [1]
    assert new.result()[:, 0].tolist() == [5, 6, 7]


@pytest.mark.parametrize("operation", ["copy in", "run", "copy out"])
def test_a_failing_batch_fails_alone(device: FakeDevice, session: BoundSession, operation: str) -> None:
    """Whichever operation fails, only its batch fails, and every slot runs the next ones."""
    device.fails = operation
    with pytest.raises(RuntimeError, match=f"the {operation} fails by request"):
        session.run(colors(1))
    for value in (2, 3, 4):
        assert session.run(colors(value))[0, 0] == value


def test_closing_frees_all_memory(device: FakeDevice, threads: ThreadPoolExecutor) -> None:
    """Closing waits for the batch under way, gives every slot back once, and nothing runs after it."""
    session, _ = bound(device, SMALL)
    session.run(colors(0))
    device.forget()
    device.hold("run")
    run = threads.submit(session.run, colors(1))
    device.wait_for("run", ended=False)
    closing = threads.submit(session.close)
    assert len(device.open_slots) == 2
    device.let_go("run")
    closing.result()
    assert run.result()[0, 0] == 1
    session.close()
    assert device.open_slots == {}
    with pytest.raises(RuntimeError, match="closed"):
        session.run(colors(1))


def test_a_failed_allocation_leaves_no_memory() -> None:
    """Where the second slot cannot be allocated, the first is freed."""

    class Small(FakeDevice):
        def slot(self, rows: int, image: tuple[int, int, int], dim: int) -> FakeSlot:
            if self.open_slots:
                raise MemoryError("no room for another")
            return super().slot(rows, image, dim)

    small = Small()
    with pytest.raises(MemoryError):
        bound(small, SMALL)
    assert small.open_slots == {}


@pytest.mark.parametrize("rows", [0, 5])
def test_batches_that_do_not_fit_are_rejected(session: BoundSession, rows: int) -> None:
    """A batch with more rows than there is memory for never reaches the device."""
    with pytest.raises(ValueError, match=f"cannot run {rows} images at once; there is memory for 1 to 4"):
        session.run(colors(*range(rows)) if rows else np.empty((0, 2, 2, 3), dtype=np.uint8))
