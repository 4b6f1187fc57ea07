"""Opens an image file with the one reader of Pillow that its header asks for, and says what was wrong with it."""

from __future__ import annotations

import io
import re
from collections.abc import Callable
from typing import Any

from PIL import AvifImagePlugin, BmpImagePlugin, GifImagePlugin, JpegImagePlugin, PngImagePlugin, WebPImagePlugin
from PIL import Image as PilImage

import lookalike_server.inference.pillow_metadata  # noqa: F401 - changes Pillow
from lookalike_server.inference.image_header import ImageHeader, ImageKind

_READERS: dict[ImageKind, Callable[[io.BytesIO], Any]] = {
    ImageKind.JPEG: JpegImagePlugin.jpeg_factory,
    ImageKind.PROGRESSIVE_JPEG: JpegImagePlugin.jpeg_factory,
    ImageKind.PNG: PngImagePlugin.PngImageFile,
    ImageKind.INTERLACED_PNG: PngImagePlugin.PngImageFile,
    ImageKind.WEBP: WebPImagePlugin.WebPImageFile,
    ImageKind.GIF: GifImagePlugin.GifImageFile,
    ImageKind.BMP: BmpImagePlugin.BmpImageFile,
    ImageKind.AVIF: AvifImagePlugin.AvifImageFile,
}

try:
    import pillow_heif
except ImportError:
    pass
else:
    _READERS[ImageKind.HEIC] = pillow_heif.HeifImageFile
    # Images are decoded beside each other, one in a thread; and only the image itself.
    pillow_heif.options.DECODE_THREADS = 0
    pillow_heif.options.THUMBNAILS = pillow_heif.options.DEPTH_IMAGES = pillow_heif.options.AUX_IMAGES = False

HEIC_IS_READ = ImageKind.HEIC in _READERS

_MAX_REASON = 80


def open_image(data: bytes, header: ImageHeader) -> PilImage.Image:
    """Open a file without decoding its pixels.

    Raises:
        Exception: It is broken; the readers' errors have no common class.
    """
    if header.kind is ImageKind.AVIF and data[8:12] != b"avif":
        # The still image, which `read_header` looked at, and never the frames of an animation.
        data = data[:8] + b"avif" + data[12:]
    opened: PilImage.Image = _READERS[header.kind](io.BytesIO(data))
    stored = (header.width, header.height)
    # libheif turns a HEIC upright itself, and may crop it.
    fits = opened.width * opened.height <= stored[0] * stored[1] if header.kind is ImageKind.HEIC else None
    if not (opened.size == stored if fits is None else fits):
        raise ValueError("it has several headers that disagree")
    return opened


def reason_of(error: Exception) -> str:
    """Say what is wrong with a file, in a reader's words, without the values that a caller may choose."""
    text = re.sub(r"^broken PNG file \((.*)\)$", r"\1", str(error))
    text = re.sub(r"b'(\w+)'", r"\1", text)
    if not text or not text.isascii() or not text.isprintable() or len(text) > _MAX_REASON:
        return "it cannot be decoded"
    return text
