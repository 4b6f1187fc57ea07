"""Images in memory that two processes share: uint8 rows that a worker writes and the model's process reads in place.

The memory is an anonymous file without a name: it is gone with the last process that has it, however that ends.
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
    """The side of the model's process, which makes the memory.

    A row is the reader's for as long as anybody here holds an array over it: also a run of the model that a caller
    has left, and an image that another caller waits for too. Only then is the writer told that it is free.
    """

    def __init__(self, count: int, height: int, width: int, freed: Callable[[int], None]) -> None:
        """Make `count` rows; `freed` is called, in any thread, with the number of each that may be written again."""
        self._shape = (height, width, 3)
        self._size = height * width * 3
        self._freed = freed
        self._held: dict[int, weakref.ref[Pixels]] = {}
        self.file = os.memfd_create("lookalike-rows", os.MFD_CLOEXEC)
        os.ftruncate(self.file, count * self._size)
        self._memory = mmap.mmap(self.file, count * self._size, prot=mmap.PROT_READ)

    def take(self, row: int) -> Pixels:
        """The image in a row that was just written: uint8 [height, width, 3], read-only, not copied."""
        # An array of its own for each image, never a view of a common one: NumPy has a view hold on to the array that
        # was made from the memory, and to none in between.
        pixels: Pixels = np.frombuffer(self._memory, np.uint8, self._size, row * self._size)
        self._held[row] = weakref.ref(pixels, partial(self._free, row))
        return pixels.reshape(self._shape)

    def close(self) -> None:
        """Give up the file; the memory goes with its last reader."""
        os.close(self.file)

    def _free(self, row: int, _: weakref.ref[Pixels]) -> None:
        del self._held[row]
        self._freed(row)


class SharedImageWriter:
    """The worker's side."""

    def __init__(self, file: int, count: int, height: int, width: int) -> None:
        """Map the reader's memory."""
        memory = mmap.mmap(file, count * height * width * 3)
        self._rows: Pixels = np.frombuffer(memory, np.uint8).reshape(count, height, width, 3)
        # The last one freed is the next one taken: what is never needed at once is never touched.
        self._free = list(range(count))[::-1]

    @property
    def free(self) -> int:
        """How many rows may be written."""
        return len(self._free)

    def put(self, pixels: Pixels) -> int | None:
        """Write an image (uint8 [height, width, 3]) and return its row; None where no row is free."""
        if not self._free:
            return None
        row = self._free.pop()
        self._rows[row] = pixels
        return row

    def freed(self, row: int) -> None:
        """The reader is done with it."""
        self._free.append(row)
