"""What parsing a message takes of the C library's memory, which is where protobuf's parser puts it."""

from __future__ import annotations

import ctypes
from contextlib import suppress
from typing import Any

from google.protobuf.message import DecodeError, Message

_FIELDS = "arena ordblks smblks hblks hblkhd usmblks fsmblks uordblks fordblks keepcost"
CAN_MEASURE = hasattr(ctypes.CDLL(None), "mallinfo2")
"""Whether this is glibc 2.33 or newer, which says what is in use."""


class _MallInfo(ctypes.Structure):
    _fields_ = tuple((name, ctypes.c_size_t) for name in _FIELDS.split())


def parsing(message: type[Message], data: bytes) -> tuple[Message | None, int]:
    """Parse, and return the message (None: the bytes are none) with the bytes of memory in use since.

    What the message holds is in use, and also what the parser dropped while it grew, until the message goes. Only the
    main thread may call this, and Python's own small objects are not counted.
    """
    before = _in_use()
    parsed: Message | None = None
    with suppress(DecodeError):
        parsed = message.FromString(data)
    return parsed, _in_use() - before


def _in_use() -> int:
    mallinfo2: Any = ctypes.CDLL(None).mallinfo2
    mallinfo2.restype = _MallInfo
    info = mallinfo2()
    return int(info.uordblks + info.hblkhd)
