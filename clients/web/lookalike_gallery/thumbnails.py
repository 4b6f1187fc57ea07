"""Images of products: fetched through the client, made small in memory, and kept for a while.

What an image shows is data of others: only known formats of a sane size are opened, and what cannot be shown is None.
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
"""The server's own limit unless it is set otherwise."""

SIDE = 320
"""Of a thumbnail, in pixels: enough for a card on a screen with two pixels a point."""

_KEPT_BYTES = 64 * 1024 * 1024
_KEPT_SECONDS = 60.0


def thumbnail(data: bytes, side: int = SIDE) -> bytes | None:
    """The image upright on white as a JPEG of at most `side` x `side` pixels; None where it cannot be shown."""
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
    except Exception:  # noqa: BLE001 - Pillow raises whatever a damaged file makes it stumble over
        return None
    out = io.BytesIO()
    flat.save(out, "JPEG", quality=85)
    return out.getvalue()


class Images:
    """Thumbnails by product and image, each fetched once a minute at most; safe to use from several threads.

    The API does not say when a product was replaced, so a thumbnail may be a minute old; what this gallery changes
    itself it forgets at once.
    """

    def __init__(self, client: Client) -> None:
        self._client = client
        self._pool = ThreadPoolExecutor(8, thread_name_prefix="images")
        self._lock = threading.Lock()
        self._kept: OrderedDict[tuple[str, int], tuple[float, bytes | None]] = OrderedDict()
        self._bytes = 0

    def thumbnails(self, wanted: Sequence[tuple[str, int]]) -> list[bytes | None]:
        """The thumbnail of each (product id, image index), in their order; None for a product without that image.

        Raises:
            LookalikeError: The server is away, or rejects for another reason than that there is no such image.
        """
        return list(self._pool.map(self._thumbnail, wanted))

    def forget(self, product_id: str) -> None:
        """Fetch a product's images again when they are wanted again."""
        with self._lock:
            for key in [each for each in self._kept if each[0] == product_id]:
                self._drop(key)

    def _thumbnail(self, key: tuple[str, int]) -> bytes | None:
        now = time.monotonic()
        with self._lock:
            found = self._kept.get(key)
            if found is not None and now - found[0] < _KEPT_SECONDS:
                self._kept.move_to_end(key)
                return found[1]
        try:
            small = thumbnail(self._client.image(*key).data)
        except LookalikeError as error:
            if error.code.name != "NOT_FOUND":
                raise
            small = None
        with self._lock:
            self._drop(key)
            self._kept[key] = (now, small)
            self._bytes += len(small or b"")
            while self._bytes > _KEPT_BYTES:
                self._drop(next(iter(self._kept)))
        return small

    def _drop(self, key: tuple[str, int]) -> None:
        _, small = self._kept.pop(key, (0.0, None))
        self._bytes -= len(small or b"")
