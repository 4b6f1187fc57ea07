"""Writes image files in memory, with Pillow where it can and by hand where it cannot."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Iterable
from typing import Any

import numpy as np
import pillow_heif
from PIL import Image

from lookalike_server.domain.inference import Pixels

PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"


def blocks(rows: int, columns: int, side: int) -> Pixels:
    """Draw squares of different colors, which no rotation or mirroring maps onto themselves."""
    colors = np.random.default_rng(7).integers(0, 256, size=(rows, columns, 3), dtype=np.uint8)
    return np.repeat(np.repeat(colors, side, axis=0), side, axis=1)


def smooth(width: int, height: int) -> Image.Image:
    """Draw an image with some detail that all formats compress."""
    across, down = np.arange(width), np.arange(height)[:, np.newaxis]
    pixels = np.stack([across + 0 * down, across // 3 + down // 2, down + 0 * across], axis=-1)
    return Image.fromarray((pixels & 255).astype(np.uint8))


def save(image: Image.Image, file_format: str, **options: Any) -> bytes:
    """Write an image with Pillow."""
    buffer = io.BytesIO()
    image.save(buffer, file_format, **options)
    return buffer.getvalue()


def heic(image: Image.Image, **options: Any) -> bytes:
    """Write a HEIC, in tiles of `tile_size` where that is given; one with an orientation says so to its decoder."""
    if "exif" in options:
        options["exif"] = options["exif"].tobytes()
    buffer = io.BytesIO()
    pillow_heif.from_pillow(image).save(buffer, format="HEIF", **options)
    return buffer.getvalue()


def deep_heic(image: Image.Image) -> bytes:
    """Write a HEIC of 10 bits a channel without subsampling."""
    samples = np.asarray(image).astype(np.uint16) * 257
    buffer = io.BytesIO()
    pillow_heif.from_bytes("RGB;16", image.size, samples.tobytes()).save(buffer, format="HEIF", chroma=444)
    return buffer.getvalue()


def with_alpha(image: Image.Image) -> Image.Image:
    """Add the image's own brightness as its alpha."""
    image = image.copy()
    image.putalpha(image.convert("L"))
    return image


def exif(orientation: int) -> Image.Exif:
    """Return EXIF data with an orientation."""
    tags = Image.Exif()
    tags[0x0112] = orientation
    return tags


def chunk(kind: bytes, data: bytes) -> bytes:
    """Return one chunk of a PNG file."""
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(width: int, height: int, depth: int, color_type: int, rows: Iterable[bytes]) -> bytes:
    """Write a PNG file of exactly these samples; `rows` may be fewer than the header claims."""
    header = struct.pack(">IIBBBBB", width, height, depth, color_type, 0, 0, 0)
    samples = zlib.compress(b"".join(b"\0" + row for row in rows))
    return PNG_SIGNATURE + chunk(b"IHDR", header) + chunk(b"IDAT", samples) + chunk(b"IEND", b"")


def ycck_jpeg(luma: int, blue: int, red: int, black: int) -> bytes:
    """Write a JPEG of exactly these YCCK samples.

    libjpeg (jdcolor.c) converts the first three from YCbCr to RGB and takes C = 255 - R and so on; Adobe's programs
    store these and K inverted. So the first three are the YCbCr of the inks themselves, and the last is 255 without
    black.
    """
    # Pillow only inverts as it writes an Adobe CMYK file; then the marker is changed to declare the samples YCCK.
    inverted = tuple(255 - sample for sample in (luma, blue, red, black))
    data = bytearray(save(Image.new("CMYK", (16, 16), inverted), "JPEG", quality=100))
    data[data.index(b"\xff\xee\x00\x0eAdobe") + 15] = 2  # the color transform: YCCK
    return bytes(data)
