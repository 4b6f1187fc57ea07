"""Disks for tests: an ext4 whose power can be cut and whose writes can fail, and a small one in memory that gets full.

Both must be mounted. If that is impossible (no root, no loop devices), the tests that need them are skipped.
"""

from __future__ import annotations

import ctypes
import fcntl
import mmap
import os
import re
import shutil
import struct
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

_SHUTDOWN = 0x8004587D  # EXT4_IOC_SHUTDOWN, _IOR('X', 125, __u32)
_NO_LOG_FLUSH = 2  # EXT4_GOING_FLAGS_NOLOGFLUSH: not even the journal is written any more

_GET_STATUS, _SET_STATUS = 0x4C05, 0x4C04  # LOOP_GET_STATUS64, LOOP_SET_STATUS64, of a struct loop_info64
_STATUS_BYTES = 232
_SIZE_LIMIT = slice(32, 40)  # lo_sizelimit in it

_BLOCK = 4096

_LIBC = ctypes.CDLL(None, use_errno=True)
_LIBC.mmap.restype = ctypes.c_void_p
_MAP_LOCKED = 0x2000  # mmap(2): as mlock(2) does


class Ext4:
    """A file system in a file, mounted at `folder`."""

    def __init__(self, image: Path, folder: Path) -> None:
        self._image = image
        self.folder = folder
        self._locked: list[tuple[ctypes.c_void_p, ctypes.c_size_t]] = []

    def mount(self) -> None:
        """Mount it; the journal that a power cut left is replayed, as at a boot."""
        _run("mount", "-o", "loop", str(self._image), str(self.folder))

    def unmount(self) -> None:
        """Unmount it and free the loop device."""
        _run("umount", str(self.folder))

    def cut_power(self) -> None:
        """Lose everything that was not synced; every later write and sync fails."""
        with _opened(self.folder) as descriptor:
            fcntl.ioctl(descriptor, _SHUTDOWN, struct.pack("I", _NO_LOG_FLUSH))

    def fail(self) -> None:
        """Let every write of a data block fail from now on: fsync fails, and Linux forgets what it could not write.

        The files can still be read: they are kept in the page cache, because the device cannot be read either.
        """
        for path in self.folder.rglob("*"):
            if path.is_file() and path.stat().st_size:
                self._locked.append(_lock_in_memory(path))
        free = re.findall(r"Free blocks: .*?(\d+)-(\d+)$", _run("dumpe2fs", str(self._image)), re.MULTILINE)
        ((first, last),) = free  # one group of blocks; its last free range is nearly all of it
        assert int(last) - int(first) > 1000
        self._limit(int(first) * _BLOCK)

    def work(self) -> None:
        """Let writes succeed again."""
        self._limit(0)
        while self._locked:
            _LIBC.munmap(*self._locked.pop())

    def _limit(self, size: int) -> None:
        """End the loop device after `size` bytes (0: with its file); nothing can be written beyond its end."""
        device = Path(_run("findmnt", "--noheadings", "--output", "SOURCE", str(self.folder)).strip())
        with _opened(device) as descriptor:
            status = bytearray(_STATUS_BYTES)
            fcntl.ioctl(descriptor, _GET_STATUS, status)
            status[_SIZE_LIMIT] = struct.pack("Q", size)
            fcntl.ioctl(descriptor, _SET_STATUS, bytes(status))


@contextmanager
def ext4(at: Path, megabytes: int = 64) -> Iterator[Ext4]:
    """Mount a new file system in the folder `at` until the end of the block; skip the test if that is impossible."""
    _need("mkfs.ext4", "dumpe2fs", "mount", "umount", "findmnt")
    image, folder = at / "disk.img", at / "disk"
    with image.open("wb") as made:
        made.truncate(megabytes << 20)
    folder.mkdir()
    # Reserve no space for root, which the tests run as.
    _run("mkfs.ext4", "-q", "-F", "-b", str(_BLOCK), "-m", "0", str(image))
    disk = Ext4(image, folder)
    with _mounted(folder):
        _mount_or_skip(disk.mount)
        yield disk


@contextmanager
def memory(at: Path, kilobytes: int) -> Iterator[Path]:
    """Mount a new file system of this size in memory until the end of the block; skip the test as `ext4` does."""
    _need("mount", "umount")
    folder = at / "memory"
    folder.mkdir()
    with _mounted(folder):
        _mount_or_skip(lambda: _run("mount", "-t", "tmpfs", "-o", f"size={kilobytes}k", "tmpfs", str(folder)))
        yield folder


def make_read_only(folder: Path) -> None:
    """Remount this file system so that not even root can write to it."""
    _run("mount", "-o", "remount,ro", str(folder))


def fill(folder: Path, leave: int = 0) -> Path:
    """Fill the file system of `folder` except for `leave` bytes, and return the file that fills it."""
    ballast = folder / "ballast"
    with ballast.open("wb", buffering=0) as taken:
        size = 1 << 16
        while size:
            free = os.statvfs(folder)
            room = free.f_bavail * free.f_frsize - leave
            try:
                written = taken.write(bytes(min(size, room))) if room > 0 else 0
            except OSError:
                written = 0
            if not written:
                size //= 2
    return ballast


@contextmanager
def _mounted(folder: Path) -> Iterator[None]:
    """Unmount whatever is mounted at the folder, however the block ends."""
    try:
        yield
    finally:
        while os.path.ismount(folder):
            _run("umount", "--lazy", str(folder))


def _mount_or_skip(mount: object) -> None:
    assert callable(mount)
    try:
        mount()
    except AssertionError as error:
        pytest.skip(f"file systems cannot be mounted: {error}")


def _need(*commands: str) -> None:
    if os.geteuid() != 0:
        pytest.skip("mounting a file system needs root")
    for command in commands:
        if shutil.which(command) is None:
            pytest.skip(f"{command} is not installed")


@contextmanager
def _opened(path: Path) -> Iterator[int]:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _lock_in_memory(path: Path) -> tuple[ctypes.c_void_p, ctypes.c_size_t]:
    """Keep all pages of a file in the page cache until the returned memory is unmapped."""
    with _opened(path) as descriptor:
        size = ctypes.c_size_t(os.fstat(descriptor).st_size)
        flags = mmap.MAP_SHARED | _MAP_LOCKED
        address = _LIBC.mmap(None, size, mmap.PROT_READ, flags, descriptor, ctypes.c_long(0))
    assert address != ctypes.c_void_p(-1).value, os.strerror(ctypes.get_errno())
    return ctypes.c_void_p(address), size


def _run(*command: str) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, f"{' '.join(command)}: {done.stderr.strip().partition(chr(10))[0]}"
    return done.stdout
