"""What an image file's header says: format, size, and how the decoder will hold it. Read in microseconds.

Pillow's own parsers come too late for this: its WebP parser takes the memory of the whole canvas when it opens a file.
Files are walked as libjpeg, libwebp and Pillow walk them, and no further than a bounded number of blocks.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum

from lookalike_server.inference.heif_boxes import BoxError
from lookalike_server.inference.heif_header import is_avif, is_heic, read_heif_header

# More blocks than this before the pixels are in no real file: an ICC profile in a JPEG has at most 255.
_MAX_BLOCKS = 4096


class ImageKind(Enum):
    """The kinds of files that cost differently to decode; the value is what errors call it."""

    JPEG = "JPEG"
    PROGRESSIVE_JPEG = "progressive JPEG"
    PNG = "PNG"
    INTERLACED_PNG = "interlaced PNG"
    WEBP = "WebP"
    GIF = "GIF"
    BMP = "BMP"
    AVIF = "AVIF"
    HEIC = "HEIC"


@dataclass(frozen=True, slots=True)
class ImageHeader:
    """The header of an image file.

    Attributes:
        kind: The kind of file.
        width: Columns of the stored image, before EXIF rotates it.
        height: Rows of the stored image.
        pixel_bytes: Bytes that Pillow holds for each decoded pixel.
        held_bytes: Bytes that the decoder holds beside them, for the image at full size: libjpeg's DCT coefficients,
            until the last scan; the frames of an AVIF or HEIC.
        scans_at: Where a JPEG's scans begin in the file.
    """

    kind: ImageKind
    width: int
    height: int
    pixel_bytes: int
    held_bytes: int = 0
    scans_at: int = 0


class BrokenHeaderError(ValueError):
    """The header of a known format is truncated or invalid; the message is the format's name, and what is wrong."""


class UnsupportedImageError(ValueError):
    """The file is valid and still not decoded; the message says what it is and what to send."""


def read_header(data: bytes) -> ImageHeader | None:
    """Read the header of a JPEG, PNG, WebP, AVIF, HEIC, GIF or BMP file; None for anything else.

    Raises:
        BrokenHeaderError: The header is truncated or invalid.
        UnsupportedImageError: It is a BMP whose pixels are compressed.
    """
    if data[4:8] == b"ftyp":
        return _heif(data)
    for signature, name, read in _READERS:
        if data.startswith(signature) and (name != "WebP" or data[8:12] == b"WEBP"):
            try:
                header = read(data)
            except (struct.error, IndexError):
                header = None
            if header is None or header.width < 1 or header.height < 1:
                raise BrokenHeaderError(f"{name}: its header is truncated or invalid")
            return header
    return None


def _heif(data: bytes) -> ImageHeader | None:
    """Read what is in a file of the family of AVIF and HEIC; None for its other members, as videos."""
    if not (is_avif(data) or is_heic(data)):
        return None
    kind = ImageKind.AVIF if is_avif(data) else ImageKind.HEIC
    try:
        width, height, held_bytes = read_heif_header(data)
        return ImageHeader(kind, width, height, 4, held_bytes)
    except BoxError as error:
        raise BrokenHeaderError(f"{kind.value}: {error}") from None
    except (struct.error, IndexError):
        raise BrokenHeaderError(f"{kind.value}: its header is truncated or invalid") from None


def _jpeg(data: bytes) -> ImageHeader | None:
    """Find the frame header (ITU-T T.81, B.2.2) and the first scan's (B.2.3)."""
    position, frame = 2, None
    for _ in range(_MAX_BLOCKS):
        position = data.find(b"\xff", position)
        while position >= 0 and data[position] == 0xFF:
            position += 1
        if position < 0:
            return None
        marker = data[position]
        position += 1
        if marker in (0x00, 0x01) or 0xD0 <= marker <= 0xD9:  # without a length
            continue
        if marker == 0xDA:
            return _jpeg_header(frame, data[position + 2], position - 2) if frame else None
        (length,) = struct.unpack_from(">H", data, position)
        if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC) and frame is None:
            frame = (marker, data[position + 2 : position + length])
        position += length
    return None


def _jpeg_header(frame: tuple[int, bytes], scan_components: int, scans_at: int) -> ImageHeader | None:
    marker, body = frame
    _, height, width, components = struct.unpack_from(">BHHB", body)
    factors = [(body[7 + 3 * i] >> 4, body[7 + 3 * i] & 15) for i in range(components)]
    if not factors or not all(across and down for across, down in factors):
        return None
    # Also a sequential file is decoded only after its last scan, when one scan does not have all components.
    several_scans = marker not in (0xC0, 0xC1) or scan_components < components
    # An int16 for each sample of whole MCUs (libjpeg-turbo's jdcoefct.c).
    most_across, most_down = (max(each) for each in zip(*factors, strict=True))
    mcus = -(-width // (8 * most_across)) * -(-height // (8 * most_down))
    coefficients = 2 * 64 * mcus * sum(across * down for across, down in factors) if several_scans else 0
    kind = ImageKind.PROGRESSIVE_JPEG if several_scans else ImageKind.JPEG
    return ImageHeader(kind, width, height, 1 if components == 1 else 4, coefficients, scans_at)


def _png(data: bytes) -> ImageHeader | None:
    """Read IHDR, which is the first chunk (PNG 1.2, section 4.1.1)."""
    if data[12:16] != b"IHDR":
        return None
    width, height, depth, color_type, _, _, interlaced = struct.unpack_from(">IIBBBBB", data, 16)
    pixel_bytes = 4 if color_type in (2, 4, 6) else 2 if depth == 16 else 1
    return ImageHeader(ImageKind.INTERLACED_PNG if interlaced else ImageKind.PNG, width, height, pixel_bytes)


def _gif(data: bytes) -> ImageHeader | None:
    """Find the first frame, to which Pillow enlarges the screen."""
    width, height, flags = struct.unpack_from("<HHB", data, 6)
    position = 13 + (3 << (flags & 7) + 1 if flags & 0x80 else 0)
    in_extension = False
    for _ in range(_MAX_BLOCKS):
        block = data[position]
        position += 1
        if in_extension:  # a chain of blocks, each after its length
            position += block
            in_extension = block > 0
        elif block == ord("!"):
            position, in_extension = position + 1, True
        elif block == ord(","):
            left, top, across, down = struct.unpack_from("<4H", data, position)
            return ImageHeader(ImageKind.GIF, max(width, left + across), max(height, top + down), 1)
        elif block == ord(";"):
            return None
    return None


def _bmp(data: bytes) -> ImageHeader | None:
    header_size, width, height = struct.unpack_from("<Iii", data, 14)
    if header_size == 12:  # OS/2 1.0
        width, height, _, bits = struct.unpack_from("<4H", data, 18)
        compression = 0
    else:
        bits, compression = struct.unpack_from("<HI", data, 28)
    if compression in (1, 2):  # Pillow's decoder for it is in Python, a pixel at a time, and holds the GIL
        raise UnsupportedImageError("is a BMP with RLE compression; send it uncompressed, or as PNG")
    return ImageHeader(ImageKind.BMP, width, abs(height), 4 if bits > 8 else 1)


def _webp(data: bytes) -> ImageHeader | None:
    """Read the size of the canvas, and of the first frame in it (RFC 9649, section 2)."""
    if data[12:16] != b"VP8X":
        size = _webp_frame(data, 12)
        return size and ImageHeader(ImageKind.WEBP, *size, 4)
    canvas = (_int24(data, 24) + 1, _int24(data, 27) + 1)
    position = 12
    for _ in range(_MAX_BLOCKS):
        name = data[position : position + 4]
        if name in (b"VP8 ", b"VP8L", b"ANMF"):
            if name == b"ANMF":
                frame = (_int24(data, position + 14) + 1, _int24(data, position + 17) + 1)
                fits = frame[0] <= canvas[0] and frame[1] <= canvas[1]
            else:
                fits = _webp_frame(data, position) == canvas
            return ImageHeader(ImageKind.WEBP, *canvas, 4) if fits else None
        (length,) = struct.unpack_from("<I", data, position + 4)
        position += 8 + length + length % 2
    return None


def _webp_frame(data: bytes, position: int) -> tuple[int, int] | None:
    name, begin = data[position : position + 4], position + 8
    if name == b"VP8 " and data[begin + 3 : begin + 6] == b"\x9d\x01\x2a":
        width, height = struct.unpack_from("<HH", data, begin + 6)
        return width & 0x3FFF, height & 0x3FFF
    if name == b"VP8L" and data[begin] == 0x2F:
        (bits,) = struct.unpack_from("<I", data, begin + 1)
        return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
    return None


def _int24(data: bytes, position: int) -> int:
    return data[position] | data[position + 1] << 8 | data[position + 2] << 16


_READERS: tuple[tuple[bytes, str, Callable[[bytes], ImageHeader | None]], ...] = (
    (b"\xff\xd8\xff", "JPEG", _jpeg),
    (b"\x89PNG\r\n\x1a\n", "PNG", _png),
    (b"RIFF", "WebP", _webp),
    (b"GIF87a", "GIF", _gif),
    (b"GIF89a", "GIF", _gif),
    (b"BM", "BMP", _bmp),
)
