"""Images that cost far more than their bytes."""

from __future__ import annotations

import struct


def flat_webp(width: int, height: int) -> bytes:
    """Make a lossless WebP of one color in 40 bytes, of up to 16,383 x 16,383 pixels.

    Each of its five codes has a single symbol, so that a pixel takes no bit (RFC 9649).
    """
    bits, length = 0, 0

    def put(value: int, count: int) -> None:
        nonlocal bits, length
        bits |= value << length
        length += count

    put(width - 1, 14)
    put(height - 1, 14)
    put(0, 1 + 3)  # no alpha, version 0
    put(0, 1 + 1 + 1)  # no transform, no cache of colors, one group of codes
    for _ in range(5):
        put(0b0001, 4)  # simple; one symbol, of one bit: 0
    body = b"\x2f" + bits.to_bytes((length + 7) // 8, "little")
    body += bytes(40 - 20 - len(body))
    return b"RIFF" + struct.pack("<I", 32) + b"WEBPVP8L" + struct.pack("<I", len(body)) + body
