"""Memory of the device that searches: a GPU's, or the host's, so that the same code runs where there is no GPU."""

from __future__ import annotations

import ctypes
import weakref
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from lookalike_server.index.device import DeviceSearchError
from lookalike_server.inference.cuda import ON_DEVICE, TO_DEVICE, TO_HOST, CudaError, CudaRuntime, CudaStream

Array = npt.NDArray[Any]


class Buffer:
    """A piece of the device's memory, freed with the last reference to it.

    Attributes:
        address: Where it is.
        size: Its bytes.
    """

    def __init__(self, address: int, size: int) -> None:
        self.address = address
        self.size = size


class DeviceMemory(Protocol):
    """Allocates memory and copies arrays; copies have ended when a call returns. Any thread may call it."""

    @property
    def kind(self) -> str:
        """ONNX Runtime's name for the memory: "cuda" or "cpu"."""

    def allocate(self, size: int) -> Buffer:
        """Allocate so many bytes, whose contents are arbitrary.

        Raises:
            DeviceSearchError: There is too little memory.
        """

    def copy_in(self, address: int, array: Array) -> None:
        """Copy a contiguous array to an address of the device.

        Raises:
            DeviceSearchError: The device failed.
        """

    def copy_out(self, array: Array, address: int) -> None:
        """Fill a contiguous array from an address of the device.

        Raises:
            DeviceSearchError: The device failed.
        """

    def copy(self, target: int, source: int, size: int) -> None:
        """Copy bytes from one address of the device to another.

        Raises:
            DeviceSearchError: The device failed.
        """


class HostMemory(DeviceMemory):
    """Host memory in the place of a GPU's, in arrays of its own, so that a copy that is left out shows.

    Attributes:
        allocated: The bytes of all buffers at present.
    """

    def __init__(self, limit: int | None = None) -> None:
        """Allocate at most `limit` bytes at once, where it is not None."""
        self._limit = limit
        self.allocated = 0

    @property
    def kind(self) -> str:
        """ONNX Runtime's name for host memory."""
        return "cpu"

    def allocate(self, size: int) -> Buffer:
        """Allocate an array that is full of NaN by any type, so that memory which nobody wrote shows."""
        if self._limit is not None and self.allocated + size > self._limit:
            raise DeviceSearchError(f"{size} bytes are not free of {self._limit}")
        array = np.full(size, 0xFF, dtype=np.uint8)
        buffer = Buffer(array.ctypes.data, size)
        self.allocated += size
        weakref.finalize(buffer, self._free, array).atexit = False
        return buffer

    def _free(self, array: Array) -> None:
        self.allocated -= array.nbytes

    def copy_in(self, address: int, array: Array) -> None:
        """Copy from array to array."""
        ctypes.memmove(address, array.ctypes.data, array.nbytes)

    def copy_out(self, array: Array, address: int) -> None:
        """Copy from array to array."""
        ctypes.memmove(array.ctypes.data, address, array.nbytes)

    def copy(self, target: int, source: int, size: int) -> None:
        """Copy from array to array."""
        ctypes.memmove(target, source, size)


class CudaMemory(DeviceMemory):
    """The memory of the first GPU that CUDA lists. Copies are on a stream of their own, beside what is computed."""

    def __init__(self, runtime: CudaRuntime) -> None:
        """Make the stream.

        Raises:
            DeviceSearchError: The GPU failed.
        """
        self._runtime = runtime
        with _as_search_error(), ExitStack() as stack:
            self._stream = CudaStream(runtime, stack)
            weakref.finalize(self, stack.pop_all().close).atexit = False

    @property
    def kind(self) -> str:
        """ONNX Runtime's name for a CUDA GPU's memory."""
        return "cuda"

    def allocate(self, size: int) -> Buffer:
        """Allocate memory of the GPU."""
        with _as_search_error(), ExitStack() as stack:
            buffer = Buffer(self._runtime.allocate(stack, "cudaMalloc", "cudaFree", size), size)
            weakref.finalize(buffer, stack.pop_all().close).atexit = False
        return buffer

    def copy_in(self, address: int, array: Array) -> None:
        """Copy an array to the GPU and wait for the copy."""
        self._copy(address, array.ctypes.data, array.nbytes, TO_DEVICE)

    def copy_out(self, array: Array, address: int) -> None:
        """Copy from the GPU and wait for the copy."""
        self._copy(array.ctypes.data, address, array.nbytes, TO_HOST)

    def copy(self, target: int, source: int, size: int) -> None:
        """Copy inside the GPU and wait for the copy."""
        self._copy(target, source, size, ON_DEVICE)

    def _copy(self, target: int, source: int, size: int, direction: int) -> None:
        with _as_search_error():
            self._stream.copy(target, source, size, direction)


@contextmanager
def _as_search_error() -> Iterator[None]:
    try:
        yield
    except CudaError as error:
        raise DeviceSearchError(str(error)) from error
