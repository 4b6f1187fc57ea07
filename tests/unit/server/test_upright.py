"""Large images are converted in bands: the same result as in one piece, for every orientation, mode and region."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from lookalike_server.domain.inference import Region
from lookalike_server.inference.upright import WHOLE_PIXELS, DecodedImage

SIZE = (224, 200)
BILINEAR, NEAREST = Image.Resampling.BILINEAR, Image.Resampling.NEAREST


def noise(width: int, height: int, mode: str) -> Image.Image:
    """Make an image of random pixels, in blocks that survive the resize."""
    random = np.random.default_rng(4)
    channels = {"L": 1, "RGB": 3, "RGBA": 4, "CMYK": 4}.get(mode, 3)
    small = random.integers(0, 256, (height // 5 + 1, width // 5 + 1, channels), dtype=np.uint8)
    pixels = np.repeat(np.repeat(small, 5, axis=0), 5, axis=1)[:height, :width]
    if mode == "I;16":
        return Image.fromarray(pixels[..., 0].astype(np.uint16) * 257)
    image = Image.frombytes("RGB" if mode == "P" else mode, (width, height), np.ascontiguousarray(pixels).tobytes())
    return image.quantize(64) if mode == "P" else image


def in_one_piece(image: Image.Image, orientation: int, box: tuple[int, int, int, int]) -> Image.Image:
    """Rotate, convert to RGB on white, and crop, all of the image at once."""
    upright = {2: 0, 3: 3, 4: 1, 5: 5, 6: 4, 7: 6, 8: 2}.get(orientation)
    if upright is not None:
        image = image.transpose(Image.Transpose(upright))
    if image.mode == "I;16":
        image = Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
    if image.mode == "RGBA":
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    return image.convert("RGB").crop(box)


@pytest.mark.parametrize("resampling", [BILINEAR, NEAREST], ids=lambda each: each.name)
@pytest.mark.parametrize(
    ("mode", "orientation"),
    [
        *(("RGBA", orientation) for orientation in range(1, 9)),
        *((mode, 6) for mode in ("L", "P", "RGB", "CMYK", "I;16")),
    ],
)
def test_bands(mode: str, orientation: int, resampling: Image.Resampling) -> None:
    """An image of several bands is what it is in one piece, within the rounding between two passes of a resize."""
    width, height = 1301, 1103
    region = Region(0.05, 0.02, 0.99, 0.98)
    assert (region.right - region.left) * (region.bottom - region.top) * width * height > WHOLE_PIXELS
    image = noise(width, height, mode)
    found = DecodedImage(image, width, height, orientation=orientation).resize(SIZE, resampling, region)
    across, down = (height, width) if orientation >= 5 else (width, height)
    box = (int(0.05 * across), int(0.02 * down), int(np.ceil(0.99 * across)), int(np.ceil(0.98 * down)))
    expected = in_one_piece(image, orientation, box).resize(SIZE, resampling)
    difference = np.abs(np.asarray(found).astype(int) - np.asarray(expected))
    assert difference.max() <= (0 if resampling is NEAREST else 1)
    assert np.ptp(np.asarray(found)) > 100


def test_raw_pixels_in_bands() -> None:
    """Raw pixels of several bands are what they are in one piece."""
    image = noise(1301, 1103, "RGB")
    found = DecodedImage(np.asarray(image), 1301, 1103).resize(SIZE, BILINEAR, None)
    difference = np.abs(np.asarray(found).astype(int) - np.asarray(image.resize(SIZE, BILINEAR)))
    assert difference.max() <= 1
