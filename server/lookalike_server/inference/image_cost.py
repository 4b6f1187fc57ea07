"""What an image may cost: the pixel limits of files that cannot shrink while decoding, and the memory decoding takes.

The figures were measured with Pillow 13 in processes of their own; `tests/unit/server/test_image_cost.py` repeats that.
"""

from __future__ import annotations

import math
import sys
from dataclasses import dataclass

from lookalike_server.domain.inference import Region
from lookalike_server.inference.color import MAX_PROFILE_BYTES
from lookalike_server.inference.image_header import ImageHeader, ImageKind
from lookalike_server.inference.upright import BAND_PIXELS, COPY_BYTES, WHOLE_PIXELS

MAX_SIDE = 65_535
"""The most columns or rows, JPEG's own limit: resizing takes memory for the model's width times the image's height."""

MAX_SCANS = 32
"""The most scans of a JPEG: each passes over the whole image, however little is in it. Encoders write about ten."""

# Bytes for each pixel that are held at once, where it is not what Pillow stores: libwebp's two RGBA canvases, the bytes
# that it returns and Pillow's copy of them; a GIF's frame and the background that its disposal asks for; what libavif
# and libheif convert a frame to and return, or Pillow's copy of that, beside its transparency of 16 bits.
_PIXEL_BYTES = {ImageKind.WEBP: 16, ImageKind.GIF: 2, ImageKind.AVIF: 10, ImageKind.HEIC: 10}

# A color profile as Pillow, LittleCMS and the cache of transforms hold it.
_PROFILE_COPIES = 3

# libjpeg's buffers for rows, for each column of the full image; and what every decoder takes, with Pillow's limit of
# 1 MiB each for a PNG's decompressed texts and color profile.
_JPEG_COLUMN_BYTES = 384
_DECODER_BYTES = 4 << 20


@dataclass(frozen=True, slots=True)
class PixelLimits:
    """The most pixels of each kind of file that cannot shrink while it is decoded.

    Attributes:
        progressive_jpeg: Of a JPEG with several scans, whose coefficients are held at full size until the last one.
        png: Of a PNG, GIF or BMP.
        interlaced_png: Of an interlaced PNG.
        webp: Of a WebP's canvas.
        avif: Of an AVIF.
        heic: Of a HEIC.
    """

    progressive_jpeg: int = sys.maxsize
    png: int = sys.maxsize
    interlaced_png: int = sys.maxsize
    webp: int = sys.maxsize
    avif: int = sys.maxsize
    heic: int = sys.maxsize

    def of(self, kind: ImageKind) -> int:
        """Return the limit of a kind of file."""
        match kind:
            case ImageKind.JPEG:
                return sys.maxsize
            case ImageKind.PROGRESSIVE_JPEG:
                return self.progressive_jpeg
            case ImageKind.INTERLACED_PNG:
                return self.interlaced_png
            case ImageKind.WEBP:
                return self.webp
            case ImageKind.AVIF:
                return self.avif
            case ImageKind.HEIC:
                return self.heic
            case ImageKind.PNG | ImageKind.GIF | ImageKind.BMP:
                return self.png


NO_LIMITS = PixelLimits()
"""No limits beside the one that all images have."""


def file_decoding_bytes(
    header: ImageHeader, scale: int, input_width: int, file_bytes: int, region: Region | None
) -> int:
    """Predict the most bytes that decoding and resizing a file takes at once, beside the file itself.

    Args:
        header: The file's header.
        scale: The factor by which a JPEG is reduced while it is decoded; else 1.
        input_width: Columns of the model's input.
        file_bytes: The size of the file.
        region: What is cropped from it.
    """
    width, height = -(-header.width // scale), -(-header.height // scale)
    held = width * height * _PIXEL_BYTES.get(header.kind, header.pixel_bytes) + header.held_bytes
    if header.kind in (ImageKind.WEBP, ImageKind.AVIF, ImageKind.HEIC):
        held += file_bytes  # the library needs the file in one piece, which Pillow makes
    held += _PROFILE_COPIES * min(file_bytes, MAX_PROFILE_BYTES)
    copy_bytes = COPY_BYTES
    if header.kind in (ImageKind.JPEG, ImageKind.PROGRESSIVE_JPEG):
        held += _JPEG_COLUMN_BYTES * header.width
        copy_bytes = 3 * header.pixel_bytes  # it has no transparency
    return held + _DECODER_BYTES + resizing_bytes(width, height, input_width, region, copy_bytes)


def resizing_bytes(
    width: int, height: int, input_width: int, region: Region | None, copy_bytes: int = COPY_BYTES
) -> int:
    """Predict the most bytes that resizing decoded pixels takes at once, beside those pixels.

    Args:
        width: Columns of the decoded pixels.
        height: Rows of the decoded pixels.
        input_width: Columns of the model's input.
        region: What is cropped from them.
        copy_bytes: Bytes held at once for each pixel that is converted.
    """
    share = 1.0 if region is None else (region.right - region.left) * (region.bottom - region.top)
    pixels, edge = share * width * height, width + height  # the region touches others at its edge
    at_once = BAND_PIXELS if pixels - edge > WHOLE_PIXELS else min(math.ceil(pixels) + 2 * edge, WHOLE_PIXELS)
    # EXIF may rotate the image, so the longer side may be the one that is not resized first.
    return 4 * input_width * max(width, height) + copy_bytes * at_once
