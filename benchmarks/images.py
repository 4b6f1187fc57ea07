"""Generated images, and requests with them that are never the same twice, so that no cache anywhere can answer.

Raw images carry a number in their first pixels; JPEG files carry it in a comment.
"""

from __future__ import annotations

import io
import secrets
from collections.abc import Callable

import numpy as np
from PIL import Image

from lookalike_loadtest.cache_busting import NUMBER_BYTES, split_image
from lookalike_loadtest.requests import RequestTemplate

JPEG_SIZE = (240, 320)  # width, height: a product image as a shop's page shows it
JPEG_COUNT = 32  # different ones, sent in random order


def raw_image(height: int, width: int, seed: int = 7) -> bytes:
    """Return uint8 [height, width, 3] with smooth colors and some grain, as a photograph has."""
    return _image(height, width, seed).tobytes()


def jpeg_image(seed: int) -> bytes:
    """Return a JPEG file of `JPEG_SIZE`, another one for every seed."""
    width, height = JPEG_SIZE
    file = io.BytesIO()
    Image.fromarray(_image(height, width, seed)).save(file, format="JPEG", quality=90)
    return file.getvalue()


def raw_template(encode: Callable[[bytes], bytes], height: int, width: int) -> RequestTemplate:
    """Return the request of a raw image, with the number in its first pixels.

    Args:
        encode: Makes a request of an image's bytes.
        height: Rows of the image.
        width: Columns of the image.
    """
    return _template(encode, b"", raw_image(height, width)[NUMBER_BYTES:])


def jpeg_template(encode: Callable[[bytes], bytes], seed: int) -> RequestTemplate:
    """Return the request of a JPEG file, with the number in a comment."""
    return _template(encode, *split_image(jpeg_image(seed)))


def _template(encode: Callable[[bytes], bytes], before: bytes, after: bytes) -> RequestTemplate:
    marker = secrets.token_bytes(NUMBER_BYTES)
    return RequestTemplate(*encode(before + marker + after).split(marker))


def _image(height: int, width: int, seed: int) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
    rows, columns = np.mgrid[0 : 1 : height * 1j, 0 : 1 : width * 1j]
    grain = np.random.default_rng(seed).normal(scale=6.0, size=(height, width, 3))
    waves = np.stack([np.sin(7 * rows + 3 * columns), np.cos(5 * columns), np.sin(11 * rows * columns)], axis=-1)
    return np.clip(127 + 90 * waves + grain, 0, 255).astype(np.uint8)
