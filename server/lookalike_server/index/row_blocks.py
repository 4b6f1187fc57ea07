"""The memory of rows: files that are mapped into memory, so that the system may drop what is not used.

A file is a cache: the store has the rows, so nothing reads it again after a restart. It has no name from the moment it
exists, so a crash leaves nothing behind and nobody can truncate it.
"""

from __future__ import annotations

import ctypes
import errno
import mmap
import os
import queue
import tempfile
import threading
import weakref
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from lookalike_server.domain.inference import Floats
from lookalike_server.priority import lower_priority

MIN_FILE_BYTES = 1 << 20
"""The size below which a block is anonymous memory: many categories have only a few rows."""

_FAILED = ctypes.c_void_p(-1).value  # MAP_FAILED
_LIBC = ctypes.CDLL(None, use_errno=True)
_LIBC.mmap.restype = ctypes.c_void_p
_LIBC.mmap.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_long)
_LIBC.madvise.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int)
_LIBC.munmap.argtypes = (ctypes.c_void_p, ctypes.c_size_t)
_LIBC.mincore.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_void_p)
_CAN_RESERVE = hasattr(_LIBC, "fallocate")  # Linux
if _CAN_RESERVE:
    _LIBC.fallocate.argtypes = (ctypes.c_int, ctypes.c_int, ctypes.c_long, ctypes.c_long)

_NICE = 10


class RowBlocks:
    """Allocates the blocks of all matrices of an index. Any thread may call it."""

    def __init__(self, folder: Path | None = None, on_failure: Callable[[OSError], None] = lambda _: None) -> None:
        """Allocate blocks in files of a folder; without one, and where a file fails, in anonymous memory.

        Args:
            folder: Where the files are, which exists.
            on_failure: Called for each block that should be in a file and is not.
        """
        self._folder = folder
        self._on_failure = on_failure

    def allocate(self, rows: int, dim: int) -> Floats:
        """Return memory for float32 [rows, dim], freed with its last view; its contents are arbitrary.

        Writing to it raises no signal on a full disk: its space is reserved before it is mapped.
        """
        size = 4 * rows * dim
        if self._folder is not None and size >= MIN_FILE_BYTES and _CAN_RESERVE:
            try:
                return np.asarray(_Mapping(self._folder, rows, dim))
            except OSError as error:
                self._on_failure(error.with_traceback(None))  # whose frames would keep blocks alive
        return np.empty((rows, dim), dtype=np.float32)


ANONYMOUS = RowBlocks()
"""Blocks in anonymous memory."""


class _Mapping:
    """A new file of a folder in memory, in the form of numpy's array interface; unmapped with its last view."""

    def __init__(self, folder: Path, rows: int, dim: int) -> None:
        size = 4 * rows * dim
        free = os.statvfs(folder)
        if free.f_bavail * free.f_frsize < 2 * size:
            # The other half is for the catalog, whose writes must not be rejected for the sake of a cache.
            raise OSError(errno.ENOSPC, "less is free than twice the rows", str(folder))
        with tempfile.TemporaryFile(dir=folder, buffering=0) as file:
            # Not `os.posix_fallocate`, which pretends where the file system cannot reserve space.
            _check(_LIBC.fallocate(file.fileno(), 0, 0, size) == 0, folder)
            # Not `mmap.mmap`, which would keep a file descriptor for every block.
            address = _LIBC.mmap(None, size, mmap.PROT_READ | mmap.PROT_WRITE, mmap.MAP_SHARED, file.fileno(), 0)
            _check(address != _FAILED, folder)
        # Where the file system has large folios, filling row by row takes about a third of the time.
        _LIBC.madvise(address, size, mmap.MADV_HUGEPAGE)
        self.__array_interface__ = {"data": (address, False), "shape": (rows, dim), "typestr": "<f4", "version": 3}
        # Freeing 64 MiB takes 10 ms, and the last view may be that of a search on the event loop.
        weakref.finalize(self, run_later, partial(_LIBC.munmap, address, size)).atexit = False


def _check(succeeded: bool, folder: Path) -> None:
    if not succeeded:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), str(folder))


class _Later:
    """A thread for what must not hold its caller up, started when it is first needed."""

    def __init__(self) -> None:
        self._calls: queue.SimpleQueue[Callable[[], object]] = queue.SimpleQueue()  # which may be used in finalizers
        self._starting = threading.Lock()
        self._started = False

    def __call__(self, call: Callable[[], object]) -> None:
        """Run a function, which must not raise, in the thread."""
        self._calls.put(call)
        if not self._started and self._starting.acquire(blocking=False):
            self._started = True
            threading.Thread(target=self._run, name="row-blocks", daemon=True).start()

    def _run(self) -> None:
        lower_priority(_NICE)
        while True:
            self._calls.get()()


run_later = _Later()
"""Runs a function, which must neither raise nor take long, in a thread of its own."""


def is_mapped(block: Floats) -> bool:
    """Whether a block, or a view of one, is in a file."""
    base: Any = block
    while isinstance(base, np.ndarray):
        base = base.base
    return isinstance(base, _Mapping)


def missing_pages(block: Floats) -> npt.NDArray[np.int64]:
    """Return which pages of a block that `is_mapped` are not in memory: int64 [n], counted from its first.

    Takes 0.2 to 0.3 ms for 64 MiB, without the GIL.

    Raises:
        OSError: The system does not say.
    """
    pages = np.empty(-(-block.nbytes // mmap.PAGESIZE), dtype=np.uint8)
    if _LIBC.mincore(block.ctypes.data, block.nbytes, pages.ctypes.data):
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return np.flatnonzero(pages & 1 == 0)
