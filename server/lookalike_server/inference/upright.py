"""From decoded pixels to the model's input: rotate upright, convert to (s)RGB on white, crop, resize.

A large image is converted in bands of rows, each resized across at once, so that no copy of the whole image is made.
The result is that of converting everything first, within 1 of 255: Pillow resizes some tall images down before across,
and rounds in between.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import partial

import numpy as np
from PIL import Image as PilImage

from lookalike_server.domain.inference import Pixels, Region
from lookalike_server.inference.color import ToSrgb

BAND_PIXELS = 1 << 18
"""About as many pixels are converted at once; their copies fit into a core's cache."""

WHOLE_PIXELS = 1 << 20
"""Up to as many pixels are converted and resized in one piece, which is faster."""

COPY_BYTES = 24
"""The most bytes held for each pixel that is converted: crop, transposed, in RGBA, in RGB, on white, and resized."""

# The transposition that makes an image upright, by EXIF's orientation tag (EXIF 2.32, section 4.6.4); 1 is upright.
_UPRIGHT = {
    2: PilImage.Transpose.FLIP_LEFT_RIGHT,
    3: PilImage.Transpose.ROTATE_180,
    4: PilImage.Transpose.FLIP_TOP_BOTTOM,
    5: PilImage.Transpose.TRANSPOSE,
    6: PilImage.Transpose.ROTATE_270,
    7: PilImage.Transpose.TRANSVERSE,
    8: PilImage.Transpose.ROTATE_90,
}

# The orientations that turn the file's columns into rows; that count the file's columns, or its rows, from the other
# end; and that move the file's right or bottom side to the left, or to the top.
_SIDEWAYS = (5, 6, 7, 8)
_COLUMNS_REVERSED = (2, 3, 7, 8)
_ROWS_REVERSED = (3, 4, 6, 7)
_RIGHT_TO_LEFT = (2, 3, 6, 7)
_BOTTOM_TO_TOP = (3, 4, 7, 8)

_Box = tuple[int, int, int, int]


@dataclass(frozen=True, slots=True)
class DecodedImage:
    """Pixels as they were decoded, at full or reduced size, not yet upright.

    Attributes:
        pixels: The decoded pixels: Pillow's, in any mode, or uint8 [height, width, 3] in RGB.
        width: Columns of the full image, as it is stored.
        height: Rows of the full image, as it is stored.
        scale: The full image's columns per decoded column.
        orientation: EXIF's orientation tag.
        color: What converts the colors to sRGB, and the mode that it takes: RGB, L or CMYK. Images of another mode stay
            as they are.
    """

    pixels: PilImage.Image | Pixels
    width: int
    height: int
    scale: int = 1
    orientation: int = 1
    color: tuple[str, ToSrgb] | None = None

    def resize(self, size: tuple[int, int], resampling: PilImage.Resampling, region: Region | None) -> PilImage.Image:
        """Rotate upright, convert to RGB, crop to the region, if any, and resize to this width and height."""
        width, height = self._oriented(self.width, self.height)
        columns, rows = self._oriented(*self._decoded_size)
        # The decoder rounds a reduced size up; what it adds on the right and below is transposed with the rest.
        added_left = columns - width / self.scale if self.orientation in _RIGHT_TO_LEFT else 0.0
        added_above = rows - height / self.scale if self.orientation in _BOTTOM_TO_TOP else 0.0
        inner = (0, 0, width, height) if region is None else _box(region, width, height)
        left, right = (added_left + x / self.scale for x in inner[::2])
        top, bottom = (added_above + y / self.scale for y in inner[1::2])
        # Crop before the resize, so that nothing from outside the region bleeds in.
        x, y = math.floor(left), math.floor(top)
        box = (x, y, math.ceil(right), math.ceil(bottom))
        return self._resize(box, size, resampling, (left - x, top - y, right - x, bottom - y))

    def _resize(
        self,
        box: _Box,
        size: tuple[int, int],
        resampling: PilImage.Resampling,
        inner: tuple[float, float, float, float],
    ) -> PilImage.Image:
        """Crop the upright image to a box, and resize what is `inner` in it."""
        columns, rows = box[2] - box[0], box[3] - box[1]
        whole = self._whole_rgb(box)
        if whole is None and columns * rows <= WHOLE_PIXELS:
            whole = self._rgb(box)
        if whole is not None:
            return whole.resize(size, resampling, inner).convert("RGB")
        across = partial(PilImage.Image.resize, resample=resampling)
        step = max(1, BAND_PIXELS // columns)
        mode = self._rgb((box[0], box[1], box[0] + 1, box[1] + 1)).mode
        narrow = PilImage.new(mode, (size[0], rows))
        for first in range(0, rows, step):
            end = min(rows, first + step)
            band = self._rgb((box[0], box[1] + first, box[2], box[1] + end))
            narrow.paste(across(band, (size[0], end - first), box=(inner[0], 0, inner[2], end - first)), (0, first))
        return across(narrow, size, box=(0, inner[1], size[0], inner[3])).convert("RGB")

    def _whole_rgb(self, box: _Box) -> PilImage.Image | None:
        """Return the decoded pixels where they are what is resized, so that nothing is copied."""
        pixels = self.pixels
        if self.color is not None:
            return None
        if isinstance(pixels, PilImage.Image) and self.orientation not in _UPRIGHT and box == (0, 0, *pixels.size):
            return pixels if pixels.mode in ("RGB", "L") and "transparency" not in pixels.info else None
        return None

    def _rgb(self, box: _Box) -> PilImage.Image:
        """Crop the upright image to a box, in RGB, or in L where it is gray."""
        columns, rows = (box[0], box[2]), (box[1], box[3])
        if self.orientation in _SIDEWAYS:
            columns, rows = rows, columns
        width, height = self._decoded_size
        if self.orientation in _COLUMNS_REVERSED:
            columns = (width - columns[1], width - columns[0])
        if self.orientation in _ROWS_REVERSED:
            rows = (height - rows[1], height - rows[0])
        if not isinstance(self.pixels, PilImage.Image):
            return PilImage.fromarray(self.pixels[rows[0] : rows[1], columns[0] : columns[1]])
        stored = self.pixels.crop((columns[0], rows[0], columns[1], rows[1]))
        transposition = _UPRIGHT.get(self.orientation)
        upright = stored if transposition is None else stored.transpose(transposition)
        return _to_rgb(upright) if self.color is None else _to_srgb(upright, *self.color)

    @property
    def _decoded_size(self) -> tuple[int, int]:
        if isinstance(self.pixels, PilImage.Image):
            return self.pixels.size
        return self.pixels.shape[1], self.pixels.shape[0]

    def _oriented(self, width: int, height: int) -> tuple[int, int]:
        return (height, width) if self.orientation in _SIDEWAYS else (width, height)


def _to_srgb(image: PilImage.Image, mode: str, convert: ToSrgb) -> PilImage.Image:
    if mode == "CMYK":
        return convert(image) if image.mode == "CMYK" else _to_rgb(image)
    opaque = _to_rgb(image)
    if mode == "L" and image.mode in ("LA", "La"):
        opaque = opaque.convert("L")  # gray on white, in three equal channels
    return convert(opaque) if opaque.mode == mode and image.mode != "CMYK" else opaque


def _to_rgb(image: PilImage.Image) -> PilImage.Image:
    if image.mode in ("RGB", "L") and "transparency" not in image.info:
        return image
    if image.mode.startswith("I"):
        # 16-bit gray: Pillow's own conversion would clip it at 255 instead of scaling.
        gray = np.asarray(image).astype(np.uint32)
        scaled = (gray >> 8).astype(np.uint8)
        if "transparency" in image.info:
            scaled[gray == image.info["transparency"]] = 255
        return PilImage.fromarray(scaled)
    if image.has_transparency_data:
        clear = image if image.mode == "RGBA" else image.convert("RGBA")
        white = PilImage.new("RGB", image.size, "white")
        white.paste(clear, (0, 0), clear)
        return white
    return image.convert("RGB")


def _box(region: Region, width: int, height: int) -> _Box:
    """Return left, top, right, bottom of the pixels that the region touches; at least one."""
    left = min(int(region.left * width), width - 1)
    top = min(int(region.top * height), height - 1)
    right = max(left + 1, int(np.ceil(region.right * width)))
    bottom = max(top + 1, int(np.ceil(region.bottom * height)))
    return left, top, right, bottom
