"""Memory beside the processor's own: what a batch is copied into before its run, and out of after it.

A `Slot` is the memory of one batch in flight, on both sides. Each batch is one copy of uint8 images in and one copy of
float32 embeddings out. A slot's addresses never change, so that what was recorded with them (a CUDA graph) stays true.
"""

from __future__ import annotations

from typing import Protocol

import numpy as np

from lookalike_server.domain.inference import Floats, Pixels


class Slot(Protocol):
    """The memory of one batch in flight. One thread uses it at a time.

    Attributes:
        images: uint8 [rows, height, width, 3] on the host, to be written by whoever makes the batch.
        vectors: float32 [rows, dim] on the host, as `copy_out` left them.
        input: The address of as many images on the device.
        output: The address of as many embeddings on the device.
    """

    images: Pixels
    vectors: Floats
    input: int
    output: int

    def copy_in(self, rows: int) -> None:
        """Copy the first images to the device; every run that begins after the return sees them."""

    def copy_out(self, rows: int) -> None:
        """Copy the first embeddings from the device, where the run that made them is over."""

    def close(self) -> None:
        """Give the memory back; nothing may use it any more."""


class Device(Protocol):
    """Where batches are copied to."""

    @property
    def kind(self) -> str:
        """What ONNX Runtime calls its memory: "cuda" or "cpu"."""

    def slot(self, rows: int, image: tuple[int, int, int], dim: int) -> Slot:
        """Memory for a batch of so many images of this shape, and for their embeddings of so many numbers."""


class HostSlot(Slot):
    """Both sides in the processor's memory, and apart: what is not copied is not there."""

    def __init__(self, rows: int, image: tuple[int, int, int], dim: int) -> None:
        self.images = np.zeros((rows, *image), dtype=np.uint8)
        self.vectors = np.zeros((rows, dim), dtype=np.float32)
        self.device_images = np.zeros_like(self.images)
        self.device_vectors = np.zeros_like(self.vectors)
        self.input, self.output = self.device_images.ctypes.data, self.device_vectors.ctypes.data

    def copy_in(self, rows: int) -> None:
        """Copy."""
        self.device_images[:rows] = self.images[:rows]

    def copy_out(self, rows: int) -> None:
        """Copy."""
        self.vectors[:rows] = self.device_vectors[:rows]

    def close(self) -> None:
        """Nothing: NumPy's arrays look after themselves."""


class HostDevice(Device):
    """The processor as a device of its own: runs what a card runs, where there is none."""

    @property
    def kind(self) -> str:
        """The processor's."""
        return "cpu"

    def slot(self, rows: int, image: tuple[int, int, int], dim: int) -> HostSlot:
        """Plain memory."""
        return HostSlot(rows, image, dim)
