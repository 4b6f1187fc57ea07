"""A card that is none: memory of its own, a fixed cost for every image, and a record of who did what when.

`load` is a `LoadSession`, so a whole server runs on it: `running(settings, load_session=fake_device.load)`.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import NamedTuple

import numpy as np

from lookalike_server.config import Settings
from lookalike_server.domain.inference import Floats, Model, Pixels
from lookalike_server.inference.device import HostDevice, HostSlot
from lookalike_server.inference.io_binding import IN_FLIGHT, Act, Bindable, BoundSession
from lookalike_server.inference.manifest import ModelFolder
from lookalike_server.inference.onnx_session import OnnxSession

SECONDS_A_IMAGE = 1e-4
"""What `load`'s card takes: ten thousand images a second, whatever the processor does meanwhile."""

Embed = Callable[[Pixels], Floats]


class Event(NamedTuple):
    """Something that a device began or ended: "copy in", "run" or "copy out", in which slot, and of how many rows."""

    what: str
    slot: int
    rows: int
    ended: bool


class FakeDevice(HostDevice):
    """Slots that know what happens to them. What it finds wrong is in `faults`."""

    def __init__(self) -> None:
        self.events: list[Event] = []
        self.faults: list[str] = []
        self.open_slots: dict[int, FakeSlot] = {}
        """By the address of their input."""
        self.fails: str | None = None
        """What fails once, the next time it begins."""
        self._changed = threading.Condition()
        self._held: set[str] = set()
        self._made = 0

    def slot(self, rows: int, image: tuple[int, int, int], dim: int) -> FakeSlot:
        """Make one."""
        slot = FakeSlot(self, self._made, rows, image, dim)
        self._made += 1
        self.open_slots[slot.input] = slot
        return slot

    def hold(self, what: str) -> None:
        """From now on every act of this kind waits before it does anything."""
        with self._changed:
            self._held.add(what)

    def let_go(self, what: str) -> None:
        """Let those that wait, and all later ones, go on."""
        with self._changed:
            self._held.discard(what)
            self._changed.notify_all()

    def wait_for(self, what: str, *, ended: bool, beside: int | None = None, seconds: float = 30.0) -> int:
        """The slot in which this has happened since `forget`, once it has; a TimeoutError when it does not.

        Args:
            what: The act.
            ended: Whether it must be over, or only have begun.
            beside: A slot that is not meant.
            seconds: How long to wait.
        """
        found: list[int] = []

        def happened() -> bool:
            found[:] = [each.slot for each in self.events if each.what == what and each.ended == ended]
            found[:] = [slot for slot in found if slot != beside]
            return bool(found)

        with self._changed:
            if not self._changed.wait_for(happened, seconds):
                raise TimeoutError(f"no {what} {'ended' if ended else 'began'}: {self.events}")
        return found[0]

    def forget(self) -> None:
        """Forget what happened until now."""
        with self._changed:
            self.events.clear()

    @contextmanager
    def doing(self, what: str, slot: int, rows: int) -> Iterator[None]:
        """Note an act of the device, and hold it or have it fail where that was asked for."""
        self._note(Event(what, slot, rows, ended=False))
        with self._changed:
            if self.fails == what:
                self.fails = None
                raise RuntimeError(f"the {what} fails by request")
            if not self._changed.wait_for(lambda: what not in self._held, 30):
                raise TimeoutError(f"the test never let the {what} go")
        yield
        self._note(Event(what, slot, rows, ended=True))

    def _note(self, event: Event) -> None:
        with self._changed:
            self.events.append(event)
            self._changed.notify_all()


class FakeSlot(HostSlot):
    """A slot that notices when somebody writes to the host's side while it is copied."""

    def __init__(self, device: FakeDevice, number: int, rows: int, image: tuple[int, int, int], dim: int) -> None:
        super().__init__(rows, image, dim)
        self.number = number
        self._device = device

    def copy_in(self, rows: int) -> None:
        """Copy as a card does: some of it when the copy begins, the rest when it ends."""
        before = self.images[:rows].copy()
        with self._device.doing("copy in", self.number, rows):
            super().copy_in(rows)
        if not np.array_equal(before, self.images[:rows]):
            self._device.faults.append(f"slot {self.number}: images were written while they were copied")

    def copy_out(self, rows: int) -> None:
        """Copy; numbers that no run wrote are a fault."""
        with self._device.doing("copy out", self.number, rows):
            super().copy_out(rows)
        if np.isnan(self.vectors[:rows]).any():
            self._device.faults.append(f"slot {self.number}: embeddings were copied before they were computed")

    def close(self) -> None:
        """Give it back, once."""
        del self._device.open_slots[self.input]


class FakeCard(Bindable):
    """A model on a `FakeDevice`: one run at a time, all by one thread, each image of a run for a fixed time."""

    provider = "FakeCard"

    def __init__(self, device: FakeDevice, embed: Embed, seconds_a_image: float = 0.0) -> None:
        self.graphs: dict[int, tuple[int, int]] = {}
        """The slot and rows of every number that a graph was bound under."""
        self.threads: set[int] = set()
        self._device = device
        self._embed = embed
        self._seconds = seconds_a_image
        self._busy = threading.Lock()

    def bind(self, kind: str, input_address: int, output_address: int, rows: int, graph: int) -> Act:
        """Bind to a slot of the device; an address that is none of its is a KeyError."""
        slot = self._device.open_slots[input_address]
        if (kind, output_address) != (self._device.kind, slot.output) or graph < 1 or graph in self.graphs:
            self._device.faults.append(f"slot {slot.number}: bound wrongly ({kind}, graph {graph})")
        self.graphs[graph] = slot.number, rows

        def run() -> None:
            self.threads.add(threading.get_ident())
            if not self._busy.acquire(blocking=False):
                self._device.faults.append("two runs at once")
                return
            try:
                slot.device_vectors[:rows] = np.nan
                with self._device.doing("run", slot.number, rows):
                    time.sleep(self._seconds * rows)
                    slot.device_vectors[:rows] = self._embed(slot.device_images[:rows])
            finally:
                self._busy.release()

        return run


def mean_color(images: Pixels) -> Floats:
    """float32 [n, 3] of uint8 [n, height, width, 3]."""
    means: Floats = images.astype(np.float32).mean(axis=(1, 2))
    return means


def bound(
    device: FakeDevice, model: Model, *, rows: int = 4, embed: Embed = mean_color, in_flight: int = IN_FLIGHT
) -> tuple[BoundSession, FakeCard]:
    """A session on a fake card that costs nothing, and the card."""
    card = FakeCard(device, embed)
    return BoundSession(card, device, model, rows=rows, in_flight=in_flight), card


def load(folder: ModelFolder, settings: Settings, device: FakeDevice | None = None) -> BoundSession:
    """Load the real model onto a fake card: right embeddings, at a fixed cost."""
    embed = OnnxSession(folder, "cpu", 1).run
    device = device or FakeDevice()
    card = FakeCard(device, embed, SECONDS_A_IMAGE)
    in_flight = settings.max_concurrent_batches or IN_FLIGHT
    return BoundSession(card, device, folder.model, rows=settings.max_batch_size, in_flight=in_flight)
