"""The picture file that is kept of a photo: what a change of model embeds anew, and what a page shows."""

from __future__ import annotations

import hashlib
import io

from PIL import Image

from lookalike_server.domain import EncodedPhoto, Photo, Picture, Pixels

_SIGNATURES = (
    (b"\xff\xd8\xff", "image/jpeg"),
    (b"\x89PNG\r\n\x1a\n", "image/png"),
    (b"GIF8", "image/gif"),
    (b"RIFF", "image/webp"),
    (b"BM", "image/bmp"),
)
_MOST_SHRINKING = 8  # times; a PNG of a photo is seldom so much smaller than its pixels, and takes long to find out
_FAST = 1  # zlib's level: a photo's pixels shrink little more with the others, and take far longer


def picture_of(photo: Photo, limit: int) -> Picture | None:
    """The file of an embedded photo: as it was sent, or of raw pixels a PNG. None where it is over `limit` bytes.

    Blocks: it hashes the file, and makes it where there was none.
    """
    if isinstance(photo, EncodedPhoto):
        data = photo.data
    elif photo.pixels.nbytes > _MOST_SHRINKING * limit:
        return None
    else:
        data = _png(photo.pixels)
    if len(data) > limit:
        return None
    media_type = next((name for start, name in _SIGNATURES if data.startswith(start)), "application/octet-stream")
    return Picture(hashlib.sha256(data).hexdigest(), media_type, data, photo.region)


def _png(pixels: Pixels) -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG", compress_level=_FAST)
    return file.getvalue()
