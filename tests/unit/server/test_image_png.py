"""PNG files of unusual kinds that are images all the same."""

from __future__ import annotations

import struct
import time
import zlib

import numpy as np
import pytest

from lookalike_server.domain.inference import EncodedImage, Resize
from lookalike_server.inference.image_decoding import ImageDecoder
from support.images import PNG_SIGNATURE, chunk

DECODER = ImageDecoder(8, 8, Resize.BILINEAR, max_bytes=10_000_000, max_pixels=1_000_000)
GRAY, COLOR = 0, 2


def half_black(depth: int, color_type: int, *chunks: tuple[bytes, bytes]) -> bytes:
    """Write a PNG of 8 x 8 pixels, black on the left and of the value 100 of 255 on the right, with further chunks."""
    samples = np.zeros((8, 8, 3 if color_type == COLOR else 1), ">u2" if depth == 16 else ">u1")
    samples[:, 4:] = 100 << depth - 8
    rows = zlib.compress(b"".join(b"\0" + row.tobytes() for row in samples))
    header = struct.pack(">IIBBBBB", 8, 8, depth, color_type, 0, 0, 0)
    every = ((b"IHDR", header), *chunks, (b"IDAT", rows), (b"IEND", b""))
    return PNG_SIGNATURE + b"".join(chunk(*each) for each in every)


def row(data: bytes) -> list[int]:
    """Decode a file, all of whose rows and channels are the same, and return one."""
    pixels = DECODER.decode(EncodedImage(data, None, "image"))
    assert (pixels == pixels[:1, :, :1]).all()
    values: list[int] = pixels[0, :, 0].tolist()
    return values


@pytest.mark.parametrize("depth", [8, 16])
@pytest.mark.parametrize(("color_type", "black"), [(GRAY, bytes(2)), (COLOR, bytes(6))], ids=["gray", "color"])
def test_a_transparent_color_becomes_white(depth: int, color_type: int, black: bytes) -> None:
    """With 16 bits a channel as with 8; without the chunk it stays what it is."""
    assert row(half_black(depth, color_type)) == [0] * 4 + [100] * 4
    assert row(half_black(depth, color_type, (b"tRNS", black))) == [255] * 4 + [100] * 4


def test_a_transparent_color_that_no_pixel_has() -> None:
    """Gray values that differ in their lower 8 bits only are different."""
    assert row(half_black(16, GRAY, (b"tRNS", b"\0\1"))) == [0] * 4 + [100] * 4


@pytest.mark.parametrize(
    "text",
    [
        (b"zTXt", b"Comment\0\0" + zlib.compress(b"x" * 2_000_000)),
        (b"iTXt", b"Comment\0\1\0\0\0" + zlib.compress(b"x" * 2_000_000)),
    ],
    ids=["zTXt", "iTXt"],
)
def test_a_large_text_is_passed_over(text: tuple[bytes, bytes]) -> None:
    """Nobody reads it, so that it keeps no image out."""
    assert row(half_black(8, GRAY, text)) == [0] * 4 + [100] * 4


def test_texts_that_would_be_gigabytes_cost_nothing() -> None:
    """After the first one that is too large none is decompressed, so that 2,000 of them take no time to speak of."""
    bomb = (b"zTXt", b"Comment\0\0" + zlib.compress(bytes(4_000_000), 9))
    data = half_black(8, COLOR, *[bomb] * 2000)
    before = time.process_time()
    assert row(data) == [0] * 4 + [100] * 4
    taken, before = time.process_time() - before, time.process_time()
    for _ in range(100):
        zlib.decompress(bomb[1][9:])
    assert taken < time.process_time() - before  # of a twentieth of them
