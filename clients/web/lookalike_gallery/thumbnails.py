"""Thumbnails of product images, fetched through the client and cached in memory.

Images are untrusted: only known formats of a limited size are decoded, and what cannot be decoded is None.
"""

from __future__ import annotations

import io
import threading
import time
import warnings
from collections import OrderedDict
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

from PIL import Image, ImageOps

from lookalike_client import Client, LookalikeError

FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP")
MAX_PIXELS = 50_000_000
"""The server's default limit."""

SIDE = 320
"""The longest side of a thumbnail in pixels: enough for a card on a high-density screen."""

_CACHE_BYTES = 64 * 1024 * 1024
_CACHE_SECONDS = 60.0


def thumbnail(data: bytes, side: int = SIDE) -> bytes | None:
    """Return an upright JPEG on white of at most `side` x `side` pixels; None if the image cannot be decoded."""
    try:
        with warnings.catch_warnings(), Image.open(io.BytesIO(data), formats=FORMATS) as image:
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            if image.width * image.height > MAX_PIXELS:
                return None
            image.draft("RGB", (2 * side, 2 * side))
            upright = ImageOps.exif_transpose(image)
            upright.thumbnail((side, side))
            flat = Image.new("RGB", upright.size, "white")
            clear = upright.convert("RGBA") if upright.has_transparency_data else None
            flat.paste(clear or upright.convert("RGB"), mask=clear)
    except Exception:  # noqa: BLE001 - Pillow raises many types for a damaged file
        return None
    out = io.BytesIO()
    flat.save(out, "JPEG", quality=85)
    return out.getvalue()


class ThumbnailCache:
    """Thumbnails by product and image, each fetched at most once a minute; thread-safe.

    The API does not say when a product was replaced, so a thumbnail may be a minute old; edits of this gallery drop
    the cached one at once.
    """

    def __init__(self, client: Client) -> None:
        self._client = client
        self._pool = ThreadPoolExecutor(8, thread_name_prefix="images")
        self._lock = threading.Lock()
        self._entries: OrderedDict[tuple[str, int], tuple[float, bytes | None]] = OrderedDict()
        self._bytes = 0

    def get(self, keys: Sequence[tuple[str, int]]) -> list[bytes | None]:
        """Return the thumbnail of each (product id, image index) in order; None for a product without that image.

        Raises:
            LookalikeError: A call failed for another reason than NOT_FOUND.
        """
        return list(self._pool.map(self._get, keys))

    def forget(self, product_id: str) -> None:
        """Drop the thumbnails of a product."""
        with self._lock:
            for key in [each for each in self._entries if each[0] == product_id]:
                self._drop(key)

    def _get(self, key: tuple[str, int]) -> bytes | None:
        now = time.monotonic()
        with self._lock:
            entry = self._entries.get(key)
            if entry is not None and now - entry[0] < _CACHE_SECONDS:
                self._entries.move_to_end(key)
                return entry[1]
        try:
            small = thumbnail(self._client.image(*key).data)
        except LookalikeError as error:
            if error.code.name != "NOT_FOUND":
                raise
            small = None
        with self._lock:
            self._drop(key)
            self._entries[key] = (now, small)
            self._bytes += len(small or b"")
            while self._bytes > _CACHE_BYTES:
                self._drop(next(iter(self._entries)))
        return small

    def _drop(self, key: tuple[str, int]) -> None:
        _, small = self._entries.pop(key, (0.0, None))
        self._bytes -= len(small or b"")
