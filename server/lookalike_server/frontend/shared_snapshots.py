"""The last snapshot of the metrics of each process, in memory that all processes of a server share.

Memory and not messages: what a process that was killed had counted is still there, nobody waits for one that hangs, and
the supervisor has nothing to do with it.
"""

from __future__ import annotations

import mmap
import struct
import zlib
from typing import NamedTuple

MAX_BYTES = 2 << 20
"""The largest snapshot. A hundred categories take a tenth; pages that are never written take no memory."""

_NUMBER = struct.Struct("<q")
_HEADER = struct.Struct("<qqqI")  # the writer's pid, the request that it answers, the bytes, their CRC-32
_HALF = _HEADER.size + MAX_BYTES
_SLOT = _NUMBER.size + 2 * _HALF
_ATTEMPTS = 8


class Stored(NamedTuple):
    """A snapshot as it was stored, by which process, and the request that it answers."""

    pid: int
    request: int
    data: bytes


_NOTHING = Stored(0, 0, b"")


def check_size(data: bytes) -> None:
    """Check that a snapshot fits into a slot.

    Raises:
        ValueError: It is larger than `MAX_BYTES`.
    """
    if len(data) > MAX_BYTES:
        raise ValueError(f"a snapshot of {len(data)} bytes is larger than {MAX_BYTES}")


class SharedSnapshots:
    """One slot for each process. Made before the processes are forked; only its own process writes to a slot.

    A slot has two halves, which are written in turns: whoever is killed while writing leaves the other one.
    """

    def __init__(self, slots: int) -> None:
        """Have so many slots."""
        self.slots = slots
        self._memory = mmap.mmap(-1, _NUMBER.size + slots * _SLOT)

    def request(self) -> int:
        """Ask every process for a snapshot, and return the number of this request; one process may ask."""
        number = self.requested() + 1
        _NUMBER.pack_into(self._memory, 0, number)
        return number

    def requested(self) -> int:
        """Return the number of the last request; 0 before the first one."""
        number: int = _NUMBER.unpack_from(self._memory, 0)[0]
        return number

    def write(self, slot: int, pid: int, request: int, data: bytes) -> None:
        """Replace the snapshot of a slot.

        Raises:
            ValueError: It is larger than `MAX_BYTES`.
        """
        check_size(data)
        at = self._at(slot)
        written: int = _NUMBER.unpack_from(self._memory, at)[0]
        half = at + _NUMBER.size + (written + 1) % 2 * _HALF
        _HEADER.pack_into(self._memory, half, pid, request, len(data), zlib.crc32(data))
        self._memory[half + _HEADER.size : half + _HEADER.size + len(data)] = data
        _NUMBER.pack_into(self._memory, at, written + 1)

    def read(self, slot: int) -> Stored:
        """Return the snapshot of a slot; an empty one where there is none yet."""
        at = self._at(slot)
        for _ in range(_ATTEMPTS):
            written: int = _NUMBER.unpack_from(self._memory, at)[0]
            if not written:
                return _NOTHING
            half = at + _NUMBER.size + written % 2 * _HALF
            pid, request, size, checksum = _HEADER.unpack_from(self._memory, half)
            data = self._memory[half + _HEADER.size : half + _HEADER.size + min(max(size, 0), MAX_BYTES)]
            if zlib.crc32(data) == checksum:  # or it was written twice meanwhile
                return Stored(pid, request, data)
        return _NOTHING

    def answered(self, slot: int) -> int:
        """Return the number of the request that the snapshot of a slot answers."""
        at = self._at(slot)
        half = at + _NUMBER.size + _NUMBER.unpack_from(self._memory, at)[0] % 2 * _HALF
        request: int = _HEADER.unpack_from(self._memory, half)[1]
        return request

    @staticmethod
    def _at(slot: int) -> int:
        return _NUMBER.size + slot * _SLOT
