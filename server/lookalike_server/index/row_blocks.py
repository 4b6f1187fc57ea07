"""The memory of rows: files that are mapped into memory, so that the system may drop what is not used.

A file is a cache: the store has the rows. What is filled while the server runs has no name from the moment it exists,
so a crash leaves nothing behind and nobody can truncate it; `row_files.py` writes files that the next start maps.
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
from typing import IO, Any

import numpy as np
import numpy.typing as npt

from lookalike_server.domain.inference import Floats
from lookalike_server.priority import lower_priority

MIN_FILE_BYTES = 1 << 20
"""The size below which a block is anonymous memory: many categories have only a few rows."""

_READ_WRITE = mmap.PROT_READ | mmap.PROT_WRITE
_MAP_FIXED = 0x10  # which Python does not know
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
                return np.asarray(_new_file(self._folder, size)).view("<f4").reshape(rows, dim)
            except OSError as error:
                self._on_failure(error.with_traceback(None))  # whose frames would keep blocks alive
        return np.empty((rows, dim), dtype=np.float32)


ANONYMOUS = RowBlocks()
"""Blocks in anonymous memory."""


class _Mapping:
    """Mapped memory in the form of numpy's array interface, as bytes; unmapped with its last view."""

    def __init__(self, address: int, size: int) -> None:
        self.__array_interface__ = {"data": (address, False), "shape": (size,), "typestr": "|u1", "version": 3}
        # Freeing 64 MiB takes 10 ms, and the last view may be that of a search on the event loop.
        weakref.finalize(self, run_later, partial(_LIBC.munmap, address, size)).atexit = False


def _new_file(folder: Path, size: int) -> _Mapping:
    check_room(folder, size)
    with tempfile.TemporaryFile(dir=folder, buffering=0) as file:
        # Not `os.posix_fallocate`, which pretends where the file system cannot reserve space.
        _check(_LIBC.fallocate(file.fileno(), 0, 0, size) == 0, folder)
        # Not `mmap.mmap`, which would keep a file descriptor for every block.
        address = _LIBC.mmap(None, size, _READ_WRITE, mmap.MAP_SHARED, file.fileno(), 0)
        _check(address != _FAILED, folder)
    # Where the file system has large folios, filling row by row takes about a third of the time.
    _LIBC.madvise(address, size, mmap.MADV_HUGEPAGE)
    return _Mapping(address, size)


def check_room(folder: Path, size: int) -> None:
    """Check that a folder has room for a file of so many bytes.

    Raises:
        OSError: Less than twice as much is free, or the system does not say.
    """
    free = os.statvfs(folder)
    if free.f_bavail * free.f_frsize < 2 * size:
        # The other half is for the catalog, whose writes must not be rejected for the sake of a cache.
        raise OSError(errno.ENOSPC, "less is free than twice the rows", str(folder))


def map_file(file: IO[bytes], offset: int, size: int, reserved: int) -> npt.NDArray[np.uint8]:
    """Map a part of a file that nobody changes, with anonymous memory behind it: uint8 [reserved].

    Args:
        file: May be closed afterwards. Nobody may shorten it: a page beyond its end raises SIGBUS.
        offset: Where the part begins, a multiple of the page's size.
        size: Its bytes, which can only be read, but for those of its last page.
        reserved: Bytes with those behind it, for which the system provides memory when they are written.

    Raises:
        OSError: The system has no address space, or the file cannot be read.
    """
    address = _LIBC.mmap(None, reserved, _READ_WRITE, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS, -1, 0)
    _check(address != _FAILED, file.name)
    memory = np.asarray(_Mapping(address, reserved))
    whole = size // mmap.PAGESIZE * mmap.PAGESIZE
    if whole:
        mapped = _LIBC.mmap(address, whole, mmap.PROT_READ, mmap.MAP_SHARED | _MAP_FIXED, file.fileno(), offset)
        _check(mapped == address, file.name)
        _LIBC.madvise(address, whole, mmap.MADV_HUGEPAGE)
    rest = os.pread(file.fileno(), size - whole, offset + whole)
    memory[whole : whole + len(rest)] = np.frombuffer(rest, dtype=np.uint8)
    return memory


def _check(succeeded: bool, path: Path | str) -> None:
    if not succeeded:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), str(path))


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
