"""A CUDA card's memory, through the CUDA runtime that ONNX Runtime has loaded already.

Each slot has page-locked host memory, which the card reads and writes by itself, and a stream of its own, so that its
copies go beside another slot's run. A copy is over when the call returns: ONNX Runtime computes on a stream that waits
for nobody else's.
"""

from __future__ import annotations

import ctypes
from contextlib import ExitStack

import numpy as np

from lookalike_server.domain.inference import Floats, Pixels
from lookalike_server.inference.device import Device, Slot

_TO_DEVICE, _TO_HOST = 1, 2  # cudaMemcpyKind
_NON_BLOCKING = 1  # cudaStreamNonBlocking: waits for nothing on the default stream

_POINTER = ctypes.POINTER(ctypes.c_void_p)
_SIGNATURES: dict[str, tuple[type, ...]] = {
    "cudaGetDeviceCount": (ctypes.POINTER(ctypes.c_int),),
    "cudaHostAlloc": (_POINTER, ctypes.c_size_t, ctypes.c_uint),
    "cudaFreeHost": (ctypes.c_void_p,),
    "cudaMalloc": (_POINTER, ctypes.c_size_t),
    "cudaFree": (ctypes.c_void_p,),
    "cudaStreamCreateWithFlags": (_POINTER, ctypes.c_uint),
    "cudaStreamDestroy": (ctypes.c_void_p,),
    "cudaMemcpyAsync": (ctypes.c_void_p, ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_void_p),
    "cudaStreamSynchronize": (ctypes.c_void_p,),
}


class CudaError(Exception):
    """A call of the CUDA runtime that failed; the message names it and says what CUDA says."""


class CudaRuntime:
    """The calls of libcudart that are used here, every result checked. ctypes lets other threads go on meanwhile."""

    def __init__(self, library: str) -> None:
        """Load it, by name or path.

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

    def devices(self) -> int:
        """How many cards there are; one or more.

        Raises:
            CudaError: When there is none, or no driver for it.
        """
        count = ctypes.c_int()
        self.call("cudaGetDeviceCount", ctypes.byref(count))
        return count.value

    def call(self, name: str, *arguments: object) -> None:
        """Call one of them.

        Raises:
            CudaError: When it fails.
        """
        code = getattr(self._library, name)(*arguments)
        if code:
            known, told = self._library.cudaGetErrorName(code), self._library.cudaGetErrorString(code)
            raise CudaError(f"{name} failed: {known.decode()} ({told.decode()})")

    def given(self, stack: ExitStack, take: str, give_back: str, *arguments: object) -> int:
        """What a call of the kind that fills in a pointer gave; the stack gives it back."""
        pointer = ctypes.c_void_p()
        self.call(take, ctypes.byref(pointer), *arguments)
        stack.callback(self.call, give_back, pointer)
        return pointer.value or 0


class CudaSlot(Slot):
    """The memory of one batch in flight on a card."""

    def __init__(self, runtime: CudaRuntime, rows: int, image: tuple[int, int, int], dim: int) -> None:
        self._runtime = runtime
        self._image_bytes, self._vector_bytes = int(np.prod(image)), 4 * dim
        with ExitStack() as stack:
            self._stream = runtime.given(stack, "cudaStreamCreateWithFlags", "cudaStreamDestroy", _NON_BLOCKING)
            self.input = runtime.given(stack, "cudaMalloc", "cudaFree", rows * self._image_bytes)
            self.output = runtime.given(stack, "cudaMalloc", "cudaFree", rows * self._vector_bytes)
            images = runtime.given(stack, "cudaHostAlloc", "cudaFreeHost", rows * self._image_bytes, 0)
            vectors = runtime.given(stack, "cudaHostAlloc", "cudaFreeHost", rows * self._vector_bytes, 0)
            self._memory = stack.pop_all()
        self._images, self._vectors = images, vectors
        self.images: Pixels = _array(images, rows * self._image_bytes).reshape(rows, *image)
        self.vectors: Floats = _array(vectors, rows * self._vector_bytes).view(np.float32).reshape(rows, dim)

    def copy_in(self, rows: int) -> None:
        """One transfer, waited for.

        Raises:
            CudaError: When it fails.
        """
        self._copy(self.input, self._images, rows * self._image_bytes, _TO_DEVICE)

    def copy_out(self, rows: int) -> None:
        """One transfer, waited for.

        Raises:
            CudaError: When it fails.
        """
        self._copy(self._vectors, self.output, rows * self._vector_bytes, _TO_HOST)

    def close(self) -> None:
        """Give all memory back, whatever fails on the way.

        Raises:
            CudaError: When something failed.
        """
        # Whoever still looks finds nothing rather than memory that is gone.
        self.images, self.vectors = self.images[:0].copy(), self.vectors[:0].copy()
        self._memory.close()

    def _copy(self, target: int, source: int, size: int, kind: int) -> None:
        self._runtime.call("cudaMemcpyAsync", target, source, size, kind, self._stream)
        self._runtime.call("cudaStreamSynchronize", self._stream)


class CudaDevice(Device):
    """The first card that CUDA shows; CUDA_VISIBLE_DEVICES chooses another."""

    def __init__(self, runtime: CudaRuntime) -> None:
        """Take the runtime that reaches it."""
        self._runtime = runtime

    @property
    def kind(self) -> str:
        """CUDA's."""
        return "cuda"

    def slot(self, rows: int, image: tuple[int, int, int], dim: int) -> CudaSlot:
        """Page-locked memory here, as much there, and a stream.

        Raises:
            CudaError: When there is not enough of either.
        """
        return CudaSlot(self._runtime, rows, image, dim)


def _array(address: int, size: int) -> Pixels:
    """Memory as bytes, without a copy; it must outlive them."""
    return np.ctypeslib.as_array((ctypes.c_uint8 * size).from_address(address))
