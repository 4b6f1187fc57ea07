"""Bytes in protobuf's wire format, as no serializer would write them."""

from __future__ import annotations

from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass

from lookalike.vector_codec import encode_varint, field_header
from lookalike_server.rpc.message_limits import methods

MESSAGES: dict[str, type[Message]] = {name: GetMessageClass(method.input_type) for name, method in methods()}
"""The class of each method's request, by the method's full name."""


def nested(*numbers: int, inside: bytes = b"") -> bytes:
    """Put bytes into a field, into a field, ...: the outermost number first."""
    for number in reversed(numbers):
        inside = field_header(number, len(inside)) + inside
    return inside


def number(field: int, value: int) -> bytes:
    """Write an integer."""
    return encode_varint(field << 3) + encode_varint(value)
