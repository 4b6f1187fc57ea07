"""Compressed requests, decompressed within bounds.

gRPC's own decompression knows no bound, so it is turned off (`grpc.per_message_decompression`), and a compressed
message arrives as the sender's gzip or zlib made it. Its first bytes say what it is: no message of
protobuf begins with gzip's, and one of ours begins with zlib's only where it has a field 15.
"""

from __future__ import annotations

import io
import zlib

from lookalike_server.domain.errors import LookalikeError, invalid

GZIP_START = b"\x1f\x8b"
"""As a tag of protobuf: field 3 with wire type 7, which does not exist."""
ZLIB_STARTS = frozenset({b"\x78\x01", b"\x78\x5e", b"\x78\x9c", b"\x78\xda"})
"""What gRPC calls deflate; as a tag and a number of protobuf: field 15 with 1, 94 or one of more than a byte."""
MAX_RATIO = 100
"""Measured: vectors and image files 1.1, sparse vectors 5, products 8, a thousand products with the same 64 attributes
65, and at 4 MiB pixels of a shape on plain white 100 to 400; bombs have 1,000."""
ANY_RATIO_BYTES = 4 * 1024 * 1024
"""What is not longer may have any ratio: pixels of a plain image of the model's size have 800."""

MAX_CONTENT_BYTES = 12 * 1024 * 1024
"""More is not decompressed by any method, because what is damaged takes memory and time until that is known: 15 MB and
30 ms for this. It is enough for an image file of 10 MiB and for 1,000 vectors of 3,072 dimensions, which hardly get
smaller, and for text."""

_READ_BYTES, _WRITE_BYTES = 64 * 1024, 256 * 1024  # at a time, so that nothing is in memory twice
_SHORTEST = 18  # bytes of gzip's header and trailer
_TRAILER_SIZE = 4  # bytes, the last ones: how many the content has


def declared_size(data: bytes) -> int:
    """Return how many bytes a message has once decompressed, as it says itself; its own size if not compressed.

    It costs nothing to ask. `gunzipped` never returns more than that.
    """
    if data[:2] != GZIP_START:
        return len(data)
    return int.from_bytes(data[-_TRAILER_SIZE:], "little") if len(data) >= _SHORTEST else 0


def gunzipped(data: bytes, max_bytes: int) -> bytes:
    """Decompress what begins with `GZIP_START`.

    The content's size is read from the end of the data before anything is decompressed, and no more than that is
    allocated for it.

    Raises:
        LookalikeError: INVALID_ARGUMENT with the field `request`: longer than `max_bytes` or `MAX_CONTENT_BYTES`,
            compressed by more than `MAX_RATIO`, or not one whole gzip member.
    """
    size = declared_size(data)
    if size > max_bytes:
        raise too_large(size, max_bytes, " when decompressed")
    if size > MAX_CONTENT_BYTES:
        raise invalid(
            "request",
            f"has {size:,} bytes when decompressed, more than {MAX_CONTENT_BYTES:,}; send it uncompressed",
        )
    if size > max(ANY_RATIO_BYTES, MAX_RATIO * len(data)):
        raise invalid(
            "request",
            f"has {size:,} bytes when decompressed, more than {MAX_RATIO} times its {len(data):,} compressed bytes;"
            " send it uncompressed",
        )
    try:
        return _inflated(data, size)
    except zlib.error:
        raise _damaged() from None


def _inflated(data: bytes, size: int) -> bytes:
    stream = zlib.decompressobj(wbits=16 + zlib.MAX_WBITS)
    content = io.BytesIO(bytes(size))  # whose buffer is written to in place, and returned
    for begin in range(0, len(data), _READ_BYTES):
        part = data[begin : begin + _READ_BYTES]
        while True:
            most = min(_WRITE_BYTES, size + 1 - content.tell())
            inflated = stream.decompress(part, most)
            if content.tell() + len(inflated) > size:
                raise _damaged()
            content.write(inflated)
            part = stream.unconsumed_tail
            if stream.eof or (not part and len(inflated) < most):
                break
        if stream.eof:
            if stream.unused_data or begin + _READ_BYTES < len(data):
                raise _damaged()
            return content.getvalue()
    raise _damaged()


def deflated() -> LookalikeError:
    """INVALID_ARGUMENT: the request is compressed by deflate, which does not say what size it has."""
    return invalid("request", "is compressed by deflate; send it compressed by gzip, or uncompressed")


def too_large(size: int, max_bytes: int, when: str = "") -> LookalikeError:
    """INVALID_ARGUMENT: the request is longer than the method takes."""
    return invalid(
        "request", f"has {size:,} bytes{when}; this method takes at most {max_bytes:,}: send less in one message"
    )


def _damaged() -> LookalikeError:
    return invalid("request", "is not one whole gzip member; compress the message once and send all of it")
