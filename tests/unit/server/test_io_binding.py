"""A model bound to a device's memory: what is copied when, by whom, and that nobody meets another batch's rows."""

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
RUNGS = (1, 2, 4, 8)


def colors(*values: int) -> Pixels:
    """An image of each color: uint8 [n, 2, 2, 3]."""
    return np.stack([np.full((2, 2, 3), value, dtype=np.uint8) for value in values])


@pytest.fixture
def device() -> Iterator[FakeDevice]:
    """A device that must have found nothing wrong in the end."""
    device = FakeDevice()
    yield device
    assert device.faults == []


@pytest.fixture
def session(device: FakeDevice) -> Iterator[BoundSession]:
    """A session on it that has run its sizes, two batches in flight."""
    session, _ = bound(device, SMALL)
    for rows in (1, 2, 4):
        session.run(colors(*range(rows)))
    device.forget()
    yield session
    session.close()


@pytest.fixture
def lanes() -> Iterator[ThreadPoolExecutor]:
    """Two threads that run batches."""
    with ThreadPoolExecutor(2) as threads:
        yield threads


def test_bound_runs_answer_as_plain_ones_do() -> None:
    """ONNX Runtime answers through its IO binding, for every size and padded, what it answers without, bit for bit."""
    plain = OnnxSession(FOLDER, "cpu", 1)
    images = np.stack([noise(seed) for seed in range(8)])
    session = BoundSession(OnnxSession(FOLDER, "cpu", 1), HostDevice(), FOLDER.model, rows=8)
    for rows in RUNGS:
        assert np.array_equal(session.run(images[:rows]), plain.run(images[:rows]))
    for size in range(1, 9):
        rows = next(profile for profile in RUNGS if profile >= size)
        for at in range(3):  # in both slots, and with what an earlier batch left
            shown = np.roll(images, at, axis=0)
            with session.stage(rows) as stage:
                stage.images[:size] = shown[:size]
                found = stage.run(size)
            assert np.array_equal(found, plain.run(shown[:rows])[:size])
    session.close()


def test_one_copy_in_and_one_out(device: FakeDevice, session: BoundSession) -> None:
    """A batch is one copy in, one run and one copy out, in this order, and of padding nothing is copied."""
    with session.stage(4) as stage:
        stage.images[:3] = colors(7, 8, 9)
        assert stage.run(3)[:, 0].tolist() == [7, 8, 9]
    slot = device.events[0].slot
    acts = (("copy in", 3), ("run", 4), ("copy out", 3))
    assert device.events == [Event(what, slot, rows, ended) for what, rows in acts for ended in (False, True)]


def test_padding_reaches_nobody(session: BoundSession) -> None:
    """Rows that an earlier batch left in a slot change no answer and are no answer."""
    for _ in range(2):  # both slots
        session.run(colors(250, 251, 252, 253))
    for _ in range(2):
        with session.stage(4) as stage:
            stage.images[:1] = colors(3)
            assert stage.run(1)[:, 0].tolist() == [3]


def test_next_batch_is_copied_while_one_computes(
    device: FakeDevice, session: BoundSession, lanes: ThreadPoolExecutor
) -> None:
    """While the device computes a batch the next one is copied in; its run begins when the first is over."""
    device.hold("run")
    first = lanes.submit(session.run, colors(1, 2))
    running = device.wait_for("run", ended=False)
    second = lanes.submit(session.run, colors(3, 4))
    waiting = device.wait_for("copy in", ended=True, beside=running)
    assert not any(event.what == "run" and event.slot == waiting for event in device.events)
    device.let_go("run")
    assert first.result()[:, 0].tolist() == [1, 2]
    assert second.result()[:, 0].tolist() == [3, 4]
    runs = [event for event in device.events if event.what == "run"]
    assert [(event.slot, event.ended) for event in runs] == [
        (running, False),
        (running, True),
        (waiting, False),
        (waiting, True),
    ]


def test_answers_are_copied_while_the_next_computes(
    device: FakeDevice, session: BoundSession, lanes: ThreadPoolExecutor
) -> None:
    """While a batch's embeddings are copied out the next batch is computed already."""
    device.hold("copy out")
    first = lanes.submit(session.run, colors(1))
    leaving = device.wait_for("copy out", ended=False)
    second = lanes.submit(session.run, colors(2))
    device.wait_for("run", ended=True, beside=leaving)
    device.let_go("copy out")
    assert [first.result()[0, 0], second.result()[0, 0]] == [1, 2]


def test_slots_share_nothing(device: FakeDevice, session: BoundSession) -> None:
    """Two batches in flight have memory of their own on both sides, and an answer is no view of it."""
    with session.stage(4) as first, session.stage(4) as second:
        assert not np.shares_memory(first.images, second.images)
        first.images[:], second.images[:] = 1, 2
        answer = first.run(4)
        assert second.run(4)[:, 0].tolist() == [2] * 4
        first.images[:] = 9
        first.run(4)
        assert answer[:, 0].tolist() == [1] * 4


def test_writing_while_it_is_copied_is_noticed(lanes: ThreadPoolExecutor) -> None:
    """The fake device tells when somebody fills a slot whose copy is under way."""
    device = FakeDevice()
    session, _ = bound(device, SMALL)
    session.run(colors(0))
    device.forget()
    device.hold("copy in")
    with session.stage(1) as stage:
        stage.images[:] = 1
        under_way = lanes.submit(stage.run, 1)
        device.wait_for("copy in", ended=False)
        stage.images[:] = 2
        device.let_go("copy in")
        under_way.result()
    assert len(device.faults) == 1
    session.close()


def test_every_slot_is_warm_before_it_is_used() -> None:
    """The first run of a size runs it in every slot, each under a number of its own, and all by one thread."""
    device = FakeDevice()
    session, card = bound(device, SMALL)
    for rows in (4, 1):
        device.forget()
        session.run(colors(*range(rows)))
        warmed = [event.slot for event in device.events if event.what == "run" and event.ended]
        assert warmed[:2] == [0, 1]
    with ThreadPoolExecutor(2) as lanes:
        list(lanes.map(session.run, [colors(1)] * 4))
    assert sorted(card.graphs.values()) == [(0, 1), (0, 4), (1, 1), (1, 4)]
    assert len(card.threads) == 1
    session.close()


def test_warming_waits_for_the_batches_in_flight(
    device: FakeDevice, session: BoundSession, lanes: ThreadPoolExecutor
) -> None:
    """A size that is new is not warmed in a slot whose answers are not copied out yet."""
    device.hold("copy out")
    first = lanes.submit(session.run, colors(1))
    leaving = device.wait_for("copy out", ended=False)
    before = list(device.events)
    new = lanes.submit(session.run, colors(5, 6, 7))
    # Nothing may happen, so there is nothing to wait for: were it to begin, it would within this time.
    with pytest.raises(TimeoutError):
        device.wait_for("run", ended=False, beside=leaving, seconds=0.3)
    assert device.events == before
    device.let_go("copy out")
    assert first.result()[:, 0].tolist() == [1]
    assert new.result()[:, 0].tolist() == [5, 6, 7]


@pytest.mark.parametrize("what", ["copy in", "run", "copy out"])
def test_a_failure_is_its_batch_s_own(device: FakeDevice, session: BoundSession, what: str) -> None:
    """Whatever fails, only that batch is told, and every slot serves the next ones."""
    device.fails = what
    with pytest.raises(RuntimeError, match=f"the {what} fails by request"):
        session.run(colors(1))
    for value in (2, 3, 4):
        assert session.run(colors(value))[0, 0] == value


def test_closing_gives_everything_back(device: FakeDevice, lanes: ThreadPoolExecutor) -> None:
    """Closing waits for the batch under way, gives every slot back once, and nothing runs after it."""
    session, _ = bound(device, SMALL)
    session.run(colors(0))
    device.forget()
    device.hold("run")
    under_way = lanes.submit(session.run, colors(1))
    device.wait_for("run", ended=False)
    closing = lanes.submit(session.close)
    assert len(device.open_slots) == 2
    device.let_go("run")
    closing.result()
    assert under_way.result()[0, 0] == 1
    session.close()
    assert device.open_slots == {}
    with pytest.raises(RuntimeError, match="closed"):
        session.run(colors(1))


def test_memory_that_cannot_be_had_leaves_none_behind() -> None:
    """Where the second slot cannot be made, the first is given back."""

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
def test_runs_that_have_no_memory_are_rejected(session: BoundSession, rows: int) -> None:
    """A run of more rows than there is memory for never reaches the device."""
    with pytest.raises(ValueError, match=f"a run of {rows} images, where there is memory for 1 to 4"):
        session.run(colors(*range(rows)) if rows else np.empty((0, 2, 2, 3), dtype=np.uint8))
