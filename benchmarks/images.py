"""Images that are never the same twice in a run, so that no cache anywhere can answer.

Raw images share a base and carry a 64-bit number in their first pixels; JPEG files carry it as a pattern of black and
white blocks, so that not only the file differs but also what it decodes to.
"""

from __future__ import annotations

import io
from collections.abc import Callable
from itertools import count

import numpy as np
from PIL import Image

NUMBER_BYTES = 8
JPEG_SIZE = (240, 320)  # width, height: a product image as a shop's page shows it
_BLOCK = 8  # pixels: a JPEG's own block, so a pattern survives the compression

Next = Callable[[], bytes | None]
"""The next image, as a request's bytes; None when there are no more."""


def raw_image(height: int, width: int) -> bytes:
    """The base of all raw images: smooth colors with some grain, like an image's."""
    return _image(height, width).tobytes()


def jpeg_image(number: int) -> bytes:
    """A JPEG file of `JPEG_SIZE`, different for every number."""
    width, height = JPEG_SIZE
    image = _image(height, width)
    bits = np.unpackbits(np.frombuffer(number.to_bytes(NUMBER_BYTES, "big"), dtype=np.uint8)).reshape(8, 8)
    blocks = np.kron(bits * 255, np.ones((_BLOCK, _BLOCK), dtype=np.uint8))
    image[: blocks.shape[0], : blocks.shape[1]] = blocks[..., np.newaxis]
    file = io.BytesIO()
    Image.fromarray(image).save(file, format="JPEG", quality=90)
    return file.getvalue()


def stamped(encode: Callable[[bytes], bytes], height: int, width: int, first: int) -> Next:
    """Raw images as requests: encoded once, and only the number written again for each (about 10 us for 150 KB).

    Args:
        encode: Makes a request of an image's bytes.
        height: Rows of the image.
        width: Columns of the image.
        first: The first image's number.
    """
    image = raw_image(height, width)
    request = bytearray(encode(image))
    at = request.index(image)
    numbers = count(first)

    def next_request() -> bytes | None:
        request[at : at + NUMBER_BYTES] = next(numbers).to_bytes(NUMBER_BYTES, "big")
        return bytes(request)

    return next_request


def stocked(encode: Callable[[bytes], bytes], first: int, stock: int) -> Next:
    """So many JPEG files as requests, made before the clock starts: making one costs as much as serving some models."""
    requests = iter([encode(jpeg_image(first + at)) for at in range(stock)])
    return lambda: next(requests, None)


def _image(height: int, width: int) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
    rows, columns = np.mgrid[0 : 1 : height * 1j, 0 : 1 : width * 1j]
    grain = np.random.default_rng(7).normal(scale=6.0, size=(height, width, 3))
    waves = np.stack([np.sin(7 * rows + 3 * columns), np.cos(5 * columns), np.sin(11 * rows * columns)], axis=-1)
    return np.clip(127 + 90 * waves + grain, 0, 255).astype(np.uint8)
