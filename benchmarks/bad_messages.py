"""Messages that cost a server far more than they cost their sender: each is a gRPC call, or many at once."""

from __future__ import annotations

import io
import math
import struct
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, partial

import numpy as np
import numpy.typing as npt
from PIL import Image

from benchmarks.catalog.messages import UPSERT
from benchmarks.protocols import field
from lookalike_loadtest.cache_busting import encode_number, split_image
from lookalike_loadtest.requests import EMBED

GET_PRODUCT = "/lookalike.v1.CatalogService/GetProduct"

MIB = 1 << 20
_EMPTY_PRODUCT = b"\x0a\x00"  # field 1, a message of no bytes
_BOMB_BYTES = 42_000_000  # what gzip makes 41 KB of
_TWELVE_MEGAPIXELS = (3000, 4000)
_FILLER = (("x-filler", "a" * 50_000),)
_BLANK = (16_383, 3_000)  # WebP's widest
_INTERLACED = ((0, 0, 8, 8), (0, 4, 8, 8), (4, 0, 8, 4), (0, 2, 4, 4), (2, 0, 4, 2), (0, 1, 2, 2), (1, 0, 2, 1))
"""Adam7: first row, first column, rows apart, columns apart of every pass."""

KEYS = (
    *("empty-messages", "gzip-41k", "gzip-65k", "long-id", "metadata"),
    *("webp-blank", "webp-blank-16", "png", "jpeg-progressive", "png-interlaced", "webp"),
)
"""Their keys, in the same order."""

Pixels = npt.NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class BadMessage:
    """A message.

    Attributes:
        key: What the command line calls it.
        name: What the table calls it.
        method: The gRPC method.
        request: Makes its bytes, other ones for every number, where it is an image.
        is_image: Whether it is an image that a server may accept.
        copies: How many are sent at once.
        gzip: Whether gRPC compresses it.
        metadata: What is sent beside it.
    """

    key: str
    name: str
    method: str
    request: Callable[[int], bytes]
    is_image: bool = False
    copies: int = 1
    gzip: bool = False
    metadata: tuple[tuple[str, str], ...] = ()


def bad_messages(max_pixels: int) -> list[BadMessage]:
    """Return all of them.

    Args:
        max_pixels: The most pixels that the server accepts of an image that cannot shrink while it is decoded.
    """
    side = math.isqrt(max_pixels)
    limit = f"{side * side / 1e6:.0f} Mpx"
    pixels = partial(_waves, side, side)
    return [
        BadMessage("empty-messages", "60 MB of empty sub-messages", UPSERT, lambda _: _EMPTY_PRODUCT * 30_000_000),
        _bomb("gzip-41k", "gzip of 41 KB", _BOMB_BYTES),
        _bomb("gzip-65k", "gzip of 65 KB", 64 * MIB - 64),
        BadMessage("long-id", "64 MiB to GetProduct", GET_PRODUCT, lambda _: field(1, b"a" * (64 * MIB - 64))),
        BadMessage("metadata", "50 KB of metadata", GET_PRODUCT, lambda _: field(1, b"a"), metadata=_FILLER),
        _image("webp-blank", "blank WebP 16,383 x 3,000", blank_webp),
        _image("webp-blank-16", "blank WebP 16,383 x 3,000, 16 at once", blank_webp, copies=16),
        _image("png", "PNG, 12 Mpx", lambda: _file(_waves(*_TWELVE_MEGAPIXELS), "PNG", compress_level=1)),
        _image("jpeg-progressive", f"progressive JPEG, {limit}", lambda: _file(pixels(), "JPEG", progressive=True)),
        _image("png-interlaced", f"interlaced PNG, {limit}", lambda: interlaced_png(pixels())),
        _image("webp", f"WebP, {limit}", lambda: _file(pixels(), "WEBP", method=0, quality=40)),
    ]


def blank_webp() -> bytes:
    """Return a WebP file of 40 bytes or so that has 49 million pixels of one color."""
    return _file(np.zeros((_BLANK[1], _BLANK[0], 3), dtype=np.uint8), "WEBP", lossless=True, method=0)


def interlaced_png(pixels: Pixels) -> bytes:
    """Return an interlaced PNG file of uint8 [height, width, 3]; Pillow reads such files and writes none."""
    height, width, _ = pixels.shape
    packer = zlib.compressobj(6)
    packed = b""
    for row, column, rows, columns in _INTERLACED:
        part = pixels[row::rows, column::columns]
        if part.size:
            lines = np.zeros((len(part), 1 + part.shape[1] * 3), dtype=np.uint8)  # each begins with its filter: none
            lines[:, 1:] = part.reshape(len(part), -1)
            packed += packer.compress(lines.tobytes())
    packed += packer.flush()
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 1)
    chunks = (_chunk(b"IHDR", header), _chunk(b"IDAT", packed), _chunk(b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def _bomb(key: str, name: str, size: int) -> BadMessage:
    return BadMessage(key, name, UPSERT, lambda _: _EMPTY_PRODUCT * (size // 2), gzip=True)


def _image(key: str, name: str, make: Callable[[], bytes], copies: int = 1) -> BadMessage:
    made = cache(make)

    def request(number: int) -> bytes:
        # so that no copy is another one's answer from a cache
        return field(1, field(1, encode_number(number).join(split_image(made()))))

    return BadMessage(key, name, EMBED, request, is_image=True, copies=copies)


def _waves(height: int, width: int) -> Pixels:
    """Return waves of color in tiles of 8 x 8 pixels, uint8 [height, width, 3]: any file of it is below 10 MB."""
    rows = (127 + 90 * np.sin(np.arange(height) // 8 / 12))[:, None].astype(np.uint8)
    columns = (60 * np.cos(np.arange(width) // 8 / 7) + 60).astype(np.uint8)[None, :]
    both = rows // 2 + columns
    return np.stack([np.broadcast_to(rows, (height, width)), both, 255 - both], axis=-1)


def _file(pixels: Pixels, kind: str, **options: object) -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, kind, **options)
    return file.getvalue()
