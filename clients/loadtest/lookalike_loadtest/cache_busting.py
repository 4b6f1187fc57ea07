"""Makes every image that is sent differ from all others, so that no cache of the server can answer for the model.

The server identifies images by the bytes that were sent. An image file carries a number where decoders do not look, so
what the model sees stays the same; raw pixels have nowhere else to carry it than their first three pixels.
"""

from __future__ import annotations

NUMBER_BYTES = 8

_JPEG = b"\xff\xd8"
_JPEG_COMMENT = b"\xff\xfe"


def split_image(image: bytes) -> tuple[bytes, bytes]:
    """Return what comes before and after `NUMBER_BYTES` bytes of any value in an image file, which decodes as before.

    A JPEG carries them in a comment at its beginning; other formats end where their headers say, and what follows is
    ignored.
    """
    if image.startswith(_JPEG):
        size = 2 + NUMBER_BYTES  # a segment's length counts its own two bytes
        return _JPEG + _JPEG_COMMENT + size.to_bytes(2, "big"), image[len(_JPEG) :]
    return image, b""


def encode_number(number: int) -> bytes:
    """Return a number as an image carries it."""
    return number.to_bytes(NUMBER_BYTES, "big")
