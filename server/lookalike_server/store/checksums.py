"""A checksum for every stored vector, because neither SQLite nor most file systems notice a bit that flips.

CRC-32 finds every change of up to 32 consecutive bits, and misses one of four billion others. It is for accidents: who
can write into the file can write a checksum too.
"""

from __future__ import annotations

from zlib import crc32

# Of longer data zlib lets go of the GIL, which a writer beside a busy event loop then waits for: milliseconds, for
# what takes microseconds.
_MOST_BYTES = 4096


def checksum(data: bytes | memoryview) -> int:
    """Return the CRC-32 of a stored vector, 0 to 2**32 - 1."""
    if len(data) <= _MOST_BYTES:
        return crc32(data)
    value = 0
    for begin in range(0, len(data), _MOST_BYTES):
        value = crc32(data[begin : begin + _MOST_BYTES], value)
    return value


def is_intact(data: object, stored: int | None, dim: int) -> bool:
    """Whether what is stored as a vector of `dim` dimensions has its length and checksum.

    Args:
        data: As it was read; a damaged file can have anything there.
        stored: Its checksum; None where an earlier version stored it and it has none yet.
        dim: The model's dimensions.
    """
    return isinstance(data, bytes) and len(data) == 4 * dim and (stored is None or stored == checksum(data))
