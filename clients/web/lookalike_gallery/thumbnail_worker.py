"""Makes thumbnails, in a process of its own that is bounded in memory and time.

Images are untrusted, and some formats take hundreds of megabytes at sizes that the server accepts. So one process
decodes one image at a time; what is too large for it, too slow or broken ends it at worst, and has no thumbnail.

Frames on stdin and stdout are a length (uint32, big-endian) and as many bytes; an empty response is no thumbnail.
"""

from __future__ import annotations

import io
import os
import resource
import struct
import sys
import warnings
from typing import IO

from PIL import AvifImagePlugin, Image, ImageOps

FORMATS = ("JPEG", "PNG", "WEBP", "AVIF", "GIF", "BMP")

MAX_PIXELS = {"JPEG": 50_000_000, "MPO": 50_000_000, "WEBP": 6_250_000, "AVIF": 6_250_000}
"""The most pixels by format; `OTHERS_MAX_PIXELS` for others. The server's default limits."""

OTHERS_MAX_PIXELS = 12_500_000

_LENGTH = struct.Struct(">I")


def make_thumbnail(data: bytes, side: int) -> bytes | None:
    """Return an upright JPEG on white of at most `side` x `side` pixels; None if the image cannot be decoded."""
    try:
        with Image.open(io.BytesIO(data), formats=FORMATS) as image:
            if image.width * image.height > MAX_PIXELS.get(image.format or "", OTHERS_MAX_PIXELS):
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


def write_frame(pipe: IO[bytes], data: bytes) -> None:
    """Write one frame."""
    pipe.write(_LENGTH.pack(len(data)) + data)
    pipe.flush()


def read_frame(pipe: IO[bytes]) -> bytes | None:
    """Read one frame; None at the end of the pipe."""
    head = pipe.read(_LENGTH.size)
    if len(head) < _LENGTH.size:
        return None
    (length,) = _LENGTH.unpack(head)
    data = pipe.read(length)
    return data if len(data) == length else None


def main() -> None:
    """Make a thumbnail for each frame until stdin ends; the arguments are its longest side and the memory allowed."""
    side, memory = (int(argument) for argument in sys.argv[1:])
    resource.setrlimit(resource.RLIMIT_AS, (memory, memory))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    warnings.simplefilter("ignore")
    AvifImagePlugin.DEFAULT_MAX_THREADS = 1
    Image.MAX_IMAGE_PIXELS = None  # our own limits are lower where it matters
    responses = os.fdopen(os.dup(1), "wb")
    while (data := read_frame(sys.stdin.buffer)) is not None:
        write_frame(responses, make_thumbnail(data, side) or b"")


if __name__ == "__main__":
    main()
