"""A request's bytes, checked before protobuf parses them: size, compression, and what parsing would cost."""

from __future__ import annotations

from lookalike_server.rpc.decompression import GZIP_START, ZLIB_STARTS, deflated, gunzipped, too_large
from lookalike_server.rpc.message_limits import MessageLimits
from lookalike_server.rpc.wire_scan import check_wire

HARMLESS_BYTES = 160 * 1024
"""What is not longer is not walked over: protobuf takes at most 100 bytes of memory per byte, so 16 MiB for this. An
image of raw pixels of 224 x 224 has 147 KiB."""

_ZLIB_FIELD = 15


def checked(data: bytes, limits: MessageLimits) -> bytes:
    """Return the message to parse: these bytes, or what they are compressed from.

    Args:
        data: The message as it was received.
        limits: Those of its method.

    Raises:
        LookalikeError: INVALID_ARGUMENT with the field `request`, and what to do: it is too long, cannot be
            decompressed, or would take too much memory or time to parse. Other bytes that are no message may pass: the
            parser finds them.
    """
    if len(data) > limits.max_bytes:
        raise too_large(len(data), limits.max_bytes)
    start = data[:2]
    if start == GZIP_START:
        data = gunzipped(data, limits.max_bytes)
    elif start in ZLIB_STARTS and _ZLIB_FIELD not in limits.message.fields_by_number:
        raise deflated()
    if len(data) > HARMLESS_BYTES:
        check_wire(data, limits.message, limits.max_fields, limits.max_bytes)
    return data
