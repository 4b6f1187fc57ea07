"""From an image to the model's input: decode, rotate upright, convert to RGB on white, crop, resize.

Runs in a pool of threads; Pillow releases the GIL while it decodes and resizes. Sizes are checked from the header,
before any pixel is decoded. A large JPEG is decoded at 1/2, 1/4 or 1/8 of its size (docs/adr/0008).
"""

from __future__ import annotations

import io
import math
import warnings
from dataclasses import dataclass

import numpy as np
from PIL import Image as PilImage

from lookalike_server.domain.errors import invalid
from lookalike_server.domain.inference import EncodedImage, Image, Pixels, RawImage, Region, Resize

FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP")

# `ImageDecoder` checks its own limit at the same point; Pillow's would warn instead of reject.
PilImage.MAX_IMAGE_PIXELS = None

# Pillow's warnings about broken files contain the caller's values; Python would print each and remember it forever.
warnings.filterwarnings("ignore", category=UserWarning, module=r"PIL\.")

_RESAMPLING = {Resize.BILINEAR: PilImage.Resampling.BILINEAR, Resize.NEAREST: PilImage.Resampling.NEAREST}

_ORIENTATION_TAG = 0x0112
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

# The orientations that turn the file's columns into rows, and those that move the file's right or bottom side to the
# left or the top.
_SIDEWAYS = (5, 6, 7, 8)
_RIGHT_TO_LEFT = (2, 3, 6, 7)
_BOTTOM_TO_TOP = (3, 4, 7, 8)

# A JPEG decoded at reduced size keeps at least this many times the model's pixels in each direction, so that the resize
# still averages and the embedding stays within the bound of docs/adr/0008.
_OVERSAMPLING = 2


@dataclass(frozen=True, slots=True)
class _UprightImage:
    """Upright RGB pixels, decoded at full or reduced size.

    Attributes:
        pixels: The decoded pixels.
        width: Columns of the full image.
        height: Rows of the full image.
        scale: The full image's columns per decoded column.
        left: The decoded column, less than 1, at which the full image begins.
        top: The same for rows.
    """

    pixels: PilImage.Image
    width: int
    height: int
    scale: int = 1
    left: float = 0.0
    top: float = 0.0

    def resize(self, size: tuple[int, int], resampling: PilImage.Resampling, region: Region | None) -> PilImage.Image:
        """Crop to the region, if any, and resize to this width and height."""
        inner = (0, 0, self.width, self.height) if region is None else _box(region, self.width, self.height)
        left, right = (self.left + x / self.scale for x in inner[::2])
        top, bottom = (self.top + y / self.scale for y in inner[1::2])
        # Crop before the resize, so that nothing from outside the region bleeds in.
        x, y = math.floor(left), math.floor(top)
        pixels = self.pixels if region is None else self.pixels.crop((x, y, math.ceil(right), math.ceil(bottom)))
        return pixels.resize(size, resampling, (left - x, top - y, right - x, bottom - y))


@dataclass(frozen=True, slots=True)
class ImageDecoder:
    """Turns images into the model's input.

    Attributes:
        height: Rows of the model's input.
        width: Columns of the model's input.
        resize: How images are resized to it.
        max_bytes: The largest image file that is accepted.
        max_pixels: The most pixels that an image may have.
    """

    height: int
    width: int
    resize: Resize
    max_bytes: int
    max_pixels: int

    def decode(self, image: Image) -> Pixels:
        """Decode and resize one image to uint8 [height, width, 3] in RGB.

        Raises:
            LookalikeError: INVALID_ARGUMENT with the field, when it is not an image, broken, or too large.
        """
        if isinstance(image, EncodedImage):
            upright = self._decode_file(image)
        elif self.is_model_input(image):
            return image.pixels
        else:
            upright = self._from_pixels(image)
        return np.asarray(upright.resize((self.width, self.height), _RESAMPLING[self.resize], image.region))

    def is_model_input(self, image: RawImage) -> bool:
        """Whether these pixels are the model's input already."""
        return image.region is None and image.pixels.shape == (self.height, self.width, 3)

    def reduction(self, width: int, height: int, region: Region | None) -> int:
        """Choose the factor by which a JPEG of this size is reduced while it is decoded: 1, 2, 4 or 8.

        The shorter side decides, because EXIF may still rotate the image. `nearest` picks single pixels, so there it
        is 1.
        """
        if self.resize is not Resize.BILINEAR:
            return 1
        share = 1.0 if region is None else min(region.right - region.left, region.bottom - region.top)
        wanted = _OVERSAMPLING * max(self.height, self.width)
        return next((scale for scale in (8, 4, 2) if min(width, height) * share >= scale * wanted), 1)

    def _from_pixels(self, image: RawImage) -> _UprightImage:
        height, width, _ = image.pixels.shape
        self._check_pixels(width, height, image.field)
        return _UprightImage(PilImage.fromarray(image.pixels), width, height)

    def _decode_file(self, image: EncodedImage) -> _UprightImage:
        field = image.field
        if not image.data:
            raise invalid(field, "is empty; send the bytes of an image file")
        if len(image.data) > self.max_bytes:
            raise invalid(field, f"has {len(image.data):,} bytes; send at most {self.max_bytes:,}")
        try:
            opened = PilImage.open(io.BytesIO(image.data), formats=FORMATS)
        except Exception as error:  # a broken header raises whatever the format's parser raises
            raise invalid(field, "is not a JPEG, PNG, WebP, GIF or BMP image") from error
        with opened:
            self._check_pixels(opened.width, opened.height, field)
            try:
                width, height = opened.size
                scale = self.reduction(width, height, image.region)
                # Decodes at the smallest size that is not below this one; does nothing for formats other than JPEG.
                drafted = opened.draft(None, (width // scale, height // scale))
                opened.load()
                if drafted is None:
                    return _upright(opened, opened.width, opened.height, 1)
                return _upright(opened, width, height, scale)
            except Exception as error:  # the decoders raise OSError, SyntaxError, ValueError, struct.error ...
                raise invalid(field, f"is a truncated or broken {opened.format} image") from error

    def _check_pixels(self, width: int, height: int, field: str) -> None:
        if width * height > self.max_pixels:
            raise invalid(field, f"is {width} x {height} pixels; send at most {self.max_pixels:,}")


def _upright(image: PilImage.Image, width: int, height: int, scale: int) -> _UprightImage:
    try:
        orientation = image.getexif().get(_ORIENTATION_TAG, 1)
    except Exception:  # noqa: BLE001 - an image with unreadable EXIF is still an image
        orientation = 1
    transposition = _UPRIGHT.get(orientation)
    if transposition is None:
        return _UprightImage(_to_rgb(image), width, height, scale)
    # The decoder rounds a reduced size up; what it adds on the right and below is transposed with the rest.
    right, below = image.width - width / scale, image.height - height / scale
    if orientation in _SIDEWAYS:
        width, height, right, below = height, width, below, right
    left = right if orientation in _RIGHT_TO_LEFT else 0.0
    top = below if orientation in _BOTTOM_TO_TOP else 0.0
    return _UprightImage(_to_rgb(image.transpose(transposition)), width, height, scale, left, top)


def _to_rgb(image: PilImage.Image) -> PilImage.Image:
    if image.mode == "RGB" and "transparency" not in image.info:
        return image
    if image.mode.startswith("I"):
        # 16-bit gray: Pillow's own conversion would clip it at 255 instead of scaling.
        gray = np.asarray(image).astype(np.uint32) >> 8
        return PilImage.fromarray(gray.astype(np.uint8)).convert("RGB")
    if image.has_transparency_data:
        white = PilImage.new("RGBA", image.size, "white")
        return PilImage.alpha_composite(white, image.convert("RGBA")).convert("RGB")
    return image.convert("RGB")


def _box(region: Region, width: int, height: int) -> tuple[int, int, int, int]:
    """Return left, top, right, bottom of the pixels that the region touches; at least one."""
    left = min(int(region.left * width), width - 1)
    top = min(int(region.top * height), height - 1)
    right = max(left + 1, int(np.ceil(region.right * width)))
    bottom = max(top + 1, int(np.ceil(region.bottom * height)))
    return left, top, right, bottom
