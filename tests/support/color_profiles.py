"""Writes ICC profiles (ICC.1:2001-04) of well-known color spaces by hand, because none may be shipped."""

from __future__ import annotations

import io
import struct
from collections.abc import Mapping, Sequence

import numpy as np
from PIL import Image, ImageCms

_BRADFORD = np.array([[0.8951, 0.2664, -0.1614], [-0.7502, 1.7135, 0.0367], [0.0389, -0.0685, 1.0296]])
_D50 = np.array([0.9642, 1.0, 0.8249])
_D65 = (0.3127, 0.3290)
_D50_XY = (0.3457, 0.3585)

_PRIMARIES: dict[str, tuple[Sequence[tuple[float, float]], tuple[float, float], float | None]] = {
    "sRGB": (((0.64, 0.33), (0.30, 0.60), (0.15, 0.06)), _D65, None),
    "Display P3": (((0.680, 0.320), (0.265, 0.690), (0.150, 0.060)), _D65, None),
    "Adobe RGB": (((0.64, 0.33), (0.21, 0.71), (0.15, 0.06)), _D65, 563 / 256),
    # better known as ProPhoto  # codespell:ignore
    "ROMM RGB": (((0.7347, 0.2653), (0.1596, 0.8404), (0.0366, 0.0001)), _D50_XY, 1.8),
}
"""The chromaticities of red, green and blue, of white, and the gamma; None for sRGB's own curve."""

RGB_SPACES = tuple(_PRIMARIES)


def rgb_profile(space: str) -> bytes:
    """Return a matrix profile of an RGB space."""
    primaries, white, gamma = _PRIMARIES[space]
    columns = np.array([(x / y, 1.0, (1 - x - y) / y) for x, y in primaries]).T
    source = np.array((white[0] / white[1], 1.0, (1 - white[0] - white[1]) / white[1]))
    columns = columns * np.linalg.solve(columns, source)
    adaptation = np.linalg.inv(_BRADFORD) @ np.diag(_BRADFORD @ _D50 / (_BRADFORD @ source)) @ _BRADFORD
    columns = adaptation @ columns
    tags = {f"{name}XYZ": _xyz(columns[:, index]) for index, name in enumerate("rgb")}
    return profile("RGB ", tags | {f"{name}TRC": _curve(gamma) for name in "rgb"})


def transform_to(image: Image.Image, space: str) -> Image.Image:
    """Convert an sRGB image to another RGB space."""
    return _transform(ImageCms.createProfile("sRGB"), _opened(space)).apply(image)


def transform_from(image: Image.Image, space: str) -> Image.Image:
    """Convert an image of an RGB space to sRGB."""
    return _transform(_opened(space), ImageCms.createProfile("sRGB")).apply(image)


def _opened(space: str) -> ImageCms.ImageCmsProfile:
    return ImageCms.ImageCmsProfile(io.BytesIO(rgb_profile(space)))


def _transform(source: object, target: object) -> ImageCms.ImageCmsTransform:
    intent = ImageCms.Intent.RELATIVE_COLORIMETRIC
    return ImageCms.buildTransform(source, target, "RGB", "RGB", intent)  # type: ignore[arg-type]


def gray_profile(gamma: float) -> bytes:
    """Return a profile of gray with this gamma."""
    return profile("GRAY", {"kTRC": _curve(gamma)}, pcs="XYZ ")


def cmyk_profile(black: float = 10.0) -> bytes:
    """Return a profile of inks: each removes its own part of white's lightness and color, in a table of 2 x 2 x 2 x 2.

    Args:
        black: The lightness of all black ink, 0 to 100.
    """
    table = []
    for corner in np.ndindex(2, 2, 2, 2):
        cyan, magenta, yellow, key = corner
        lightness = (100.0 - 35 * cyan - 45 * magenta - 8 * yellow) * (1 - key) + black * key
        a = (-35 * cyan + 70 * magenta) * (1 - key)
        b = (-50 * cyan - 5 * magenta + 90 * yellow) * (1 - key)
        table += [lightness * 255 / 100, a + 128, b + 128]
    identity = bytes(range(256))
    entries = bytes(round(min(max(value, 0), 255)) for value in table)
    matrix = struct.pack(">9i", 65536, 0, 0, 0, 65536, 0, 0, 0, 65536)
    lut = b"mft1" + bytes(4) + bytes((4, 3, 2, 0)) + matrix + identity * 4 + entries + identity * 3
    return profile("CMYK", {"A2B0": lut}, pcs="Lab ", kind="prtr")


def profile(space: str, tags: Mapping[str, bytes], *, pcs: str = "XYZ ", kind: str = "mntr") -> bytes:
    """Return a version 2 profile with these tags."""
    every = {"wtpt": _xyz(_D50)} | dict(tags)
    begin = 128 + 4 + 12 * len(every)
    table, body = struct.pack(">I", len(every)), b""
    for name, data in every.items():
        padded = data + bytes(-len(data) % 4)
        table += struct.pack(">4sII", name.encode(), begin + len(body), len(data))
        body += padded
    size = begin + len(body)
    header = struct.pack(">I4sI4s4s4s", size, bytes(4), 0x02400000, kind.encode(), space.encode(), pcs.encode())
    header += struct.pack(">6H4s", 2026, 1, 1, 0, 0, 0, b"acsp") + bytes(28) + _numbers(_D50)
    return header.ljust(128, b"\0") + table + body


def _xyz(values: Sequence[float] | np.ndarray[tuple[int], np.dtype[np.float64]]) -> bytes:
    return b"XYZ " + bytes(4) + _numbers(values)


def _numbers(values: Sequence[float] | np.ndarray[tuple[int], np.dtype[np.float64]]) -> bytes:
    return struct.pack(">3i", *(round(value * 65536) for value in values))


def _curve(gamma: float | None) -> bytes:
    if gamma is not None:
        return b"curv" + bytes(4) + struct.pack(">IH", 1, round(gamma * 256))
    values = np.linspace(0, 1, 1024)
    linear = np.where(values <= 0.04045, values / 12.92, ((values + 0.055) / 1.055) ** 2.4)
    return b"curv" + bytes(4) + struct.pack(">I", 1024) + np.round(linear * 65535).astype(">u2").tobytes()
