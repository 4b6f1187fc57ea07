"""A model on a device with memory of its own: batches are copied in, run at fixed addresses (IO binding), copied out.

Several batches are in flight: one computes while another is copied. Each has a `Slot` to itself until its embeddings
are copied out. One thread makes all runs, one after the other: a device computes one batch at a time anyway, and ONNX
Runtime keeps recorded CUDA graphs per thread.
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
from lookalike_server.domain.protocols import Session, StagingBuffer
from lookalike_server.inference.device import Device, Slot

IN_FLIGHT = 2
"""The default of batches in flight: one computes, the other is copied."""

RunBatch = Callable[[], None]
"""Computes the batch in a slot, and returns when it is done."""


class Bindable(Protocol):
    """A loaded model whose input and output can be bound to addresses."""

    @property
    def provider(self) -> str:
        """The ONNX Runtime provider that runs it."""

    @property
    def library(self) -> str:
        """ONNX Runtime and its version."""

    @property
    def precision(self) -> str:
        """What it computes in."""

    def bind(self, kind: str, input_address: int, output_address: int, rows: int, graph: int) -> RunBatch:
        """Bind a run of `rows` images from one address of a device's memory to another.

        Args:
            kind: ONNX Runtime's name for the device's memory.
            input_address: Of uint8 [rows, height, width, 3].
            output_address: Of float32 [rows, dim].
            rows: Images per run.
            graph: A unique id above 0 for the CUDA graph that is recorded of it.
        """


class BoundSession(Session):
    """A model bound to the slots of a device; `in_flight` threads may run it at once."""

    fixed_shapes = True
    gains_from_concurrency = False

    def __init__(
        self, session: Bindable, device: Device, model: Model, *, rows: int, in_flight: int = IN_FLIGHT
    ) -> None:
        """Allocate the device's memory.

        Args:
            session: The loaded model.
            device: Where it runs.
            model: The shapes of its input and output.
            rows: The most images in a batch.
            in_flight: Batches in flight at once.

        Raises:
            CudaError: When a GPU has too little memory.
        """
        self.skipped: Sequence[str] = getattr(session, "skipped", ())
        """Why `auto` passed over the providers before the one that runs."""
        self._session = session
        self._device = device
        self._rows = rows
        self._closed = False
        self._preparing = threading.Lock()
        self._runs: dict[tuple[Slot, int], RunBatch] = {}
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
        """The ONNX Runtime provider that runs the model."""
        return self._session.provider

    @property
    def library(self) -> str:
        """ONNX Runtime and its version."""
        return self._session.library

    @property
    def precision(self) -> str:
        """What the model computes in."""
        return self._session.precision

    @property
    def in_flight(self) -> int:
        """Batches at once: one per slot."""
        return len(self._slots)

    def run(self, images: Pixels) -> Floats:
        """Embed uint8 [n, height, width, 3] from any memory: float32 [n, dim]."""
        with self.stage(len(images)) as buffer:
            np.copyto(buffer.images, images)
            return buffer.run(len(images))

    @contextmanager
    def stage(self, rows: int) -> Iterator[_SlotBuffer]:
        """Take a slot for a run of `rows` images; the first time, each slot runs that many, which records its graph.

        Rows that are not filled keep their old content: no row's embedding depends on another row, and those of
        unfilled rows are not copied out.

        Raises:
            RuntimeError: When the session is closed.
            ValueError: When `rows` is not 1 to the most images in a batch.
        """
        if self._closed:
            raise RuntimeError("the session is closed")
        with self._preparing:
            if (self._slots[0], rows) not in self._runs:
                self._prepare(rows)
        slot = self._free.get()
        try:
            yield _SlotBuffer(slot, rows, self._runs[slot, rows], self._runner)
        finally:
            self._free.put(slot)

    def close(self) -> None:
        """Wait for the runs under way and free the device's memory; nothing may run afterwards."""
        if self._closed:
            return
        self._closed = True
        for _ in self._slots:
            self._free.get()  # waits until its batch is done
        self._runner.shutdown()
        self._runs.clear()
        self._memory.close()

    def _prepare(self, rows: int) -> None:
        if not 1 <= rows <= self._rows:
            raise ValueError(f"cannot run {rows} images at once; there is memory for 1 to {self._rows}")
        # All slots at once: a slot's first run must not overwrite a batch that is not copied out yet, and nothing else
        # may use the GPU while a graph is recorded.
        slots = [self._free.get() for _ in self._slots]
        try:
            runs: dict[tuple[Slot, int], RunBatch] = {}
            for index, slot in enumerate(self._slots):
                graph = 1 + index * self._rows + rows
                run = self._session.bind(self._device.kind, slot.input, slot.output, rows, graph)
                slot.copy_in(rows)
                self._runner.submit(run).result()
                slot.copy_out(rows)
                runs[slot, rows] = run
            self._runs.update(runs)
        finally:
            for slot in slots:
                self._free.put(slot)


class _SlotBuffer(StagingBuffer):
    """A slot while one batch has it."""

    def __init__(self, slot: Slot, rows: int, run: RunBatch, runner: ThreadPoolExecutor) -> None:
        self.images = slot.images[:rows]
        self._slot, self._run, self._runner = slot, run, runner

    def run(self, size: int) -> Floats:
        """Copy in, compute, copy out: float32 [size, dim]."""
        self._slot.copy_in(size)
        self._runner.submit(self._run).result()
        self._slot.copy_out(size)
        # A copy, because the next batch overwrites the slot.
        return self._slot.vectors[:size].copy()
