"""The image file that is kept of an image: what a change of model embeds again, and what a page shows."""

from __future__ import annotations

import hashlib
import io

from PIL import Image as PilImage

from lookalike_server.domain.catalog import StoredImage
from lookalike_server.domain.inference import EncodedImage, Image, Pixels

_SIGNATURES = (
    (b"\xff\xd8\xff", "image/jpeg"),
    (b"\x89PNG\r\n\x1a\n", "image/png"),
    (b"GIF8", "image/gif"),
    (b"RIFF", "image/webp"),
    (b"BM", "image/bmp"),
)
_MOST_SHRINKING = 8  # times; a PNG of an image is seldom so much smaller than its pixels, and takes long to find out
_FAST = 1  # zlib's level: an image's pixels shrink little more with the others, and take far longer


def stored_image_of(image: Image, limit: int) -> StoredImage | None:
    """The file of an embedded image: as it was sent, or of raw pixels a PNG. None where it is over `limit` bytes.

    Blocks: it hashes the file, and makes it where there was none.
    """
    if isinstance(image, EncodedImage):
        data = image.data
    elif image.pixels.nbytes > _MOST_SHRINKING * limit:
        return None
    else:
        data = _png(image.pixels)
    if len(data) > limit:
        return None
    media_type = next((name for start, name in _SIGNATURES if data.startswith(start)), "application/octet-stream")
    return StoredImage(hashlib.sha256(data).hexdigest(), media_type, data, image.region)


def _png(pixels: Pixels) -> bytes:
    file = io.BytesIO()
    PilImage.fromarray(pixels).save(file, "PNG", compress_level=_FAST)
    return file.getvalue()
