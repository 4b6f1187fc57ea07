"""Images in memory that two processes share: uint8 slots that a frontend writes and the engine process reads in place.

The memory is an anonymous file (memfd), so it is gone with the last process that maps it, however that ends.
"""

from __future__ import annotations

import mmap
import os
import weakref
from collections.abc import Callable
from functools import partial

import numpy as np

from lookalike_server.domain.inference import Pixels


class SharedImageReader:
    """The engine process's side, which creates the memory.

    A slot is in use for as long as anything in this process references an array over it, including a run of the model
    whose caller has left, and an image that another caller waits for. Only then may the writer use it again.
    """

    def __init__(self, slots: int, height: int, width: int, on_free: Callable[[int], None]) -> None:
        """Create the slots; `on_free` is called, in any thread, with the number of each that may be written again."""
        self._shape = (height, width, 3)
        self._size = height * width * 3
        self._on_free = on_free
        self._in_use: dict[int, weakref.ref[Pixels]] = {}
        self.file = os.memfd_create("lookalike-images", os.MFD_CLOEXEC)
        os.ftruncate(self.file, slots * self._size)
        self._memory = mmap.mmap(self.file, slots * self._size, prot=mmap.PROT_READ)

    def read(self, slot: int) -> Pixels:
        """Return the image in a slot that was just written: uint8 [height, width, 3], read-only, not copied."""
        # A base array per image: NumPy views reference the array that was created from the memory and none in between,
        # so a view of a common array would not keep its own weak reference alive.
        pixels: Pixels = np.frombuffer(self._memory, np.uint8, self._size, slot * self._size)
        self._in_use[slot] = weakref.ref(pixels, partial(self._free, slot))
        return pixels.reshape(self._shape)

    def close(self) -> None:
        """Close the file; the memory lives on until its last reader is gone."""
        os.close(self.file)

    def _free(self, slot: int, _: weakref.ref[Pixels]) -> None:
        del self._in_use[slot]
        self._on_free(slot)


class SharedImageWriter:
    """A frontend's side."""

    def __init__(self, file: int, slots: int, height: int, width: int) -> None:
        """Map the memory that the reader created."""
        memory = mmap.mmap(file, slots * height * width * 3)
        self._slots: Pixels = np.frombuffer(memory, np.uint8).reshape(slots, height, width, 3)
        # Last in, first out, so that slots that are never needed at once are never touched.
        self._free = list(range(slots))[::-1]

    @property
    def free_slots(self) -> int:
        """How many slots may be written."""
        return len(self._free)

    def write(self, pixels: Pixels) -> int | None:
        """Write an image (uint8 [height, width, 3]) and return its slot; None where none is free."""
        if not self._free:
            return None
        slot = self._free.pop()
        self._slots[slot] = pixels
        return slot

    def free(self, slot: int) -> None:
        """Allow a slot to be written again, because the reader is done with it."""
        self._free.append(slot)
