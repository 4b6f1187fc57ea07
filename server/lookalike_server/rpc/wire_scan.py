"""A walk over a message's wire format that finds, before protobuf parses it, what parsing would cost.

An empty sub-message has 2 bytes on the wire and more than 100 in memory, so that a message of 60 MB may take 3.5 GB and
15 seconds. What costs so much is counted here without allocating anything, and the walk ends at the limit:

- fields: each value, each entry of a map, each sub-message. Parsing takes at most `BYTES_PER_FIELD` bytes for one,
  beside the copies of strings, bytes and packed floats.
- packed integers, which have one byte on the wire and up to eight in memory.

What lies inside strings, bytes and packed fields is not looked at, so that an image costs nothing. Neither is what lies
inside small sub-messages in which nothing can grow (`Kind.skipped_bytes`): boxes, short vectors, short attributes.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from google.protobuf.descriptor import Descriptor

from lookalike_server.domain.errors import LookalikeError, invalid
from lookalike_server.rpc.wire_kinds import LENGTH_DELIMITED, Kind, kinds

BYTES_PER_FIELD = 288
"""The most memory that parsing takes per field, in bytes; measured with upb on 64-bit machines: 585 for a tensor of one
parameter that has a field unknown to us at each of its three levels."""
COPIES = 3
"""The most bytes of memory that parsing takes per byte of a message, beside its fields; many strings of one byte take
2.7."""
GROWTH = 4
"""The most bytes of memory per byte of packed integers, because upb doubles its arrays and keeps the old ones."""

_VARINT, _FIXED64, _GROUP, _FIXED32 = 0, 1, (3, 4), 5
_KEY_TAG, _VALUE_TAG = 1 << 3 | LENGTH_DELIMITED, 2 << 3 | LENGTH_DELIMITED
_MAX_VARINT_BYTES = 10
_FEW_NUMBERS = 4096


class WireCost(NamedTuple):
    """What parsing a message costs.

    Attributes:
        message_bytes: Bytes of the message.
        fields: Its fields, at all levels.
        integer_bytes: Bytes of its packed integers in memory.
    """

    message_bytes: int
    fields: int
    integer_bytes: int

    @property
    def max_memory_bytes(self) -> int:
        """The most memory that parsing takes, in bytes, beside the message itself."""
        return COPIES * self.message_bytes + BYTES_PER_FIELD * self.fields + GROWTH * self.integer_bytes


def check_wire(data: bytes, message: Descriptor, max_fields: int, max_integer_bytes: int) -> WireCost:
    """Check what parsing the bytes of this message would cost, and return it.

    Args:
        data: The message's bytes.
        message: Its type.
        max_fields: The most fields, at all levels.
        max_integer_bytes: The most bytes in memory of packed integers.

    Raises:
        LookalikeError: INVALID_ARGUMENT with the field `request`: it would cost more, or the bytes are no message.
            Other bytes that are no message may pass.
    """
    try:
        return _walk(data, kinds(message), max_fields, max_integer_bytes)
    except IndexError:
        raise malformed() from None


def malformed() -> LookalikeError:
    """INVALID_ARGUMENT: the bytes are not a message."""
    return invalid("request", "the bytes are not the message that the method takes; send one made from its .proto file")


def _walk(data: bytes, fields: list[Kind | None], max_fields: int, max_integer_bytes: int) -> WireCost:
    # One loop without calls: a message may have 100,000 fields, and each takes a fraction of a microsecond.
    position, end, count, integer_bytes = 0, len(data), 0, 0
    outer: list[tuple[int, list[Kind | None]]] = []
    while True:
        while position < end:
            count += 1
            if count > max_fields:
                raise _too_many_fields(max_fields)
            tag = data[position]
            position += 1
            if tag > 0x7F:
                tag, position = _rest_of_varint(data, position, tag)
            wire_type = tag & 7
            if wire_type == LENGTH_DELIMITED:
                size = data[position]
                position += 1
                if size > 0x7F:
                    second = data[position]
                    if second > 0x7F:
                        size, position = _rest_of_varint(data, position, size)
                    else:
                        size += (second - 1) << 7
                        position += 1
                after = position + size
                if after > end:
                    raise malformed()
                kind = fields[tag] if tag < 0x80 else None
                if kind is None or size <= kind.skipped_bytes:
                    position = after
                elif kind.fields is None:
                    integer_bytes += kind.width * _count_varints(data, position, after, max_integer_bytes)
                    if integer_bytes > max_integer_bytes:
                        raise _too_many_integers(max_integer_bytes)
                    position = after
                elif kind.is_entry and _is_canonical_entry(data, position, after):
                    position = after
                else:
                    outer.append((end, fields))
                    fields, end = kind.fields, after
            elif wire_type == _VARINT:
                longest = position + _MAX_VARINT_BYTES
                while data[position] > 0x7F:
                    position += 1
                    if position == longest:
                        raise malformed()
                position += 1
            elif wire_type == _FIXED32:
                position += 4
            elif wire_type == _FIXED64:
                position += 8
            elif wire_type in _GROUP:
                raise invalid(
                    "request", "has a group, which no message of this API has; send it as its .proto file says"
                )
            else:
                raise malformed()
        if position != end:
            raise malformed()
        if not outer:
            return WireCost(len(data), count, integer_bytes)
        end, fields = outer.pop()


def _too_many_fields(most: int) -> LookalikeError:
    return invalid(
        "request",
        f"has more than {most:,} fields (values, map entries and messages at all levels); send less in one message",
    )


def _too_many_integers(most: int) -> LookalikeError:
    return invalid(
        "request",
        f"has integers that take more than {most:,} bytes in memory; send fewer in one message, and pixels as bytes",
    )


def _rest_of_varint(data: bytes, position: int, first: int) -> tuple[int, int]:
    """Return the number whose first byte, above 127, is before `position`, and the position after it."""
    value, shift = first & 0x7F, 7
    while shift < 7 * _MAX_VARINT_BYTES:
        group = data[position]
        position += 1
        value |= (group & 0x7F) << shift
        if group < 0x80:
            return value, position
        shift += 7
    raise malformed()


def _is_canonical_entry(data: bytes, position: int, after: int) -> bool:
    """Whether a map's long entry is as serializers write it: a key, a value, and nothing else."""
    low, high = data[position + 1], data[position + 2]
    if data[position] != _KEY_TAG or (low > 0x7F and high > 0x7F):
        return False
    value = position + 2 + low if low <= 0x7F else position + 3 + low + ((high - 1) << 7)
    if value + 2 > after or data[value] != _VALUE_TAG:
        return False
    low = data[value + 1]
    if low <= 0x7F:
        return value + 2 + low == after
    high = data[value + 2]
    return high <= 0x7F and value + 3 + low + ((high - 1) << 7) == after


def _count_varints(data: bytes, start: int, end: int, enough: int) -> int:
    """Count the numbers between two positions, until there are more than `enough`; of a few, assume one per byte."""
    if end - start <= _FEW_NUMBERS:
        return end - start
    count = 0
    for begin in range(start, end, 1 << 16):
        part = np.frombuffer(data, np.uint8, min(1 << 16, end - begin), begin)
        count += int(np.count_nonzero(part < 0x80))
        if count > enough:
            break
    return count
