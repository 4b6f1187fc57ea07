"""Which fields of a message a walk over its wire format looks into, from the descriptors of the generated code."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

from google.protobuf.descriptor import Descriptor, FieldDescriptor

LENGTH_DELIMITED = 2
"""The wire type of strings, messages and packed fields."""

_SMALL_LEAF_BYTES = 160
"""A box has 36, a short attribute 40, and to look into either would take longer than to parse it."""
_INTEGER_WIDTHS = {
    FieldDescriptor.TYPE_BOOL: 4,  # 1 in memory, but it takes as long to parse
    FieldDescriptor.TYPE_ENUM: 4,
    FieldDescriptor.TYPE_INT32: 4,
    FieldDescriptor.TYPE_SINT32: 4,
    FieldDescriptor.TYPE_UINT32: 4,
    FieldDescriptor.TYPE_INT64: 8,
    FieldDescriptor.TYPE_SINT64: 8,
    FieldDescriptor.TYPE_UINT64: 8,
}
_FIXED_WIDTH = (
    FieldDescriptor.TYPE_FLOAT,
    FieldDescriptor.TYPE_DOUBLE,
    FieldDescriptor.TYPE_FIXED32,
    FieldDescriptor.TYPE_FIXED64,
    FieldDescriptor.TYPE_SFIXED32,
    FieldDescriptor.TYPE_SFIXED64,
)


@dataclass(frozen=True, slots=True)
class Kind:
    """What a length-delimited field holds.

    Attributes:
        fields: The kinds of a sub-message's fields by tag, all below 128; None for packed integers.
        skipped_bytes: The most bytes of a sub-message that is not looked into.
        width: Bytes in memory of a packed integer.
        is_entry: Whether the sub-message is an entry of a map of strings.
    """

    fields: list[Kind | None] | None
    skipped_bytes: int = 0
    width: int = 0
    is_entry: bool = False


@lru_cache(64)
def kinds(message: Descriptor) -> list[Kind | None]:
    """Return the kinds of a message's length-delimited fields by tag; None for those not looked into."""
    table: list[Kind | None] = [None] * 0x80
    for field in message.fields:
        tag = field.number << 3 | LENGTH_DELIMITED
        if tag >= 0x80:
            raise ValueError(f"{field.full_name} has a number above 15, which the scan does not know")
        if field.message_type is not None:
            table[tag] = Kind(
                kinds(field.message_type),
                skipped_bytes=_SMALL_LEAF_BYTES if _is_leaf(field.message_type) else 0,
                is_entry=_is_string_entry(field.message_type),
            )
        elif field.is_repeated and field.type in _INTEGER_WIDTHS:
            table[tag] = Kind(None, width=_INTEGER_WIDTHS[field.type])
    return table


def _is_string_entry(message: Descriptor) -> bool:
    return message.GetOptions().map_entry and all(f.type == FieldDescriptor.TYPE_STRING for f in message.fields)


def _is_leaf(message: Descriptor) -> bool:
    """Whether nothing in a message grows in memory to several times its bytes.

    A map's entry is parsed into one place, whatever its value's type and however often the value is repeated.
    """
    if message.GetOptions().map_entry:
        return all(field.message_type is None or _is_leaf(field.message_type) for field in message.fields)
    return all(
        field.message_type is None and (not field.is_repeated or field.type in _FIXED_WIDTH) for field in message.fields
    )
