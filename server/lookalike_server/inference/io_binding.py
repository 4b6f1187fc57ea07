"""A model on a device with memory of its own: batches are copied in, run at fixed addresses, and copied out.

Several batches are in flight: one computes while another is copied. Each has a `Slot`, which nobody else touches from
the moment it is taken until it is put back. All runs are made by one thread, one after the other: a device computes one
batch at a time anyway, and ONNX Runtime keeps the CUDA graphs that it records by the thread that ran them.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from queue import SimpleQueue
from typing import Protocol

import numpy as np

from lookalike_server.domain.inference import Floats, Model, Pixels
from lookalike_server.domain.protocols import Session, Stage
from lookalike_server.inference.device import Device, Slot

IN_FLIGHT = 2
"""Batches at once, unless told otherwise: one computes, the other is copied."""

Act = Callable[[], None]
"""Computes what lies in a slot, and returns when it is computed."""


class Bindable(Protocol):
    """A loaded model whose ends can be bound to addresses."""

    @property
    def provider(self) -> str:
        """What runs it."""

    def bind(self, kind: str, input_address: int, output_address: int, rows: int, graph: int) -> Act:
        """What runs so many images from one address of a device's memory to another.

        Args:
            kind: What ONNX Runtime calls the device's memory.
            input_address: Of uint8 [rows, height, width, 3].
            output_address: Of float32 [rows, dim].
            rows: Images of a run.
            graph: A number of its own, above 0, under which a CUDA graph of it is kept.
        """


class BoundSession(Session):
    """A model bound to the slots of a device; `in_flight` threads may run it at once."""

    fixed_shapes = True
    gains_from_lanes = False

    def __init__(
        self, session: Bindable, device: Device, model: Model, *, rows: int, in_flight: int = IN_FLIGHT
    ) -> None:
        """Take the device's memory.

        Args:
            session: The loaded model.
            device: Where it runs.
            model: What goes in and comes out.
            rows: The most images in a run.
            in_flight: Batches at once.
        """
        self.skipped: Sequence[str] = getattr(session, "skipped", ())
        """Why `auto` passed over the providers before the one that runs."""
        self._session = session
        self._device = device
        self._rows = rows
        self._closed = False
        self._preparing = threading.Lock()
        self._acts: dict[tuple[Slot, int], Act] = {}
        self._memory = ExitStack()
        self._slots: list[Slot] = []
        with ExitStack() as stack:
            for _ in range(in_flight):
                slot = device.slot(rows, (model.height, model.width, 3), model.dim)
                stack.callback(slot.close)
                self._slots.append(slot)
            self._memory = stack.pop_all()
        self._free: SimpleQueue[Slot] = SimpleQueue()
        for slot in self._slots:
            self._free.put(slot)
        self._runner = ThreadPoolExecutor(1, thread_name_prefix="device")

    @property
    def provider(self) -> str:
        """The ONNX Runtime provider that runs it."""
        return self._session.provider

    @property
    def in_flight(self) -> int:
        """Batches at once."""
        return len(self._slots)

    def run(self, images: Pixels) -> Floats:
        """Embed uint8 [n, height, width, 3] from anywhere in memory: float32 [n, dim]."""
        with self.stage(len(images)) as stage:
            np.copyto(stage.images, images)
            return stage.run(len(images))

    @contextmanager
    def stage(self, rows: int) -> Iterator[_Staged]:
        """A slot for a run of so many rows; the first time every slot is run with as many, which records its graph.

        Rows that are not filled keep what was in them, here and on the device: they cost nothing, no row's embedding
        depends on another's, and those of such rows are not copied out.
        """
        if self._closed:
            raise RuntimeError("the session is closed")
        with self._preparing:
            if (self._slots[0], rows) not in self._acts:
                self._prepare(rows)
        slot = self._free.get()
        try:
            yield _Staged(slot, rows, self._acts[slot, rows], self._runner)
        finally:
            self._free.put(slot)

    def close(self) -> None:
        """Let the runs under way end and give the device's memory back; nothing may be run any more."""
        if self._closed:
            return
        self._closed = True
        for _ in self._slots:
            self._free.get()  # put back when its batch is done
        self._runner.shutdown()
        self._acts.clear()
        self._memory.close()

    def _prepare(self, rows: int) -> None:
        if not 1 <= rows <= self._rows:
            raise ValueError(f"a run of {rows} images, where there is memory for 1 to {self._rows}")
        # All slots at once: what a slot's first run writes must not meet a batch that is not copied out yet, and while
        # a graph is recorded nobody else may ask the card for anything.
        slots = [self._free.get() for _ in self._slots]
        try:
            acts: dict[tuple[Slot, int], Act] = {}
            for at, slot in enumerate(self._slots):
                graph = 1 + at * self._rows + rows
                act = self._session.bind(self._device.kind, slot.input, slot.output, rows, graph)
                slot.copy_in(rows)
                self._runner.submit(act).result()
                slot.copy_out(rows)
                acts[slot, rows] = act
            self._acts.update(acts)
        finally:
            for slot in slots:
                self._free.put(slot)


class _Staged(Stage):
    """A slot in the hands of one batch."""

    def __init__(self, slot: Slot, rows: int, act: Act, runner: ThreadPoolExecutor) -> None:
        self.images = slot.images[:rows]
        self._slot, self._act, self._runner = slot, act, runner

    def run(self, size: int) -> Floats:
        """Copy in, wait for the device, compute, copy out."""
        self._slot.copy_in(size)
        self._runner.submit(self._act).result()
        self._slot.copy_out(size)
        # Its own memory: the slot is the next batch's as soon as it is put back.
        return self._slot.vectors[:size].copy()
