"""Makes image files in memory, with Pillow where it writes them and by hand where it does not."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Iterable
from typing import Any

import numpy as np
from PIL import Image

from lookalike_server.domain.inference import Pixels

PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"


def blocks(rows: int, columns: int, side: int) -> Pixels:
    """An image of plain squares, each of a color of its own, that no turn or mirror maps onto itself."""
    colors = np.random.default_rng(7).integers(0, 256, size=(rows, columns, 3), dtype=np.uint8)
    return np.repeat(np.repeat(colors, side, axis=0), side, axis=1)


def save(image: Image.Image, file_format: str, **options: Any) -> bytes:
    """This image as a file of Pillow's."""
    buffer = io.BytesIO()
    image.save(buffer, file_format, **options)
    return buffer.getvalue()


def exif(orientation: int) -> Image.Exif:
    """EXIF that says how the camera was held."""
    tags = Image.Exif()
    tags[0x0112] = orientation
    return tags


def chunk(kind: bytes, data: bytes) -> bytes:
    """One chunk of a PNG file."""
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(width: int, height: int, depth: int, color_type: int, rows: Iterable[bytes]) -> bytes:
    """A PNG file of exactly these samples; `rows` may be fewer than the header claims."""
    header = struct.pack(">IIBBBBB", width, height, depth, color_type, 0, 0, 0)
    samples = zlib.compress(b"".join(b"\0" + row for row in rows))
    return PNG_SIGNATURE + chunk(b"IHDR", header) + chunk(b"IDAT", samples) + chunk(b"IEND", b"")


def ycck_jpeg(luma: int, blue: int, red: int, black: int) -> bytes:
    """A plain JPEG of exactly these YCCK samples.

    libjpeg (jdcolor.c) turns the first three from YCbCr to RGB and takes C = 255 - R and so on; Adobe's programs store
    these and K inverted. So the first three are the YCbCr of the inks themselves, and the last is 255 without black.
    """
    # Pillow inverts as it writes an Adobe CMYK file, and leaves the rest as it is; then the marker tells another tale.
    inverted = tuple(255 - sample for sample in (luma, blue, red, black))
    data = bytearray(save(Image.new("CMYK", (16, 16), inverted), "JPEG", quality=100))
    data[data.index(b"\xff\xee\x00\x0eAdobe") + 15] = 2  # the color transform: YCCK
    return bytes(data)
