"""A CUDA GPU's memory, through the CUDA runtime that ONNX Runtime has loaded already.

Each slot has page-locked host memory, which the GPU reads and writes by DMA, and a stream of its own, so that its
copies overlap with another slot's run. Copies are synchronous for the caller, because ONNX Runtime computes on its own
stream, which does not wait for a slot's.
"""

from __future__ import annotations

import ctypes
from contextlib import ExitStack

import numpy as np

from lookalike_server.domain.inference import Floats, Pixels
from lookalike_server.inference.device import Device, Slot

TO_DEVICE, TO_HOST, ON_DEVICE = 1, 2, 3
"""The directions of a copy: cudaMemcpyKind."""

_NON_BLOCKING = 1  # cudaStreamNonBlocking: waits for nothing on the default stream

_POINTER = ctypes.POINTER(ctypes.c_void_p)
_SIGNATURES: dict[str, tuple[type, ...]] = {
    "cudaDriverGetVersion": (ctypes.POINTER(ctypes.c_int),),
    "cudaGetDeviceCount": (ctypes.POINTER(ctypes.c_int),),
    "cudaMemGetInfo": (ctypes.POINTER(ctypes.c_size_t), ctypes.POINTER(ctypes.c_size_t)),
    "cudaHostAlloc": (_POINTER, ctypes.c_size_t, ctypes.c_uint),
    "cudaFreeHost": (ctypes.c_void_p,),
    "cudaMalloc": (_POINTER, ctypes.c_size_t),
    "cudaFree": (ctypes.c_void_p,),
    "cudaStreamCreateWithFlags": (_POINTER, ctypes.c_uint),
    "cudaStreamDestroy": (ctypes.c_void_p,),
    "cudaMemcpyAsync": (ctypes.c_void_p, ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_void_p),
    "cudaStreamSynchronize": (ctypes.c_void_p,),
    "cudaGetLastError": (),
}


class CudaError(Exception):
    """A failed call of the CUDA runtime; the message has the call's name and CUDA's own words."""


class CudaRuntime:
    """The calls of libcudart that are used here, with every result checked. ctypes releases the GIL during a call."""

    def __init__(self, library: str) -> None:
        """Load the library by name or path.

        Raises:
            CudaError: When it cannot be loaded.
        """
        try:
            self._library = ctypes.CDLL(library)
        except OSError as error:
            raise CudaError(f"the CUDA runtime cannot be loaded: {error}") from None
        for name, arguments in _SIGNATURES.items():
            function = getattr(self._library, name)
            function.argtypes, function.restype = arguments, ctypes.c_int
        for name in ("cudaGetErrorName", "cudaGetErrorString"):
            function = getattr(self._library, name)
            function.argtypes, function.restype = (ctypes.c_int,), ctypes.c_char_p

    def device_count(self) -> int:
        """Count the GPUs; at least one.

        Raises:
            CudaError: When there is none, or no driver.
        """
        count = ctypes.c_int()
        self.call("cudaGetDeviceCount", ctypes.byref(count))
        return count.value

    def driver_version(self) -> str:
        """Return the newest version of CUDA that the driver supports, as "13.0"; empty where there is no driver."""
        version = ctypes.c_int()
        self.call("cudaDriverGetVersion", ctypes.byref(version))
        return f"{version.value // 1000}.{version.value % 1000 // 10}" if version.value else ""

    def memory(self) -> tuple[int, int]:
        """Return the bytes of the GPU's memory that are free, and of all of it. The first call takes the GPU into use.

        Raises:
            CudaError: When the GPU cannot be used.
        """
        free, total = ctypes.c_size_t(), ctypes.c_size_t()
        self.call("cudaMemGetInfo", ctypes.byref(free), ctypes.byref(total))
        return free.value, total.value

    def call(self, name: str, *arguments: object) -> None:
        """Call a function by name.

        Raises:
            CudaError: When it fails.
        """
        code = getattr(self._library, name)(*arguments)
        if code:
            # Cleared, or ONNX Runtime would take it for its own after its next kernel in this thread.
            self._library.cudaGetLastError()
            error, text = self._library.cudaGetErrorName(code), self._library.cudaGetErrorString(code)
            raise CudaError(f"{name} failed: {error.decode()} ({text.decode()})")

    def allocate(self, stack: ExitStack, allocate: str, free: str, *arguments: object) -> int:
        """Call the function `allocate`, which fills in a pointer, have the stack call `free`, and return the address.

        Raises:
            CudaError: When the allocation fails.
        """
        pointer = ctypes.c_void_p()
        self.call(allocate, ctypes.byref(pointer), *arguments)
        stack.callback(self.call, free, pointer)
        return pointer.value or 0


class CudaStream:
    """A stream of copies, which run beside what is computed. Any thread may use it."""

    def __init__(self, runtime: CudaRuntime, stack: ExitStack) -> None:
        """Make the stream, which the stack destroys.

        Raises:
            CudaError: When it cannot be made.
        """
        self._runtime = runtime
        self._stream = runtime.allocate(stack, "cudaStreamCreateWithFlags", "cudaStreamDestroy", _NON_BLOCKING)

    def copy(self, target: int, source: int, size: int, direction: int) -> None:
        """Copy bytes from one address to another, and wait for the copy.

        Raises:
            CudaError: When it fails.
        """
        self._runtime.call("cudaMemcpyAsync", target, source, size, direction, self._stream)
        self._runtime.call("cudaStreamSynchronize", self._stream)


class CudaSlot(Slot):
    """The memory of one batch in flight on a GPU."""

    def __init__(self, runtime: CudaRuntime, rows: int, image: tuple[int, int, int], dim: int) -> None:
        self._image_bytes, self._vector_bytes = int(np.prod(image)), 4 * dim
        with ExitStack() as stack:
            self._stream = CudaStream(runtime, stack)
            self.input = runtime.allocate(stack, "cudaMalloc", "cudaFree", rows * self._image_bytes)
            self.output = runtime.allocate(stack, "cudaMalloc", "cudaFree", rows * self._vector_bytes)
            images = runtime.allocate(stack, "cudaHostAlloc", "cudaFreeHost", rows * self._image_bytes, 0)
            vectors = runtime.allocate(stack, "cudaHostAlloc", "cudaFreeHost", rows * self._vector_bytes, 0)
            self._memory = stack.pop_all()
        self._images, self._vectors = images, vectors
        self.images: Pixels = _array(images, rows * self._image_bytes).reshape(rows, *image)
        self.vectors: Floats = _array(vectors, rows * self._vector_bytes).view(np.float32).reshape(rows, dim)

    def copy_in(self, rows: int) -> None:
        """Copy the first `rows` images to the device and wait for the copy.

        Raises:
            CudaError: When it fails.
        """
        self._stream.copy(self.input, self._images, rows * self._image_bytes, TO_DEVICE)

    def copy_out(self, rows: int) -> None:
        """Copy the first `rows` embeddings from the device and wait for the copy.

        Raises:
            CudaError: When it fails.
        """
        self._stream.copy(self._vectors, self.output, rows * self._vector_bytes, TO_HOST)

    def close(self) -> None:
        """Free all memory, also where one of the calls fails.

        Raises:
            CudaError: When a call failed.
        """
        # Empty arrays, because a view of freed memory would crash whoever still reads it.
        self.images, self.vectors = self.images[:0].copy(), self.vectors[:0].copy()
        self._memory.close()


class CudaDevice(Device):
    """The first GPU that CUDA lists; CUDA_VISIBLE_DEVICES selects another."""

    def __init__(self, runtime: CudaRuntime) -> None:
        self._runtime = runtime

    @property
    def kind(self) -> str:
        """ONNX Runtime's name for a CUDA GPU's memory."""
        return "cuda"

    def slot(self, rows: int, image: tuple[int, int, int], dim: int) -> CudaSlot:
        """Allocate page-locked host memory, device memory and a stream.

        Raises:
            CudaError: When there is too little memory.
        """
        return CudaSlot(self._runtime, rows, image, dim)


def _array(address: int, size: int) -> Pixels:
    """View memory as bytes without a copy; it must outlive the view."""
    return np.ctypeslib.as_array((ctypes.c_uint8 * size).from_address(address))
