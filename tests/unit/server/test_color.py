"""Embedded color profiles: converted to sRGB where the model asks for it, ignored where it does not or they are bad."""

from __future__ import annotations

import struct
import time
import zlib
from collections.abc import Callable

import numpy as np
import pytest
from PIL import Image

from lookalike_server.domain.inference import ColorManagement, EncodedImage, Pixels, Region, Resize
from lookalike_server.inference.color import MAX_PROFILE_BYTES
from lookalike_server.inference.image_decoding import ImageDecoder
from support.color_profiles import (
    RGB_SPACES,
    cmyk_profile,
    gray_profile,
    profile,
    rgb_profile,
    transform_from,
    transform_to,
)
from support.images import chunk, exif, heic, save

WIDE = RGB_SPACES[1:]
MANAGED, PLAIN = (
    ImageDecoder(32, 48, Resize.BILINEAR, 10**8, 10**8, color_management=each)
    for each in (ColorManagement.SRGB, ColorManagement.NONE)
)


def colorful(width: int = 192, height: int = 128) -> Image.Image:
    """Draw colors of all kinds, without the edges that JPEG changes most."""
    across, down = np.linspace(0, 1, width)[np.newaxis], np.linspace(0, 1, height)[:, np.newaxis]
    channels = (across + 0 * down, down + 0 * across, 0.5 + 0.5 * np.sin(7 * across + 3 * down))
    return Image.fromarray((np.stack(channels, axis=-1) * 255).round().astype(np.uint8))


def decode(decoder: ImageDecoder, data: bytes, region: Region | None = None) -> Pixels:
    """Decode a file."""
    return decoder.decode(EncodedImage(data, region, "image"))


def distance(one: Pixels, other: Pixels) -> float:
    """Return the mean difference of two images, of 255."""
    return float(np.abs(one.astype(np.int16) - other.astype(np.int16)).mean())


FORMATS: dict[str, Callable[[Image.Image, bytes], bytes]] = {
    "JPEG": lambda image, icc: save(image, "JPEG", quality=95, subsampling=0, icc_profile=icc),
    "progressive JPEG": lambda image, icc: save(image, "JPEG", quality=95, progressive=True, icc_profile=icc),
    "PNG": lambda image, icc: save(image, "PNG", icc_profile=icc),
    "WebP": lambda image, icc: save(image, "WEBP", quality=95, icc_profile=icc),
    "AVIF": lambda image, icc: save(image, "AVIF", quality=95, icc_profile=icc),
    "HEIC": lambda image, icc: heic(image, quality=95, icc_profile=icc),
    "palette PNG": lambda image, icc: save(image.quantize(256), "PNG", icc_profile=icc),
}


@pytest.mark.parametrize("space", WIDE)
@pytest.mark.parametrize("file_format", FORMATS)
def test_the_same_image_in_a_wider_space(file_format: str, space: str) -> None:
    """It is near the original where profiles count, and far from it where they are ignored."""
    original = np.asarray(colorful().resize((48, 32), Image.Resampling.BILINEAR))
    data = FORMATS[file_format](transform_to(colorful(), space), rgb_profile(space))
    assert distance(decode(MANAGED, data), original) < (6 if "palette" in file_format else 4)
    assert distance(decode(PLAIN, data), original) > 7


@pytest.mark.parametrize("kind", ["RGB", "L"])
def test_srgb_itself_changes_nothing(kind: str) -> None:
    """Files with sRGB's profile, the most frequent one, give the same bytes as without."""
    icc = rgb_profile("sRGB")
    data = save(colorful().convert(kind), "PNG", icc_profile=icc)
    assert (decode(MANAGED, data) == decode(PLAIN, data)).all()


@pytest.mark.parametrize("orientation", [1, 6, 3])
@pytest.mark.parametrize("alpha", [False, True])
def test_in_bands(orientation: int, *, alpha: bool) -> None:
    """A large image, rotated, transparent or cropped, is converted as one that is converted first."""
    image = colorful(1500, 1100)
    wide = transform_to(image, "ROMM RGB")
    converted = transform_from(wide, "ROMM RGB")
    if alpha:
        mask = Image.fromarray(np.tile(np.linspace(0, 255, 1500).astype(np.uint8), (1100, 1)))
        flat = Image.new("RGB", wide.size, "white")
        flat.paste(wide, (0, 0), mask)
        converted = transform_from(flat, "ROMM RGB")
        wide.putalpha(mask)
    region = Region(0.1, 0.0, 1.0, 0.8)
    data = save(wide, "PNG", icc_profile=rgb_profile("ROMM RGB"), exif=exif(orientation), compress_level=1)
    expected = save(converted, "PNG", exif=exif(orientation), compress_level=1)
    for part in (None, region):
        assert np.abs(decode(MANAGED, data, part).astype(int) - decode(PLAIN, expected, part).astype(int)).max() <= 1


def test_gray() -> None:
    """A gray image's profile is applied, with transparency too; white stays white, black stays black."""
    levels = Image.fromarray(np.tile(np.linspace(0, 255, 48).astype(np.uint8), (32, 1)))
    linear = save(levels, "PNG", icc_profile=gray_profile(1.0))
    brighter = decode(MANAGED, linear)[0, :, 0].astype(int) - decode(PLAIN, linear)[0, :, 0]
    assert brighter[0] == brighter[-1] == 0
    assert brighter[5:-5].min() > 8
    transparent = levels.convert("LA")
    transparent.putalpha(Image.new("L", levels.size, 255))
    assert (decode(MANAGED, save(transparent, "PNG", icc_profile=gray_profile(1.0))) == decode(MANAGED, linear)).all()


def test_inks() -> None:
    """A CMYK image is converted by the profile of its press, not by subtracting inks from white."""
    inks = colorful().convert("CMYK")
    data = save(inks, "JPEG", quality=95, subsampling=0, icc_profile=cmyk_profile(black=40.0))
    black = save(Image.new("CMYK", (64, 64), (0, 0, 0, 255)), "JPEG", quality=95, icc_profile=cmyk_profile(black=40.0))
    assert distance(decode(MANAGED, data), decode(PLAIN, data)) > 10
    white = save(Image.new("CMYK", (64, 64)), "JPEG", quality=95, icc_profile=cmyk_profile())
    assert decode(MANAGED, white).min() >= 253
    assert decode(PLAIN, black).max() == 0
    assert 85 < decode(MANAGED, black).mean() < 105  # a lightness of 40


P3 = rgb_profile("Display P3")
COMPRESSED = zlib.compress(P3)
CHAIN = b"mpet" + bytes(4) + struct.pack(">HHI", 3, 3, 1) + bytes(64)
HUGE_TABLE = b"mft2" + bytes(4) + bytes((3, 3, 255, 0)) + bytes(36) + struct.pack(">HH", 2, 2) + bytes(64)

DAMAGED: dict[str, bytes] = {
    "empty": b"",
    "text": b"no profile at all " * 20,
    "header only": P3[:132],
    "half": P3[: len(P3) // 2],
    "ends in a tag": P3[:-40],
    "of another kind of image": gray_profile(1.0),
    "of inks": cmyk_profile(),
    "a link of devices": P3[:12] + b"link" + P3[16:],
    "named colors": P3[:12] + b"nmcl" + P3[16:],
    "too large": P3 + bytes(MAX_PROFILE_BYTES),
    "a million tags": P3[:128] + struct.pack(">I", 1_000_000) + P3[132:],
    "a chain of steps": profile("RGB ", {"D2B0": CHAIN}),
    "a table of 100 MB that is not there": profile("RGB ", {"A2B0": HUGE_TABLE}),
    "no white": profile("RGB ", {}),
}


@pytest.mark.parametrize("kind", DAMAGED)
def test_a_profile_that_cannot_be_used(kind: str) -> None:
    """It is ignored: the image is decoded as without."""
    for file_format in ("JPEG", "WEBP"):
        data = save(colorful(), file_format, icc_profile=DAMAGED[kind])
        assert (decode(MANAGED, data) == decode(PLAIN, data)).all()


def png_with(data: bytes) -> bytes:
    """Write a PNG with these contents of its chunk for a profile."""
    plain = save(colorful(), "PNG")
    return plain[:33] + chunk(b"iCCP", data) + plain[33:]


CHUNKS: dict[str, bytes] = {
    "empty": b"",
    "no name": b"\0",
    "a name only": b"P3",
    "unknown compression": b"P3\0\x05" + COMPRESSED,
    "cut": b"P3\0\0" + COMPRESSED[:200],
    "gigabytes": b"P3\0\0" + zlib.compress(bytes(200_000_000), 9),
}


@pytest.mark.parametrize("kind", CHUNKS)
def test_a_damaged_chunk(kind: str) -> None:
    """A PNG's profile that cannot be unpacked is ignored, in time and memory that do not depend on what it claims."""
    data = png_with(CHUNKS[kind])
    assert (decode(MANAGED, data) == decode(MANAGED, save(colorful(), "PNG"))).all()
    control = png_with(b"P3\0\0" + COMPRESSED)
    assert distance(decode(MANAGED, control), decode(PLAIN, control)) > 3


@pytest.mark.parametrize(
    "piece", [b"", b"\1", b"\1\2" + P3[:100], b"\0\0" + P3], ids=["none", "short", "missing", "zero"]
)
def test_damaged_pieces_in_a_jpeg(piece: bytes) -> None:
    """A JPEG whose profile has pieces without numbers, or too few of them, is decoded without it."""
    plain = save(colorful(), "JPEG")
    body = b"ICC_PROFILE\0" + piece
    data = plain[:2] + b"\xff\xe2" + struct.pack(">H", len(body) + 2) + body + plain[2:]
    assert (decode(MANAGED, data) == decode(PLAIN, plain)).all()


@pytest.mark.parametrize("space", ["RGB", "CMYK"])
def test_random_damage(space: str) -> None:
    """Whatever bytes of a profile are changed, the file is an image, and takes no more time than a good one may."""
    icc = P3 if space == "RGB" else cmyk_profile()
    image = colorful().convert(space)
    random = np.random.default_rng(len(space))
    longest = 0.0
    for _ in range(200 if space == "RGB" else 40):
        damaged = bytearray(icc)
        for _ in range(random.integers(1, 9)):
            damaged[random.integers(len(damaged) if random.random() < 0.3 else 260)] = random.integers(256)
        data = save(image, "JPEG", icc_profile=bytes(damaged))
        before = time.process_time()
        assert decode(MANAGED, data).shape == (32, 48, 3)
        longest = max(longest, time.process_time() - before)
    assert longest < 2
