"""What an image will cost is known from its header: memory, and whether it is decoded at all."""

from __future__ import annotations

import re
import struct
import subprocess
import sys
import zlib
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from PIL import Image

from lookalike_server.domain.errors import LookalikeError
from lookalike_server.domain.inference import EncodedImage, RawImage, Region, Resize
from lookalike_server.inference.image_cost import MAX_SCANS, MAX_SIDE, PixelLimits
from lookalike_server.inference.image_decoding import ImageDecoder
from support.color_profiles import cmyk_profile, rgb_profile
from support.images import PNG_SIGNATURE, chunk, deep_heic, exif, heic, png, save, smooth, with_alpha

LIMITS = PixelLimits(progressive_jpeg=400, png=500, interlaced_png=300, webp=200, avif=250, heic=350)
DECODER = ImageDecoder(224, 224, Resize.BILINEAR, max_bytes=10**8, max_pixels=10**8)
LIMITED = ImageDecoder(8, 8, Resize.BILINEAR, max_bytes=10**8, max_pixels=1000, limits=LIMITS)


def interlaced(image: Image.Image) -> bytes:
    """Write an interlaced PNG (PNG 1.2, section 2.6), which Pillow cannot."""
    pixels = np.asarray(image)
    passes = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2))
    reduced = [pixels[y::down, x::across] for x, y, across, down in passes]
    rows = b"".join(b"\0" + row.tobytes() for part in reduced if part.size for row in part)
    header = struct.pack(">IIBBBBB", image.width, image.height, 8, 2 if pixels.shape[2] == 3 else 6, 0, 0, 1)
    return PNG_SIGNATURE + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows, 1)) + chunk(b"IEND", b"")


def gray16(image: Image.Image) -> bytes:
    """Write a PNG of 16 bits of gray."""
    samples = np.asarray(image.convert("L")).astype(">u2") * 257
    return png(image.width, image.height, 16, 0, [row.tobytes() for row in samples])


def gif_over_background(image: Image.Image) -> bytes:
    """Write a GIF whose frame is replaced by the background after it was shown."""
    frames = [image.convert("L").quantize(16), image.transpose(Image.Transpose.ROTATE_180).convert("L").quantize(16)]
    return save(frames[0], "GIF", save_all=True, append_images=frames[1:], disposal=2, duration=100)


def as_format(file_format: str, convert: Callable[[Image.Image], Image.Image] | None = None, **options: Any) -> Any:
    """Return what writes an image in this format."""
    return lambda image: save(convert(image) if convert else image, file_format, **options)


KINDS: dict[str, Callable[[Image.Image], bytes]] = {
    "jpeg": as_format("JPEG"),
    "gray jpeg": as_format("JPEG", lambda image: image.convert("L")),
    "progressive jpeg": as_format("JPEG", progressive=True),
    "progressive jpeg 4:4:4": as_format("JPEG", progressive=True, subsampling=0),
    "progressive cmyk jpeg": as_format("JPEG", lambda image: image.convert("CMYK"), progressive=True),
    "png": as_format("PNG", compress_level=1),
    "rotated png": as_format("PNG", compress_level=1, exif=exif(6)),
    "rgba png": as_format("PNG", with_alpha, compress_level=1),
    "gray and alpha png": as_format("PNG", lambda image: with_alpha(image).convert("LA"), compress_level=1),
    "palette png": as_format("PNG", lambda image: image.quantize(16), transparency=bytes(range(0, 256, 16))),
    "16-bit gray png": gray16,
    "interlaced png": interlaced,
    "interlaced rgba png": lambda image: interlaced(with_alpha(image)),
    "webp": as_format("WEBP", method=0),
    "rgba webp": as_format("WEBP", with_alpha, method=0),
    "lossless rgba webp": as_format("WEBP", with_alpha, lossless=True, quality=0, method=0),
    "gif": gif_over_background,
    "bmp": as_format("BMP"),
    "avif": as_format("AVIF", speed=10),
    "avif 4:4:4": as_format("AVIF", speed=10, subsampling="4:4:4", quality=90),
    "rgba avif": as_format("AVIF", with_alpha, speed=10),
    "heic": heic,
    "rgba heic": lambda image: heic(with_alpha(image)),
    "heic of tiles": lambda image: heic(image, tile_size=512),
    "10-bit heic": lambda image: deep_heic(image),
    "wide-gamut png": as_format("PNG", compress_level=1, icc_profile=rgb_profile("ROMM RGB")),
    "wide-gamut progressive jpeg": as_format("JPEG", progressive=True, icc_profile=rgb_profile("Display P3")),
    "cmyk jpeg with a profile": as_format("JPEG", lambda image: image.convert("CMYK"), icc_profile=cmyk_profile()),
}

# Warm up with a small image, so that libraries and tables are not counted; `clear_refs` resets the kernel's record.
MEASURE = """
import sys
from lookalike_server.domain.inference import ColorManagement, EncodedImage, Region, Resize
from lookalike_server.inference.image_decoding import ImageDecoder
def status(name):
    return next(int(line.split()[1]) * 1024 for line in open("/proc/self/status") if line.startswith(name))
decoder = ImageDecoder(
    224, 224, Resize[sys.argv[1]], 10**8, 10**8, color_management=ColorManagement.SRGB
)
region = Region(0.0, 0.0, 1.0, 0.1) if sys.argv[2] == "region" else None
data = sys.stdin.buffer.read()
size = int(sys.argv[3])
decoder.decode(EncodedImage(data[:size], None, "image"))
image = EncodedImage(data[size:], region, "image")
with open("/proc/self/clear_refs", "w") as file:
    file.write("5")
before = status("VmRSS:")
decoder.decode(image)
print(status("VmHWM:") - before)
"""


OTHER_KINDS = {"gray avif": as_format("AVIF", lambda image: image.convert("L"), speed=10)}


def peak(kind: str, resize: Resize, region: str) -> tuple[int, int]:
    """Measure what decoding a file takes at most, in a process of its own; return that and the prediction."""
    write = (KINDS | OTHER_KINDS)[kind]
    data, warmup = write(smooth(2100, 1500)), write(smooth(64, 48))
    command = [sys.executable, "-c", MEASURE, resize.name, region, str(len(warmup))]
    measured = int(subprocess.run(command, input=warmup + data, stdout=subprocess.PIPE, check=True).stdout)
    decoder = ImageDecoder(224, 224, resize, 10**8, 10**8)
    image = EncodedImage(data, Region(0.0, 0.0, 1.0, 0.1) if region == "region" else None, "image")
    return measured, decoder.decoded_bytes(image)


linux = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")


@linux
@pytest.mark.parametrize("kind", KINDS)
def test_prediction_bounds_the_peak(kind: str) -> None:
    """No image takes more memory than its header predicted, and what is predicted is not much more than it takes."""
    measured, predicted = peak(kind, Resize.BILINEAR, "whole")
    assert measured <= predicted <= 2 * measured + 14_000_000


@linux
@pytest.mark.parametrize("resize", Resize)
@pytest.mark.parametrize("kind", ["jpeg", "progressive jpeg", "rgba png"])
def test_prediction_without_reduction(kind: str, resize: Resize) -> None:
    """The same where a JPEG is decoded at full size, for `nearest` or for a small region."""
    measured, predicted = peak(kind, resize, "whole" if resize is Resize.NEAREST else "region")
    assert 4 * 2100 * 1500 <= measured <= predicted <= 2 * measured + 14_000_000


def test_prediction_grows_with_the_decoded_size() -> None:
    """A JPEG costs what its reduced size does, other formats their full size; the model's own pixels cost nothing."""

    def predicted(kind: str, side: int, region: Region | None = None) -> int:
        return DECODER.decoded_bytes(EncodedImage(KINDS[kind](Image.new("RGB", (side, side))), region, "image"))

    assert predicted("jpeg", 3600) < predicted("png", 3600) / 3
    assert predicted("progressive jpeg", 3600) > 3 * 3600 * 3600
    assert predicted("png", 3600) - predicted("png", 1800) > 4 * (3600 - 1800) ** 2
    assert predicted("jpeg", 3600, Region(0.0, 0.0, 0.1, 0.1)) > 4 * 3600 * 3600
    assert DECODER.decoded_bytes(RawImage(np.zeros((224, 224, 3), np.uint8), None, "image")) == 0
    assert DECODER.decoded_bytes(RawImage(np.zeros((3600, 3600, 3), np.uint8), None, "image")) < 4 * 3600 * 3600


def webp(width: int, height: int) -> bytes:
    """Write the 40 bytes that claim a lossless WebP of this size."""
    bits = struct.pack("<I", width - 1 | height - 1 << 14)
    body = b"WEBPVP8L" + struct.pack("<I", 20) + b"\x2f" + bits + bytes(15)
    return b"RIFF" + struct.pack("<I", len(body)) + body


def extended_webp(canvas: tuple[int, int], chunks: bytes) -> bytes:
    """Write a WebP with a canvas of this size (RFC 9649, section 2.7)."""
    sides = b"".join((side - 1).to_bytes(3, "little") for side in canvas)
    body = b"WEBPVP8X" + struct.pack("<IB3x", 10, 2 if chunks[:4] == b"ANMF" else 0) + sides + chunks
    return b"RIFF" + struct.pack("<I", len(body)) + body


def animation_frame(width: int, height: int) -> bytes:
    """Write the beginning of an animated WebP's frame."""
    sides = b"".join((side - 1).to_bytes(3, "little") for side in (width, height))
    still = webp(width, height)[12:]
    return b"ANMF" + struct.pack("<I", 16 + len(still)) + bytes(6) + sides + bytes(4) + still


def gif(screen: tuple[int, int], frame: tuple[int, int]) -> bytes:
    """Write the beginning of a GIF, with a comment before its first frame."""
    comment = b"!\xfe\x03abc\x02de\x00"
    return b"GIF89a" + struct.pack("<HH3x", *screen) + comment + b"," + struct.pack("<4HB", 0, 0, *frame, 0) + b"\x08"


HUGE = {
    "webp": (webp(16_383, 3_000), "WebP", LIMITS.webp),
    "webp canvas": (extended_webp((16_383, 3_000), webp(16_383, 3_000)[12:]), "WebP", LIMITS.webp),
    "animated webp": (extended_webp((16_383, 3_000), animation_frame(8, 8)), "WebP", LIMITS.webp),
    "gif screen": (gif((16_383, 3_000), (8, 8)), "GIF", LIMITS.png),
    "gif frame": (gif((8, 8), (16_383, 3_000)), "GIF", LIMITS.png),
    "png": (png(16_383, 3_000, 8, 2, []), "PNG", LIMITS.png),
}

REJECT = """
import sys
from lookalike_server.domain.errors import LookalikeError
from lookalike_server.domain.inference import EncodedImage, Resize
from lookalike_server.inference.image_cost import PixelLimits
from lookalike_server.inference.image_decoding import ImageDecoder
decoder = ImageDecoder(8, 8, Resize.BILINEAR, 10**8, 10**8, PixelLimits(webp=200, png=500))
def status(name):
    return next(int(line.split()[1]) * 1024 for line in open("/proc/self/status") if line.startswith(name))
image = EncodedImage(sys.stdin.buffer.read(), None, "image")
before = status("VmPeak:")
try:
    decoder.decode(image)
except LookalikeError as error:
    print(status("VmPeak:") - before, error.message)
"""


@linux
@pytest.mark.parametrize("name", HUGE)
def test_huge_canvas_is_rejected_from_the_header(name: str) -> None:
    """A few bytes that claim a huge image take no memory, reserved or used, and the error says this format's limit."""
    data, kind, limit = HUGE[name]
    ran = subprocess.run([sys.executable, "-c", REJECT], input=data, stdout=subprocess.PIPE, check=True)
    taken, message = ran.stdout.decode().split(maxsplit=1)
    assert int(taken) < 4_000_000
    assert f"is 16383 x 3000 pixels; send at most {limit:,} as {kind}, or up to 100,000,000 as a JPEG" in message


@pytest.mark.parametrize(
    "data",
    [
        extended_webp((20, 10), webp(16_383, 3_000)[12:]),
        extended_webp((16, 12), webp(16, 13)[12:]),
        extended_webp((16, 12), animation_frame(17, 12)),
    ],
    ids=["huge frame", "taller frame", "wider animation"],
)
def test_webp_whose_frame_is_not_its_canvas(data: bytes) -> None:
    """A WebP whose frame does not fit its canvas is broken, whatever the limits are."""
    for decoder in (LIMITED, DECODER):
        with pytest.raises(LookalikeError, match="is a broken WebP: its header is truncated or invalid"):
            decoder.decoded_bytes(EncodedImage(data, None, "image"))


LIMIT_OF = {
    "jpeg": 1000,
    "progressive jpeg": 400,
    "png": 500,
    "interlaced png": 300,
    "webp": 200,
    "gif": 500,
    "bmp": 500,
    "avif": 250,
}


@pytest.mark.parametrize("kind", LIMIT_OF)
def test_each_kind_has_its_limit(kind: str) -> None:
    """Exactly the most pixels of a kind are accepted, one row more is rejected, before and while decoding."""
    limit = LIMIT_OF[kind]
    at_limit, over = (
        EncodedImage(KINDS[kind](smooth(10, rows)), None, "image") for rows in (limit // 10, limit // 10 + 1)
    )
    assert LIMITED.decoded_bytes(at_limit) > 0
    assert LIMITED.decode(at_limit).shape == (8, 8, 3)
    for read in (LIMITED.decoded_bytes, LIMITED.decode):
        with pytest.raises(LookalikeError, match=f"is 10 x {limit // 10 + 1} pixels; send at most {limit:,}"):
            read(over)


def test_the_limit_of_heic() -> None:
    """The same for HEIC, of which encoders make no smaller ones than 64 x 64."""
    limits = PixelLimits(heic=64 * 70)
    decoder = ImageDecoder(8, 8, Resize.BILINEAR, max_bytes=10**8, max_pixels=10**8, limits=limits)
    assert decoder.decode(EncodedImage(heic(smooth(64, 70)), None, "image")).shape == (8, 8, 3)
    for read in (decoder.decoded_bytes, decoder.decode):
        with pytest.raises(LookalikeError, match="is 64 x 72 pixels; send at most 4,480 as HEIC"):
            read(EncodedImage(heic(smooth(64, 72)), None, "image"))


@linux
def test_prediction_of_gray_avif() -> None:
    """It takes less than is predicted, which does not know whether an AVIF is gray."""
    measured, predicted = peak("gray avif", Resize.BILINEAR, "whole")
    assert measured <= predicted


def test_jpeg_of_several_scans_counts_as_progressive() -> None:
    """A sequential JPEG with a scan for each component is held whole like a progressive one, and has its limit."""
    data = bytearray(save(smooth(10, 41), "JPEG", subsampling=0))
    scan = data.index(b"\xff\xda")
    one_component = b"\xff\xda\x00\x08\x01\x01\x00\x00\x3f\x00"
    data[scan : scan + 14] = one_component
    with pytest.raises(LookalikeError, match="is 10 x 41 pixels; send at most 400 as progressive JPEG"):
        LIMITED.decoded_bytes(EncodedImage(bytes(data), None, "image"))


def test_too_many_scans() -> None:
    """A progressive JPEG whose scans go on and on is rejected: each passes over the whole image, though it is tiny."""
    data = save(smooth(16, 16), "JPEG", progressive=True)
    last = data.rindex(b"\xff\xda")
    scans = data.count(b"\xff\xda")
    most = data[:last] + data[last:-2] * (MAX_SCANS - scans + 1) + data[-2:]
    DECODER.decode(EncodedImage(most, None, "image"))
    with pytest.raises(LookalikeError, match=f"is a JPEG of {MAX_SCANS + 1} scans; send one of at most {MAX_SCANS}"):
        DECODER.decode(EncodedImage(most[:-2] + data[last:], None, "image"))


def test_compressed_bmp() -> None:
    """A BMP with run lengths is rejected: Pillow decodes those in Python, and nothing else would run meanwhile."""
    data = bytearray(save(smooth(8, 8).quantize(16), "BMP"))
    struct.pack_into("<I", data, 30, 1)
    with pytest.raises(LookalikeError, match="is a BMP with RLE compression; send it uncompressed, or as PNG"):
        DECODER.decode(EncodedImage(bytes(data), None, "image"))


@pytest.mark.parametrize("size", [(1, MAX_SIDE + 1), (MAX_SIDE + 1, 1)], ids=str)
def test_longest_side(size: tuple[int, int]) -> None:
    """An image may have few pixels and still a side that is too long to resize."""
    at_limit = save(Image.new("L", (min(size[0], MAX_SIDE), min(size[1], MAX_SIDE))), "PNG")
    assert DECODER.decode(EncodedImage(at_limit, None, "image")).shape == (224, 224, 3)
    over = EncodedImage(save(Image.new("L", size), "PNG"), None, "image")
    raw = RawImage(np.zeros((size[1], size[0], 3), np.uint8), None, "image")
    for image in (over, raw):
        with pytest.raises(LookalikeError, match=re.escape(f"send at most {MAX_SIDE:,} in a row or column")):
            DECODER.decode(image)


def test_blocks_before_the_pixels_are_bounded() -> None:
    """A file of nothing but empty blocks is given up early, though every block is valid."""
    jpeg = b"\xff\xd8" + b"\xff\xe0\x00\x02" * 100_000
    animation = gif((8, 8), (8, 8))
    endless = animation[:13] + b"!\xfe" + b"\x01a" * 100_000 + b"\0" + animation[13:]
    riff = extended_webp((8, 8), b"EXIF\0\0\0\0" * 100_000 + webp(8, 8)[12:])
    for data in (jpeg, endless, riff):
        with pytest.raises(LookalikeError, match="is a broken"):
            DECODER.decoded_bytes(EncodedImage(data, None, "image"))
