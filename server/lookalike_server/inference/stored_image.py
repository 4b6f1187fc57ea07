"""The image file that the catalog stores: `reembed` reads it after a change of model, and pages show it."""

from __future__ import annotations

import hashlib
import io

from PIL import Image as PilImage

from lookalike_server.domain.catalog import StoredImage
from lookalike_server.domain.inference import EncodedImage, Image, Pixels
from lookalike_server.inference.heif_header import is_heic

_SIGNATURES = (
    (b"\xff\xd8\xff", "image/jpeg"),
    (b"\x89PNG\r\n\x1a\n", "image/png"),
    (b"GIF8", "image/gif"),
    (b"RIFF", "image/webp"),
    (b"BM", "image/bmp"),
)
_MAX_COMPRESSION = 8  # a PNG is rarely smaller than its pixels by more, and encoding it just to find out takes long
_FAST = 1  # zlib's level: higher ones compress an image hardly more and take far longer


def stored_image_of(image: Image, limit: int) -> StoredImage | None:
    """Return the file as it was sent, or a PNG of raw pixels; None where it is larger than `limit` bytes.

    Blocks while it encodes and hashes.
    """
    if isinstance(image, EncodedImage):
        data = image.data
    elif image.pixels.nbytes > _MAX_COMPRESSION * limit:
        return None
    else:
        data = _png(image.pixels)
    if len(data) > limit:
        return None
    return StoredImage(hashlib.sha256(data).hexdigest(), _media_type(data), data, image.region)


def _media_type(data: bytes) -> str:
    if data[4:8] == b"ftyp":
        return "image/heic" if is_heic(data) else "image/avif"
    return next((name for start, name in _SIGNATURES if data.startswith(start)), "application/octet-stream")


def _png(pixels: Pixels) -> bytes:
    file = io.BytesIO()
    PilImage.fromarray(pixels).save(file, "PNG", compress_level=_FAST)
    return file.getvalue()
