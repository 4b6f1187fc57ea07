"""Device memory that batches are copied into before their run, and their embeddings out of afterwards.

A `Slot` is the memory of one batch in flight, on the host and on the device. Each batch is one copy of uint8 images to
the device and one copy of float32 embeddings back. A slot's addresses never change, so that a CUDA graph that was
recorded with them stays valid.
"""

from __future__ import annotations

from typing import Protocol

import numpy as np

from lookalike_server.domain.inference import Floats, Pixels


class Slot(Protocol):
    """The memory of one batch in flight. One thread at a time uses it.

    Attributes:
        images: uint8 [rows, height, width, 3] on the host; the batch is written here.
        vectors: float32 [rows, dim] on the host, as the last `copy_out` left them.
        input: The address on the device of memory for as many images.
        output: The address on the device of memory for as many embeddings.
    """

    images: Pixels
    vectors: Floats
    input: int
    output: int

    def copy_in(self, rows: int) -> None:
        """Copy the first `rows` images to the device and wait for the copy."""

    def copy_out(self, rows: int) -> None:
        """Copy the first `rows` embeddings from the device, whose run has ended, and wait for the copy."""

    def close(self) -> None:
        """Free the memory; nothing may use it afterwards."""


class Device(Protocol):
    """Where a model runs and its slots have memory."""

    @property
    def kind(self) -> str:
        """ONNX Runtime's name for its memory: "cuda" or "cpu"."""

    def slot(self, rows: int, image: tuple[int, int, int], dim: int) -> Slot:
        """Allocate memory for `rows` images (height, width, channels) and their embeddings of `dim` dimensions."""


class HostSlot(Slot):
    """Both sides in host memory but apart, so that a copy that is left out shows."""

    def __init__(self, rows: int, image: tuple[int, int, int], dim: int) -> None:
        self.images = np.zeros((rows, *image), dtype=np.uint8)
        self.vectors = np.zeros((rows, dim), dtype=np.float32)
        self.device_images = np.zeros_like(self.images)
        self.device_vectors = np.zeros_like(self.vectors)
        self.input, self.output = self.device_images.ctypes.data, self.device_vectors.ctypes.data

    def copy_in(self, rows: int) -> None:
        """Copy the first `rows` images from array to array."""
        self.device_images[:rows] = self.images[:rows]

    def copy_out(self, rows: int) -> None:
        """Copy the first `rows` embeddings from array to array."""
        self.vectors[:rows] = self.device_vectors[:rows]

    def close(self) -> None:
        """Do nothing: NumPy frees the arrays."""


class HostDevice(Device):
    """The CPU with device memory of its own: runs a GPU's code path where there is no GPU."""

    @property
    def kind(self) -> str:
        """ONNX Runtime's name for host memory."""
        return "cpu"

    def slot(self, rows: int, image: tuple[int, int, int], dim: int) -> HostSlot:
        """Allocate the arrays of both sides."""
        return HostSlot(rows, image, dim)
