"""From an image file to the pixels that the server makes of it.

The server's own reader is in another distribution; `tests/golden/images` holds files and the pixels that both must make
of them, and a test on each side compares.
"""

import io
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from lookalike_exporter.color import profile_mode, to_srgb
from lookalike_exporter.specs import InputSpec

FORMATS = ("JPEG", "PNG", "WEBP", "AVIF", "GIF", "BMP")

_RESAMPLING = {"bilinear": Image.Resampling.BILINEAR, "nearest": Image.Resampling.NEAREST}
_OVERSAMPLING = 2  # a JPEG decoded at reduced size keeps so many times the input's longer side (docs/adr/0008)
_ORIENTATION = 0x0112

# By EXIF's orientation tag: the transposition that makes an image upright.
_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_SIDEWAYS = (5, 6, 7, 8)
_RIGHT_TO_LEFT = (2, 3, 6, 7)
_BOTTOM_TO_TOP = (3, 4, 7, 8)


def read_image(path: Path, spec: InputSpec) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """Read, convert to RGB on white, turn upright and resize: [height, width, 3] uint8.

    Raises:
        OSError: It is not an image, or damaged.
        SyntaxError: The same.
        ValueError: The same.
    """
    data = path.read_bytes()
    with Image.open(io.BytesIO(data), formats=FORMATS) as image:
        width, height = image.size
        scale = _reduction(width, height, spec) if image.format in ("JPEG", "MPO") else 1
        if image.draft(None, (width // scale, height // scale)) is None:
            scale = 1
        transparent = image.info.get("transparency")
        if image.format == "PNG" and data[24] == 16 and isinstance(transparent, tuple):
            image.info["transparency"] = tuple(value >> 8 for value in transparent)  # as Pillow reads its pixels
        image.load()
        orientation = _orientation(image)
        rgb = _to_srgb(image) if spec.color_management == "srgb" else _to_rgb(image)
    turn = _UPRIGHT.get(orientation)
    upright = rgb if turn is None else rgb.transpose(turn)
    # The decoder rounds a reduced size up, so that the image begins or ends at a fraction of a pixel.
    across, down = width / scale, height / scale
    if orientation in _SIDEWAYS:
        across, down = down, across
    left = upright.width - across if orientation in _RIGHT_TO_LEFT else 0.0
    top = upright.height - down if orientation in _BOTTOM_TO_TOP else 0.0
    box = (left, top, left + across, top + down)
    resized = upright.resize((spec.width, spec.height), _RESAMPLING[spec.resize], box)
    return np.asarray(resized.convert("RGB"), np.uint8)


def _reduction(width: int, height: int, spec: InputSpec) -> int:
    if spec.resize == "nearest":
        return 1
    wanted = _OVERSAMPLING * max(spec.height, spec.width)
    return next((scale for scale in (8, 4, 2) if min(width, height) >= scale * wanted), 1)


def _orientation(image: Image.Image) -> int:
    try:
        return int(image.getexif().get(_ORIENTATION, 1))
    except Exception:  # noqa: BLE001 - an image with unreadable EXIF is still an image
        return 1


def _to_srgb(image: Image.Image) -> Image.Image:
    profile = image.info.get("icc_profile")
    mode = profile_mode(profile) if isinstance(profile, bytes) else None
    convert = to_srgb(profile) if isinstance(profile, bytes) and mode else None
    if convert is None or (image.mode == "CMYK") != (mode == "CMYK"):
        return _to_rgb(image)
    if mode == "CMYK":
        return convert(image)
    rgb = _to_rgb(image)
    if mode == "L" and image.mode == "LA":
        rgb = rgb.convert("L")  # gray on white, in three equal channels
    return convert(rgb) if rgb.mode == mode else rgb


def _to_rgb(image: Image.Image) -> Image.Image:
    """Convert to RGB, or to L where it is gray, on white where it is transparent."""
    if image.mode in ("RGB", "L") and "transparency" not in image.info:
        return image
    if image.mode.startswith("I"):
        gray = np.asarray(image).astype(np.uint32)  # 16 bits, which Pillow would clip instead of scale
        scaled = (gray >> 8).astype(np.uint8)
        if "transparency" in image.info:
            scaled[gray == image.info["transparency"]] = 255
        return Image.fromarray(scaled)
    if image.has_transparency_data:
        clear = image if image.mode == "RGBA" else image.convert("RGBA")
        white = Image.new("RGB", image.size, "white")
        white.paste(clear, (0, 0), clear)
        return white
    return image.convert("RGB")
