"""A fake GPU: memory of its own, a fixed time per image, and a record of every operation.

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
from lookalike_server.inference.cuda import CudaError
from lookalike_server.inference.device import HostDevice, HostSlot
from lookalike_server.inference.io_binding import IN_FLIGHT, Bindable, BoundSession, RunBatch
from lookalike_server.inference.manifest import ModelFolder
from lookalike_server.inference.onnx_session import OnnxSession

SECONDS_PER_IMAGE = 1e-4
"""Of `load`'s device: ten thousand images per second, whatever the CPU does meanwhile."""

OUT_OF_MEMORY = (
    "[ONNXRuntimeError] : 6 : RUNTIME_EXCEPTION : Non-zero status code returned while running Conv node. Name:'conv1'"
    " Status Message: /onnxruntime_src/onnxruntime/core/framework/bfc_arena.cc:376 void* onnxruntime::BFCArena"
    "::AllocateRawInternal(size_t, bool, onnxruntime::Stream*) Failed to allocate memory for requested buffer of size"
    " 4194304"
)
"""What ONNX Runtime raises where a run finds too little memory."""

ILLEGAL_ADDRESS = (
    "[ONNXRuntimeError] : 1 : FAIL : CUDA failure 700: an illegal memory access was encountered ; GPU=0 ; hostname=gpu"
    " ; file=/onnxruntime_src/onnxruntime/core/providers/cuda/cuda_stream_handle.cc ; line=70 ;"
    " expr=cudaStreamSynchronize(static_cast<cudaStream_t>(GetHandle()));"
)
"""What it raises where a kernel accessed memory that is not there."""

Embed = Callable[[Pixels], Floats]

Fits = Callable[[str, int], bool]
"""Whether memory suffices for an operation ("allocate" or "run") of so many rows."""


class Event(NamedTuple):
    """The start or end of an operation ("copy in", "run" or "copy out") on some rows of a slot."""

    operation: str
    slot: int
    rows: int
    ended: bool


class FakeDevice(HostDevice):
    """A device that records its operations, and violations of their order in `faults`."""

    def __init__(self) -> None:
        self.events: list[Event] = []
        self.faults: list[str] = []
        self.open_slots: dict[int, FakeSlot] = {}
        """By the address of their input."""
        self.fails: str | None = None
        """An operation that fails once, the next time it starts."""
        self.fits: Fits = lambda _operation, _rows: True
        self.breaks_at: str | None = None
        """An operation at which the device breaks: it and whatever follows fails, as after a sticky error of CUDA."""
        self._is_broken = False
        self._changed = threading.Condition()
        self._held: set[str] = set()
        self._made = 0

    def slot(self, rows: int, image: tuple[int, int, int], dim: int) -> FakeSlot:
        """Create a slot that reports to this device.

        Raises:
            CudaError: When the test says that it does not fit.
        """
        if not self.fits("allocate", rows):
            raise CudaError("cudaMalloc failed: cudaErrorMemoryAllocation (out of memory)")
        slot = FakeSlot(self, self._made, rows, image, dim)
        self._made += 1
        self.open_slots[slot.input] = slot
        return slot

    def hold(self, operation: str) -> None:
        """Have every operation of this kind wait before it starts."""
        with self._changed:
            self._held.add(operation)

    def let_go(self, operation: str) -> None:
        """Let the waiting operations of this kind, and all later ones, proceed."""
        with self._changed:
            self._held.discard(operation)
            self._changed.notify_all()

    def wait_for(self, operation: str, *, ended: bool, beside: int | None = None, seconds: float = 60.0) -> int:
        """Wait until this has happened since `forget`, and return its slot.

        Args:
            operation: Its kind.
            ended: Whether it must have ended, or only started.
            beside: A slot to ignore.
            seconds: How long to wait.

        Raises:
            TimeoutError: When it does not happen.
        """
        found: list[int] = []

        def happened() -> bool:
            found[:] = [each.slot for each in self.events if each.operation == operation and each.ended == ended]
            found[:] = [slot for slot in found if slot != beside]
            return bool(found)

        with self._changed:
            if not self._changed.wait_for(happened, seconds):
                raise TimeoutError(f"no {operation} {'ended' if ended else 'started'}: {self.events}")
        return found[0]

    def forget(self) -> None:
        """Forget the operations until now."""
        with self._changed:
            self.events.clear()

    @contextmanager
    def operation(self, operation: str, slot: int, rows: int) -> Iterator[None]:
        """Record an operation, and hold it or fail where a test wants that."""
        self._record(Event(operation, slot, rows, ended=False))
        with self._changed:
            if self.fails == operation:
                self.fails = None
                raise RuntimeError(f"the {operation} fails by request")
            if not self._changed.wait_for(lambda: operation not in self._held, 240):
                raise TimeoutError(f"the test never let the {operation} go")
            self._is_broken = self._is_broken or self.breaks_at == operation
            if self._is_broken and operation == "run":
                raise RuntimeError(ILLEGAL_ADDRESS)
            if self._is_broken:
                raise CudaError(
                    "cudaStreamSynchronize failed: cudaErrorIllegalAddress (an illegal memory access was encountered)"
                )
            if operation == "run" and not self.fits(operation, rows):
                raise RuntimeError(OUT_OF_MEMORY)
        yield
        self._record(Event(operation, slot, rows, ended=True))

    def _record(self, event: Event) -> None:
        with self._changed:
            self.events.append(event)
            self._changed.notify_all()


class FakeSlot(HostSlot):
    """A slot that notices when the host's side is written while it is copied."""

    def __init__(self, device: FakeDevice, number: int, rows: int, image: tuple[int, int, int], dim: int) -> None:
        super().__init__(rows, image, dim)
        self.number = number
        self._device = device

    def copy_in(self, rows: int) -> None:
        """Copy, and report a fault where the images change between the start and the end of the copy."""
        before = self.images[:rows].copy()
        with self._device.operation("copy in", self.number, rows):
            super().copy_in(rows)
        if not np.array_equal(before, self.images[:rows]):
            self._device.faults.append(f"slot {self.number}: images were written while they were copied")

    def copy_out(self, rows: int) -> None:
        """Copy, and report a fault where no run wrote the embeddings."""
        with self._device.operation("copy out", self.number, rows):
            super().copy_out(rows)
        if np.isnan(self.vectors[:rows]).any():
            self._device.faults.append(f"slot {self.number}: embeddings were copied before they were computed")

    def close(self) -> None:
        """Remove it from the device's open slots; closing it twice is a KeyError."""
        del self._device.open_slots[self.input]


class FakeGpuModel(Bindable):
    """A model on a `FakeDevice`: one run at a time, all in one thread, with a fixed time per image."""

    provider = "FakeGpuModel"
    library = "NumPy"
    precision = "fp32"

    def __init__(self, device: FakeDevice, embed: Embed, seconds_per_image: float = 0.0) -> None:
        self.graphs: dict[int, tuple[int, int]] = {}
        """Slot and rows by the id of each CUDA graph that was bound."""
        self.threads: set[int] = set()
        self._device = device
        self._embed = embed
        self._seconds = seconds_per_image
        self._busy = threading.Lock()

    def bind(self, kind: str, input_address: int, output_address: int, rows: int, graph: int) -> RunBatch:
        """Bind to a slot of the device; an address that is no slot's is a KeyError."""
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
                with self._device.operation("run", slot.number, rows):
                    time.sleep(self._seconds * rows)
                    slot.device_vectors[:rows] = self._embed(slot.device_images[:rows])
            finally:
                self._busy.release()

        return run


def mean_color(images: Pixels) -> Floats:
    """Embed uint8 [n, height, width, 3]: float32 [n, 3]."""
    means: Floats = images.astype(np.float32).mean(axis=(1, 2))
    return means


def bound(
    device: FakeDevice, model: Model, *, rows: int = 4, embed: Embed = mean_color, in_flight: int = IN_FLIGHT
) -> tuple[BoundSession, FakeGpuModel]:
    """Bind a model that takes no time to a fake device; return the session and the model."""
    gpu_model = FakeGpuModel(device, embed)
    return BoundSession(gpu_model, device, model, rows=rows, in_flight=in_flight), gpu_model


def load(folder: ModelFolder, settings: Settings, device: FakeDevice | None = None) -> BoundSession:
    """Load the real model onto a fake device: right embeddings, in a fixed time per image."""
    embed = OnnxSession(folder, "cpu", 1).run
    device = device or FakeDevice()
    gpu_model = FakeGpuModel(device, embed, SECONDS_PER_IMAGE)
    in_flight = settings.max_concurrent_batches or IN_FLIGHT
    return BoundSession(gpu_model, device, folder.model, rows=settings.max_batch_size, in_flight=in_flight)
