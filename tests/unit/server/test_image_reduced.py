"""A large JPEG is decoded at reduced size within the bound of docs/adr/0008, and the rules for images still hold."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import pytest
from PIL import Image

from lookalike_server.domain.errors import LookalikeError
from lookalike_server.domain.inference import EncodedImage, Pixels, Region, Resize
from lookalike_server.inference.image_decoding import ImageDecoder
from support.images import blocks, exif, save, ycck_jpeg
from support.paths import SHARED

# The bound of docs/adr/0008: the mean difference per value, of 255, between reduced and exact decoding.
MEAN_DIFFERENCE = 0.75


def decoder(width: int, height: int, resize: Resize = Resize.BILINEAR) -> ImageDecoder:
    """A decoder for a model of this input size."""
    return ImageDecoder(height, width, resize, max_bytes=10_000_000, max_pixels=10_000_000)


def noise(width: int, height: int, **options: Any) -> bytes:
    """Write a JPEG of noise, which is decoded to different pixels at every scale."""
    pixels = np.random.default_rng(11).integers(0, 256, size=(height, width, 3), dtype=np.uint8)
    return save(Image.fromarray(pixels), "JPEG", quality=90, **options)


def at_scale(data: bytes, scale: int, width: int, height: int, resize: Image.Resampling) -> Pixels:
    """Decode a file at this scale and resize it, with Pillow alone."""
    with Image.open(io.BytesIO(data)) as image:
        full = image.size
        image.draft(None, (full[0] // scale, full[1] // scale))
        assert image.size == tuple(-(-side // scale) for side in full)
        # The last row and column may lie partly beyond the image.
        return np.asarray(image.resize((width, height), resize, (0, 0, full[0] / scale, full[1] / scale)))


HALF = Region(0.25, 0.25, 0.75, 0.75)
STRIP = Region(0.0, 0.0, 1.0, 0.25)


@pytest.mark.parametrize(
    ("size", "resize", "region", "scale"),
    [
        ((240, 320), Resize.BILINEAR, None, 1),
        ((895, 2000), Resize.BILINEAR, None, 1),
        ((2000, 895), Resize.BILINEAR, None, 1),
        ((896, 896), Resize.BILINEAR, None, 2),
        ((1080, 1440), Resize.BILINEAR, None, 2),
        ((1791, 1791), Resize.BILINEAR, None, 2),
        ((1792, 1792), Resize.BILINEAR, None, 4),
        ((3583, 9000), Resize.BILINEAR, None, 4),
        ((3584, 9000), Resize.BILINEAR, None, 8),
        ((60_000, 60_000), Resize.BILINEAR, None, 8),
        ((3584, 9000), Resize.NEAREST, None, 1),
        ((1791, 1791), Resize.BILINEAR, HALF, 1),
        ((1792, 1792), Resize.BILINEAR, HALF, 2),
        ((3583, 3583), Resize.BILINEAR, STRIP, 1),
        ((3584, 3584), Resize.BILINEAR, STRIP, 2),
        ((3584, 3584), Resize.NEAREST, STRIP, 1),
        ((3584, 3584), Resize.BILINEAR, Region(0.0, 0.0, 1.0, 5e-324), 1),
        ((3584, 3584), Resize.BILINEAR, Region(0.0, 0.0, 1.0, 1.0), 8),
    ],
)
def test_scale(size: tuple[int, int], resize: Resize, region: Region | None, scale: int) -> None:
    """The scale leaves twice the model's size in the region, whatever the orientation."""
    assert decoder(224, 224, resize).reduction(*size, region) == scale
    assert decoder(224, 100, resize).reduction(*size, region) == scale
    assert decoder(100, 224, resize).reduction(*size, region) == scale


@pytest.mark.parametrize(
    ("size", "scale"),
    [((79, 200), 1), ((80, 80), 2), ((81, 113), 2), ((200, 159), 2), ((161, 173), 4), ((320, 321), 8), ((999, 990), 8)],
    ids=str,
)
@pytest.mark.parametrize("options", [{}, {"progressive": True}, {"subsampling": 0}], ids=str)
def test_files_are_decoded_at_the_scale(size: tuple[int, int], scale: int, options: dict[str, Any]) -> None:
    """The JPEG is decoded at that scale and no other; for `nearest` always at full size."""
    data = noise(*size, **options)
    image = EncodedImage(data, None, "image")
    for resize, used in ((Resize.BILINEAR, scale), (Resize.NEAREST, 1)):
        resampling = {Resize.NEAREST: Image.Resampling.NEAREST, Resize.BILINEAR: Image.Resampling.BILINEAR}[resize]
        found = decoder(20, 15, resize).decode(image)
        for other in (1, 2, 4, 8):
            same = np.array_equal(found, at_scale(data, other, 20, 15, resampling))
            assert same == (other == used)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_reduced_and_rotated(orientation: int) -> None:
    """An image that is reduced and rotated upright equals the one that is only rotated."""
    upright = blocks(2, 3, 64)
    stored = Image.fromarray(upright)
    stored_by = {2: 0, 3: 3, 4: 1, 5: 5, 6: 2, 7: 6, 8: 4}.get(orientation)  # the Transpose that stores such an image
    if stored_by is not None:
        stored = stored.transpose(Image.Transpose(stored_by))
    data = save(stored, "JPEG", quality=100, subsampling=0, exif=exif(orientation))
    small = decoder(12, 8)
    assert small.reduction(*stored.size, None) == 4
    difference = small.decode(EncodedImage(data, None, "image")).astype(int)[1::4, 1::4] - upright[8::64, 8::64][:2, :3]
    assert np.abs(difference).max() <= 4
    corner = Region(2 / 3, 0.5, 1.0, 1.0)
    tiny = decoder(4, 4)
    assert tiny.reduction(*stored.size, corner) == 4
    found = tiny.decode(EncodedImage(data, corner, "image")).astype(int)
    assert np.abs(found - upright[-1, -1]).max() <= 4


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("region", [None, Region(0.1, 0.05, 0.85, 0.9)], ids=["whole", "region"])
def test_odd_sizes_do_not_shift(orientation: int, region: Region | None) -> None:
    """Where a side is not a multiple of the scale, the image is not stretched, whatever the orientation."""
    ramp = np.zeros((161, 133, 3), dtype=np.uint8)
    ramp[..., 0], ramp[..., 1] = np.arange(133), np.arange(161)[:, np.newaxis]
    data = save(Image.fromarray(ramp), "JPEG", quality=100, subsampling=0, exif=exif(orientation))
    small = decoder(12, 12)
    assert small.reduction(133, 161, region) in (2, 4)
    with Image.open(io.BytesIO(data)) as image:
        exact = save(image, "PNG", exif=exif(orientation))
    found, expected = (small.decode(EncodedImage(file, region, "image")).astype(int) for file in (data, exact))
    difference = found - expected
    assert np.abs(difference).max() <= 2
    assert np.abs(difference.mean(axis=(0, 1))).max() <= 0.5


@pytest.mark.parametrize(
    ("data", "seen"),
    [
        (save(Image.new("L", (64, 64), 90), "JPEG"), (90, 90, 90)),
        (save(Image.new("CMYK", (64, 64), (255, 0, 0, 128)), "JPEG", quality=100), (0, 127, 127)),
        (ycck_jpeg(179, 171, 1, 255), (255, 0, 0)),
    ],
    ids=["gray", "cmyk", "ycck"],
)
def test_reduced_modes(data: bytes, seen: tuple[int, int, int]) -> None:
    """Gray and CMYK keep their colors at every scale."""
    for side in (8, 4, 2, 1):
        found = decoder(side, side).decode(EncodedImage(data, None, "image")).astype(int)
        assert np.abs(found - seen).max() <= 2


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("kind", ["jpeg", "progressive", "cmyk", "mpo"])
def test_truncation_is_still_rejected(kind: str) -> None:
    """Truncated files are rejected at every scale exactly where they are rejected at full size."""
    pixels = np.random.default_rng(5).integers(0, 256, size=(24, 32, 3), dtype=np.uint8)
    image = Image.fromarray(pixels)
    data = {
        "jpeg": lambda: save(image, "JPEG"),
        "progressive": lambda: save(image, "JPEG", progressive=True),
        "cmyk": lambda: save(image.convert("CMYK"), "JPEG"),
        "mpo": lambda: save(image, "MPO", save_all=True, append_images=[image.rotate(180)]),
    }[kind]()

    def accepted(side: int) -> list[int]:
        small = decoder(side, side)
        lengths = []
        for length in range(1, len(data) + 1):
            try:
                small.decode(EncodedImage(data[:length], None, "image"))
            except LookalikeError:
                continue
            lengths.append(length)
        return lengths

    scales = {decoder(side, side).reduction(32, 24, None): accepted(side) for side in (8, 4, 3, 1)}
    assert set(scales) == {1, 2, 4, 8}
    assert all(lengths == scales[1] for lengths in scales.values())
    assert len(scales[1]) < len(data)


def test_size_limit_applies_to_the_full_image() -> None:
    """The limit on pixels counts those of the file, not of the reduced image."""
    small = ImageDecoder(1, 1, Resize.BILINEAR, max_bytes=1_000_000, max_pixels=64 * 64 - 1)
    with pytest.raises(LookalikeError, match="is 64 x 64 pixels; send at most 4,095"):
        small.decode(EncodedImage(save(Image.new("RGB", (64, 64)), "JPEG"), None, "image"))


def collages() -> list[bytes]:
    """Make sharp images of about 1000 x 1300 and 1900 x 2500 pixels, each of many real images side by side.

    The real images are small; enlarged, they would have no detail to lose.
    """
    images = sorted((SHARED / "catalog" / "images").glob("*.jpg"))
    if not images:
        pytest.skip("no shared/ folder with images beside the checkout")
    made = []
    for count, first in ((4, 0), (4, 500), (8, 1000), (8, 1500)):
        collage = Image.new("RGB", (241 * count, 323 * count))
        for place, path in enumerate(images[first : first + count**2]):
            with Image.open(path) as image:
                collage.paste(image.resize((241, 323)), (241 * (place % count), 323 * (place // count)))
        made.append(save(collage, "JPEG", quality=88))
    return made


@pytest.mark.parametrize("region", [None, Region(0.0, 0.02, 0.97, 1.0)], ids=["whole", "region"])
def test_parity(region: Region | None) -> None:
    """The model's input of a large JPEG differs from exact decoding by no more than the documented bound."""
    smooth = decoder(224, 224)
    for data in collages():
        with Image.open(io.BytesIO(data)) as image:
            assert smooth.reduction(*image.size, region) in (2, 4)
            exact = save(image, "PNG", compress_level=1)
        found, expected = (smooth.decode(EncodedImage(file, region, "image")) for file in (data, exact))
        assert np.abs(found.astype(int) - expected).mean() <= MEAN_DIFFERENCE
