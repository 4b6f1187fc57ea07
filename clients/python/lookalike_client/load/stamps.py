"""Makes every photo that is sent differ from all others, so that no cache of the server can answer for the model.

The server knows photos by what was sent. A picture file carries a number where decoders do not look, so what the model
sees stays the same; raw pixels have nowhere else to carry it than their first three pixels.
"""

from __future__ import annotations

STAMP_BYTES = 8

_JPEG = b"\xff\xd8"
_JPEG_COMMENT = b"\xff\xfe"


def around_stamp(photo: bytes) -> tuple[bytes, bytes]:
    """What comes before and after `STAMP_BYTES` of any value in a picture file, which decodes as it did.

    A JPEG carries them in a comment at its beginning; other formats end where their headers say, and what follows is
    ignored.
    """
    if photo.startswith(_JPEG):
        size = 2 + STAMP_BYTES  # a segment's length counts its own two bytes
        return _JPEG + _JPEG_COMMENT + size.to_bytes(2, "big"), photo[len(_JPEG) :]
    return photo, b""


def stamp(number: int) -> bytes:
    """A number as it stands in a photo."""
    return number.to_bytes(STAMP_BYTES, "big")
