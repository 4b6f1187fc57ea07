"""Decoding in a pool of threads, in front of which images wait by what they will take."""

from __future__ import annotations

import io
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from PIL import Image as Pillow

from lookalike_server.domain.calls import Call
from lookalike_server.domain.inference import EncodedImage, Image, RawImage, Resize
from lookalike_server.inference import image_decoding
from lookalike_server.inference.decoding_pool import DecodingPool
from lookalike_server.inference.image_decoding import ImageDecoder
from lookalike_server.inference.image_header import ImageHeader, read_header


def jpeg() -> bytes:
    """Make a JPEG."""
    file = io.BytesIO()
    Pillow.new("RGB", (64, 48), "red").save(file, "JPEG")
    return file.getvalue()


@pytest.mark.parametrize(
    ("image", "reads"),
    [
        (EncodedImage(jpeg(), None, "image"), 1),
        (RawImage(np.zeros((64, 48, 3), np.uint8), None, "image"), 0),
        (RawImage(np.zeros((8, 8, 3), np.uint8), None, "image"), 0),
    ],
)
async def test_a_header_is_read_once(monkeypatch: pytest.MonkeyPatch, image: Image, reads: int) -> None:
    """What says how much memory an image will take is what it is decoded by; alone, each reads it for itself."""
    read: list[int] = []

    def counted(data: bytes) -> ImageHeader | None:
        read.append(len(data))
        return read_header(data)

    monkeypatch.setattr(image_decoding, "read_header", counted)
    decoder = ImageDecoder(8, 8, Resize.BILINEAR, 1_000_000, 1_000_000)
    with ThreadPoolExecutor(1) as threads:
        pool = DecodingPool(threads, 1, 1 << 20, 1.0)
        pixels, _ = await pool.decode(decoder, image, Call(0.0, float("inf")), bulk=True)
    assert len(read) == reads
    decoder.decoded_bytes(image)
    np.testing.assert_array_equal(decoder.decode(image), pixels)
    assert len(read) == 3 * reads
