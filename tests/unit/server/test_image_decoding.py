"""How images are decoded to the model's input: the rules of the API, on images written here."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from PIL import Image

from lookalike_server.domain.inference import EncodedImage, Pixels, RawImage, Region, Resize
from lookalike_server.inference.image_decoding import ImageDecoder
from support.images import blocks, chunk, exif, png, save, ycck_jpeg
from support.paths import SHARED

# The pixels that the file stores when the upright image is `u`, from EXIF 2.32, section 4.6.4: orientation 6 says
# that the file's first row is the image's right side and its first column the image's top.
STORED: dict[int, Callable[[Pixels], Pixels]] = {
    1: lambda u: u,
    2: lambda u: u[:, ::-1],
    3: lambda u: u[::-1, ::-1],
    4: lambda u: u[::-1],
    5: lambda u: u.transpose(1, 0, 2),
    6: lambda u: u.transpose(1, 0, 2)[::-1],
    7: lambda u: u[::-1, ::-1].transpose(1, 0, 2),
    8: lambda u: u.transpose(1, 0, 2)[:, ::-1],
}


def decoder(width: int, height: int, resize: Resize = Resize.NEAREST) -> ImageDecoder:
    """A decoder for a model of this input size."""
    return ImageDecoder(height, width, resize, max_bytes=1_000_000, max_pixels=1_000_000)


def read(data: bytes, width: int = 4, height: int = 4, region: Region | None = None) -> Pixels:
    """Decode a file to the model's input, resized to the nearest pixels."""
    pixels = decoder(width, height).decode(EncodedImage(data, region, "image"))
    assert pixels.shape == (height, width, 3)
    assert pixels.dtype == np.uint8
    return pixels


def color(data: bytes) -> tuple[int, ...]:
    """Decode a file whose pixels all have one color, and return it."""
    pixels = read(data).reshape(-1, 3)
    assert (pixels == pixels[0]).all()
    return tuple(pixels[0].tolist())


@pytest.mark.parametrize("orientation", STORED)
@pytest.mark.parametrize(
    ("file_format", "options", "tolerance"),
    [
        ("JPEG", {"quality": 100, "subsampling": 0}, 4),
        ("PNG", {}, 0),
        ("WEBP", {"lossless": True}, 0),
    ],
)
def test_exif_orientation(file_format: str, options: dict[str, object], tolerance: int, orientation: int) -> None:
    """Each orientation is decoded to the same upright image, from each format that carries EXIF."""
    upright = blocks(2, 3, 16)
    stored = Image.fromarray(np.ascontiguousarray(STORED[orientation](upright)))
    data = save(stored, file_format, exif=exif(orientation), **options)
    difference = read(data, width=48, height=32).astype(int) - upright
    assert np.abs(difference).max() <= tolerance


def test_exif_after_the_pixels() -> None:
    """A PNG may carry its EXIF data after the pixels, and is rotated upright all the same."""
    upright = blocks(2, 3, 16)
    data = save(Image.fromarray(np.ascontiguousarray(STORED[6](upright))), "PNG")
    tail = chunk(b"IEND", b"")
    assert data.endswith(tail)
    late = data.removesuffix(tail) + chunk(b"eXIf", exif(6).tobytes().removeprefix(b"Exif\0\0")) + tail
    np.testing.assert_array_equal(read(late, width=48, height=32), upright)


@pytest.mark.parametrize("orientation", [0, 9, 65535])
def test_unknown_orientation_is_ignored(orientation: int) -> None:
    """An orientation that EXIF does not define leaves the image as it is."""
    upright = blocks(2, 3, 16)
    data = save(Image.fromarray(upright), "PNG", exif=exif(orientation))
    np.testing.assert_array_equal(read(data, width=48, height=32), upright)


# Pillow warns of broken EXIF; the server has these warnings off.
@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("broken", [b"", b"II*", b"MM\0*\xff\xff\xff\xff", b"not TIFF at all", exif(6).tobytes()[:-9]])
def test_unreadable_exif_is_ignored(broken: bytes) -> None:
    """An image whose EXIF data cannot be read is still decoded."""
    upright = blocks(2, 3, 16)
    data = save(Image.fromarray(upright), "PNG", exif=broken)
    np.testing.assert_array_equal(read(data, width=48, height=32), upright)


def close(found: tuple[int, ...], expected: tuple[int, int, int]) -> bool:
    """Whether two colors differ by no more than JPEG's rounding."""
    return max(abs(a - b) for a, b in zip(found, expected, strict=True)) <= 2


@pytest.mark.parametrize(
    ("inks", "seen"),
    [
        ((0, 0, 0, 0), (255, 255, 255)),
        ((255, 0, 0, 0), (0, 255, 255)),
        ((0, 255, 0, 0), (255, 0, 255)),
        ((0, 0, 255, 0), (255, 255, 0)),
        ((0, 0, 0, 128), (127, 127, 127)),
        ((0, 0, 0, 255), (0, 0, 0)),
        ((255, 0, 0, 128), (0, 127, 127)),
    ],
)
def test_cmyk(inks: tuple[int, ...], seen: tuple[int, int, int]) -> None:
    """A CMYK JPEG, stored inverted as Adobe's programs do, has the colors it would have on paper."""
    data = save(Image.new("CMYK", (16, 16), inks), "JPEG", quality=100)
    assert b"Adobe" in data
    assert close(color(data), seen)


@pytest.mark.parametrize(
    ("samples", "seen"),
    [
        ((0, 128, 128, 255), (255, 255, 255)),
        ((179, 171, 1, 255), (255, 0, 0)),  # no cyan, all magenta and yellow
        ((105, 212, 235, 255), (0, 255, 0)),  # all cyan and yellow, no magenta
        ((0, 128, 128, 127), (127, 127, 127)),
        ((0, 128, 128, 0), (0, 0, 0)),
    ],
)
def test_ycck(samples: tuple[int, int, int, int], seen: tuple[int, int, int]) -> None:
    """A YCCK JPEG as Adobe's programs write it, with black inverted, has the colors it would have on paper."""
    assert close(color(ycck_jpeg(*samples)), seen)


@pytest.mark.parametrize(
    ("mode", "value", "seen"),
    [
        ("L", 77, (77, 77, 77)),
        ("1", 1, (255, 255, 255)),
        ("1", 0, (0, 0, 0)),
        ("RGB", (1, 2, 3), (1, 2, 3)),
        ("LA", (0, 255), (0, 0, 0)),
        ("LA", (0, 51), (204, 204, 204)),
        ("LA", (0, 0), (255, 255, 255)),
        ("RGBA", (9, 8, 7, 255), (9, 8, 7)),
        ("RGBA", (255, 0, 0, 51), (255, 204, 204)),
        ("RGBA", (255, 0, 0, 0), (255, 255, 255)),
    ],
)
def test_png_modes(mode: str, value: int | tuple[int, ...], seen: tuple[int, ...]) -> None:
    """Gray, bilevel and color PNGs become RGB on white."""
    assert color(save(Image.new(mode, (5, 5), value), "PNG")) == seen


@pytest.mark.parametrize("file_format", ["JPEG", "BMP", "GIF", "PNG", "WEBP"])
def test_gray_in_every_format(file_format: str) -> None:
    """Gray has three equal channels in every format."""
    found = color(save(Image.new("L", (16, 16), 90), file_format))
    assert found[0] == found[1] == found[2]
    assert abs(found[0] - 90) <= 2


def test_sixteen_bit_gray_is_scaled() -> None:
    """16-bit gray keeps its brightness and is not clipped at 255."""
    samples = np.array([[0, 255, 256, 0x1234], [0x7FFF, 0x8000, 0xFEFF, 0xFFFF]], dtype=">u2")
    data = png(4, 2, 16, 0, [row.tobytes() for row in samples])
    seen = read(data, width=4, height=2)[..., 0]
    np.testing.assert_array_equal(seen, [[0, 0, 1, 0x12], [0x7F, 0x80, 0xFE, 0xFF]])


def test_sixteen_bit_color_is_scaled() -> None:
    """16-bit channels keep their high bytes, with and without transparency."""
    opaque = np.tile(np.array([0x1234, 0x8000, 0xFFFF], dtype=">u2"), 4).tobytes()
    clear = np.tile(np.array([0x1234, 0x8000, 0xFFFF, 0], dtype=">u2"), 4).tobytes()
    assert color(png(4, 4, 16, 2, [opaque] * 4)) == (0x12, 0x80, 0xFF)
    assert color(png(4, 4, 16, 6, [clear] * 4)) == (255, 255, 255)


@pytest.mark.parametrize("file_format", ["PNG", "GIF", "BMP"])
def test_palette(file_format: str) -> None:
    """Palette indices become the palette's colors, not gray."""
    image = Image.fromarray(blocks(2, 2, 2)).quantize(4)
    expected = np.asarray(image.convert("RGB"))
    np.testing.assert_array_equal(read(save(image, file_format)), expected)


@pytest.mark.parametrize("file_format", ["PNG", "GIF"])
def test_transparent_palette_entry(file_format: str) -> None:
    """Only the transparent entry of a palette becomes white."""
    image = Image.new("P", (4, 4), 0)
    image.putpalette([10, 20, 30, 40, 50, 60])
    image.paste(1, (2, 0, 4, 4))
    pixels = read(save(image, file_format, transparency=1))
    assert (pixels[:, :2] == (10, 20, 30)).all()
    assert (pixels[:, 2:] == (255, 255, 255)).all()


def test_half_transparent_palette_entry() -> None:
    """A palette with an alpha value per entry is blended with white."""
    image = Image.new("P", (4, 4), 1)
    image.putpalette([0, 0, 0, 255, 0, 0])
    assert color(save(image, "PNG", transparency=bytes([255, 51]))) == (255, 204, 204)


def test_transparent_webp() -> None:
    """A WebP's transparency is blended with white too."""
    assert color(save(Image.new("RGBA", (5, 5), (255, 0, 0, 51)), "WEBP", lossless=True)) == (255, 204, 204)


def test_lone_transparent_color() -> None:
    """A PNG without alpha may declare one color transparent, which becomes white."""
    assert color(save(Image.new("RGB", (4, 4), (1, 2, 3)), "PNG", transparency=(1, 2, 3))) == (255, 255, 255)
    assert color(save(Image.new("RGB", (4, 4), (1, 2, 4)), "PNG", transparency=(1, 2, 3))) == (1, 2, 4)


@pytest.mark.parametrize(
    ("file_format", "options"),
    [("GIF", {}), ("WEBP", {"lossless": True}), ("PNG", {}), ("PNG", {"default_image": True}), ("MPO", {})],
    ids=["gif", "webp", "apng", "apng with a still", "several jpegs in one"],
)
def test_first_frame(file_format: str, options: dict[str, object]) -> None:
    """Of several images in one file the first is decoded; of an animated PNG with a still image, that one."""
    first, second = (Image.new("RGB", (16, 16), value) for value in ((250, 0, 0), (0, 0, 250)))
    data = save(first, file_format, save_all=True, append_images=[second, second], **options)
    assert close(color(data), (250, 0, 0))


def test_bmp() -> None:
    """A BMP keeps every pixel, though its rows are stored from the bottom up."""
    pixels = blocks(3, 5, 1)
    np.testing.assert_array_equal(read(save(Image.fromarray(pixels), "BMP"), width=5, height=3), pixels)


def test_progressive_jpeg() -> None:
    """A progressive JPEG is decoded to the same pixels as a sequential one."""
    image = Image.fromarray(blocks(3, 4, 16))
    progressive = save(image, "JPEG", progressive=True)
    assert b"\xff\xc2" in progressive
    np.testing.assert_array_equal(read(progressive, 64, 48), read(save(image, "JPEG"), 64, 48))


@pytest.mark.parametrize("resize", Resize)
@pytest.mark.parametrize("size", [(40, 30), (3, 2), (16, 200), (1, 1)], ids=str)
def test_resize_is_pillows(resize: Resize, size: tuple[int, int]) -> None:
    """Files and pixels are resized as Pillow's nearest or bilinear resampling does it."""
    pixels = np.random.default_rng(3).integers(0, 256, size=(size[1], size[0], 3), dtype=np.uint8)
    how = {Resize.NEAREST: Image.Resampling.NEAREST, Resize.BILINEAR: Image.Resampling.BILINEAR}[resize]
    expected = np.asarray(Image.fromarray(pixels).resize((12, 10), how))
    small = decoder(12, 10, resize)
    data = save(Image.fromarray(pixels), "PNG")
    np.testing.assert_array_equal(small.decode(EncodedImage(data, None, "image")), expected)
    np.testing.assert_array_equal(small.decode(RawImage(pixels, None, "image")), expected)


@pytest.mark.parametrize("resize", Resize)
def test_pixels_of_the_models_size_pass_untouched(resize: Resize) -> None:
    """Pixels that have the model's size already are its input."""
    pixels = blocks(10, 12, 1)
    np.testing.assert_array_equal(decoder(12, 10, resize).decode(RawImage(pixels, None, "image")), pixels)


@pytest.mark.parametrize("size", [(12, 10), (6, 5)], ids=["the model's", "another"])
def test_pixels_in_any_memory_layout(size: tuple[int, int]) -> None:
    """Pixels may be read-only, mirrored or strided, and are not modified."""
    wide = blocks(20, 24, 1)
    view = wide[::-2, ::2]
    view.flags.writeable = False
    straight = np.ascontiguousarray(view)
    small = decoder(*size)
    found, expected = (small.decode(RawImage(pixels, None, "image")) for pixels in (view, straight))
    np.testing.assert_array_equal(found, expected)
    np.testing.assert_array_equal(view, straight)


def test_region_is_cropped_before_the_resize() -> None:
    """Nothing from outside the region bleeds into the model's input."""
    pixels = np.zeros((50, 100, 3), dtype=np.uint8)
    pixels[:, :50], pixels[:, 50:] = (200, 0, 0), (0, 200, 0)
    right = Region(0.5, 0.0, 1.0, 1.0)
    smooth = decoder(32, 32, Resize.BILINEAR)
    for image in (RawImage(pixels, right, "image"), EncodedImage(save(Image.fromarray(pixels), "PNG"), right, "image")):
        assert (smooth.decode(image) == (0, 200, 0)).all()


@pytest.mark.parametrize("orientation", STORED)
def test_region_is_of_the_upright_image(orientation: int) -> None:
    """A region is relative to the upright image."""
    upright = blocks(2, 4, 8)
    stored = Image.fromarray(np.ascontiguousarray(STORED[orientation](upright)))
    data = save(stored, "PNG", exif=exif(orientation))
    found = read(data, width=8, height=8, region=Region(0.75, 0.5, 1.0, 1.0))
    np.testing.assert_array_equal(found, upright[8:, 24:])


def test_region_of_pixels_of_the_models_size() -> None:
    """A region is also cropped from an image that has the model's size already."""
    pixels = blocks(2, 2, 8)
    found = decoder(16, 16).decode(RawImage(pixels, Region(0.0, 0.5, 0.5, 1.0), "image"))
    assert (found == pixels[15, 0]).all()


_SPANS = st.lists(st.floats(0, 1, allow_subnormal=False), min_size=2, max_size=2, unique=True).map(sorted)


@settings(derandomize=True, database=None, max_examples=200)
@given(_SPANS, _SPANS)
@example([1 - 2**-53, 1.0], [0.0, 5e-324])
def test_region_shows_the_pixels_it_touches(across: list[float], down: list[float]) -> None:
    """However small, a region contains exactly the pixels that it touches, and at least one."""
    (left, right), (top, bottom) = across, down
    width, height = 10, 7
    pixels = np.zeros((height, width, 3), dtype=np.uint8)
    pixels[..., 0], pixels[..., 1] = np.arange(width), np.arange(height)[:, np.newaxis]
    found = decoder(width, height).decode(RawImage(pixels, Region(left, top, right, bottom), "image"))
    for axis, size, low, high in ((0, width, left, right), (1, height, top, bottom)):
        seen = set(found[..., axis].ravel().tolist())
        touched = {i for i in range(size) if i < high * size and i + 1 > low * size}
        assert seen == (touched or {min(int(low * size), size - 1)})


def shared_images() -> list[Path]:
    """List a few images from real cameras and shops, where this checkout has them beside it."""
    folders = [SHARED / "catalog" / "images", *sorted(path for path in SHARED.glob("food/*") if path.is_dir())]
    return [image for folder in folders for image in sorted(folder.glob("*.jpg"))[:3]][:12]


def test_real_images() -> None:
    """Images as cameras and shops write them are decoded as Pillow decodes them."""
    images = shared_images()
    if not images:
        pytest.skip("no shared/ folder with images beside the checkout")
    smooth = ImageDecoder(224, 224, Resize.BILINEAR, max_bytes=10_000_000, max_pixels=50_000_000)
    for path in images:
        found = smooth.decode(EncodedImage(path.read_bytes(), None, "image"))
        with Image.open(path) as image:
            if image.getexif().get(0x0112, 1) == 1:
                expected = np.asarray(image.convert("RGB").resize((224, 224), Image.Resampling.BILINEAR))
                np.testing.assert_array_equal(found, expected)
        assert np.ptp(found) > 0, path.name
