"""Repeated floats in protobuf's wire format, where they stand as they do in an array."""

from __future__ import annotations

import numpy as np

from lookalike.v1 import image_pb2


def _header(field_number: int, size: int) -> bytes:
    """What stands before a packed field of so many bytes; its number is below 16."""
    header = bytearray((field_number << 3 | 2,))  # length-delimited; such field numbers take one byte
    while size > 0x7F:
        header.append(size & 0x7F | 0x80)
        size >>= 7
    header.append(size)
    return bytes(header)


def vector_of(values: np.ndarray) -> image_pb2.Vector:
    """These numbers (float32 [dim]) as a message, read as a whole: setting them one by one costs 0.15 us each."""
    packed = values.astype("<f4", copy=False).tobytes()
    return image_pb2.Vector.FromString(_header(image_pb2.Vector.VALUES_FIELD_NUMBER, len(packed)) + packed)


def numbers_of(message: image_pb2.Vector) -> np.ndarray:
    """The numbers of a vector, taken as a whole: float32 [dim]."""
    count = len(message.values)
    if not count:
        return np.empty(0, dtype=np.float32)
    header = _header(image_pb2.Vector.VALUES_FIELD_NUMBER, 4 * count)
    return np.frombuffer(message.SerializeToString(), "<f4", count, offset=len(header)).astype(np.float32)
