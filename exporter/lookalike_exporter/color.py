"""From an image's own color space to sRGB, by its embedded ICC profile; LittleCMS does the arithmetic.

As the server's `inference/color.py`, with which `tests/golden/images` keeps it in step. A profile that is damaged, too
large, or not of the image's kind is ignored, as browsers do.
"""

import io
import struct
from collections.abc import Callable
from functools import lru_cache

import numpy as np
from PIL import Image as PilImage
from PIL import ImageCms

MAX_PROFILE_BYTES = 2 << 20
"""The largest profile that is read."""

ToSrgb = Callable[[PilImage.Image], PilImage.Image]
"""Takes an image of one mode (RGB, L or CMYK), which it may change, and returns it in sRGB: RGB, or L for gray."""

_MODES = {b"RGB ": "RGB", b"GRAY": "L", b"CMYK": "CMYK"}
_DEVICES = (b"mntr", b"scnr", b"prtr", b"spac")  # not links between devices, named colors, or effects
_MAX_TAGS = 100  # LittleCMS' own limit
# Tags of chains of steps, as long as anybody likes (ICC.1:2010, 9.2.46): each color of LittleCMS' table would pass all.
_CHAINS = (b"D2B0", b"D2B1", b"D2B2", b"D2B3")

# A transform takes milliseconds to build, and the images of a catalog have few profiles.
_CACHED = 8

# The levels of each channel that a profile is tried with, and how far from sRGB it may be and still be called that.
_PROBED_LEVELS = 9
_SAME = 2

_SRGB = ImageCms.createProfile("sRGB")


def profile_mode(profile: bytes) -> str | None:
    """Return the mode of the images that a profile is for: RGB, L or CMYK; None where it is not used."""
    if not 132 <= len(profile) <= MAX_PROFILE_BYTES or profile[36:40] != b"acsp" or profile[12:16] not in _DEVICES:
        return None
    (tags,) = struct.unpack_from(">I", profile, 128)
    if tags > _MAX_TAGS or any(profile[132 + 12 * n : 136 + 12 * n] in _CHAINS for n in range(tags)):
        return None
    return _MODES.get(profile[16:20])


@lru_cache(maxsize=_CACHED)
def to_srgb(profile: bytes) -> ToSrgb | None:
    """Return what converts images from a profile's color space to sRGB; None where that changes nothing, or cannot be.

    White stays white. Colors outside sRGB become the nearest of its edge.
    """
    mode = profile_mode(profile)
    if mode is None:
        return None
    try:
        transform = ImageCms.buildTransform(
            ImageCms.ImageCmsProfile(io.BytesIO(profile)),
            _SRGB,
            mode,
            "RGB",
            ImageCms.Intent.RELATIVE_COLORIMETRIC,
            ImageCms.Flags.BLACKPOINTCOMPENSATION,
        )
        convert = _gray(transform) if mode == "L" else _in_place(transform) if mode == "RGB" else transform.apply
        if mode != "CMYK":
            probe = _probe(mode)
            difference = np.asarray(convert(probe.copy())).astype(np.int16) - np.asarray(probe)
            if np.abs(difference).max() <= _SAME:
                return None
    except Exception:  # noqa: BLE001 - LittleCMS' errors are of several classes; the image is one without it
        return None
    return convert


def _in_place(transform: ImageCms.ImageCmsTransform) -> ToSrgb:
    def convert(image: PilImage.Image) -> PilImage.Image:
        transform.apply_in_place(image)
        return image

    return convert


def _gray(transform: ImageCms.ImageCmsTransform) -> ToSrgb:
    """Return what looks levels up, so that gray stays one channel."""
    levels = np.arange(256, dtype=np.uint8)[np.newaxis]
    table = np.asarray(transform.apply(PilImage.fromarray(levels)))[0, :, 1].tolist()
    return lambda image: image.point(table)


def _probe(mode: str) -> PilImage.Image:
    levels = np.linspace(0, 255, _PROBED_LEVELS).astype(np.uint8)
    if mode == "L":
        return PilImage.fromarray(np.arange(256, dtype=np.uint8)[np.newaxis])
    colors = np.stack(np.meshgrid(levels, levels, levels), axis=-1)
    return PilImage.fromarray(colors.reshape(1, -1, 3))
