"""From an image to the model's input: decode, upright, RGB on white, crop, resize.

Runs in a worker pool; Pillow releases the GIL while it decodes and resizes. Sizes are checked from the header, before
any pixel is decoded. A large JPEG is decoded at a half, a quarter or an eighth of its size (docs/adr/0008).
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

# `ImageDecoder` has a limit of its own, checked at the same point; Pillow's would warn instead of reject.
PilImage.MAX_IMAGE_PIXELS = None

# Pillow warns of an image's faults in words that hold the caller's numbers; Python would print each and never forget it.
warnings.filterwarnings("ignore", category=UserWarning, module=r"PIL\.")

_RESAMPLING = {Resize.BILINEAR: PilImage.Resampling.BILINEAR, Resize.NEAREST: PilImage.Resampling.NEAREST}

_ORIENTATION_TAG = 0x0112
# What makes an image upright, by the value of EXIF's orientation tag (EXIF 2.32, section 4.6.4); 1 is upright already.
_UPRIGHT = {
    2: PilImage.Transpose.FLIP_LEFT_RIGHT,
    3: PilImage.Transpose.ROTATE_180,
    4: PilImage.Transpose.FLIP_TOP_BOTTOM,
    5: PilImage.Transpose.TRANSPOSE,
    6: PilImage.Transpose.ROTATE_270,
    7: PilImage.Transpose.TRANSVERSE,
    8: PilImage.Transpose.ROTATE_90,
}

# The orientations that make rows of the file's columns, and those after which the upright image's left or top side is
# one that was on the right or below in the file.
_SIDEWAYS = (5, 6, 7, 8)
_FROM_THE_RIGHT = (2, 3, 6, 7)
_FROM_BELOW = (3, 4, 7, 8)

# A JPEG decoded at reduced size keeps at least this many times the model's pixels in each direction, so that the resize
# still averages and the embedding stays within the bound that docs/adr/0008 sets.
_SPARE = 2


@dataclass(frozen=True, slots=True)
class _Decoded:
    """An image upright and in RGB, maybe at reduced size.

    Attributes:
        image: Its pixels.
        width: Columns of the image itself.
        height: Rows of the image itself.
        scale: How many of them are one of the image.
        left: Where in the image the image begins, less than one pixel from its edge.
        top: The same for rows.
    """

    image: PilImage.Image
    width: int
    height: int
    scale: int = 1
    left: float = 0.0
    top: float = 0.0

    def resize(self, size: tuple[int, int], how: PilImage.Resampling, region: Region | None) -> PilImage.Image:
        """The image, or this region of it, at this size."""
        inner = (0, 0, self.width, self.height) if region is None else _box(region, self.width, self.height)
        left, right = (self.left + x / self.scale for x in inner[::2])
        top, bottom = (self.top + y / self.scale for y in inner[1::2])
        # Cropped before it is resized, so that nothing beside the region bleeds in.
        x, y = math.floor(left), math.floor(top)
        image = self.image if region is None else self.image.crop((x, y, math.ceil(right), math.ceil(bottom)))
        return image.resize(size, how, (left - x, top - y, right - x, bottom - y))


@dataclass(frozen=True, slots=True)
class ImageDecoder:
    """Turns images into model input.

    Attributes:
        height: Rows of the model's input.
        width: Columns of the model's input.
        resize: How an image comes to that size.
        max_bytes: The largest image file taken.
        max_pixels: The most pixels an image may have.
    """

    height: int
    width: int
    resize: Resize
    max_bytes: int
    max_pixels: int

    def read(self, image: Image) -> Pixels:
        """Decode and resize one image to uint8 [height, width, 3] RGB.

        Raises:
            LookalikeError: INVALID_ARGUMENT naming the field, when it is no image, broken, or too large.
        """
        if isinstance(image, EncodedImage):
            decoded = self._decode(image)
        elif self.is_input(image):
            return image.pixels
        else:
            whole = self._from_pixels(image)
            decoded = _Decoded(whole, whole.width, whole.height)
        return np.asarray(decoded.resize((self.width, self.height), _RESAMPLING[self.resize], image.region))

    def is_input(self, image: RawImage) -> bool:
        """Whether these pixels are the model's input as they are."""
        return image.region is None and image.pixels.shape == (self.height, self.width, 3)

    def reduction(self, width: int, height: int, region: Region | None) -> int:
        """By how much a JPEG of this size is reduced while it is decoded: 1, 2, 4 or 8.

        It is decided by the shortest side, since EXIF may yet turn the image; `nearest` is about single pixels.
        """
        if self.resize is not Resize.BILINEAR:
            return 1
        share = 1.0 if region is None else min(region.right - region.left, region.bottom - region.top)
        wanted = _SPARE * max(self.height, self.width)
        return next((scale for scale in (8, 4, 2) if min(width, height) * share >= scale * wanted), 1)

    def _from_pixels(self, image: RawImage) -> PilImage.Image:
        height, width, _ = image.pixels.shape
        self._check_pixels(width, height, image.field)
        return PilImage.fromarray(image.pixels)

    def _decode(self, image: EncodedImage) -> _Decoded:
        field = image.field
        if not image.data:
            raise invalid(field, "is empty; send the bytes of an image file")
        if len(image.data) > self.max_bytes:
            raise invalid(field, f"holds {len(image.data):,} bytes; at most {self.max_bytes:,} are taken")
        try:
            opened = PilImage.open(io.BytesIO(image.data), formats=FORMATS)
        except Exception as error:  # a broken header raises whatever the format's parser happens to
            raise invalid(field, "is not a JPEG, PNG, WebP, GIF or BMP image") from error
        with opened:
            self._check_pixels(opened.width, opened.height, field)
            try:
                width, height = opened.size
                scale = self.reduction(width, height, image.region)
                # Takes the smallest image of its own that is no less than this; for all but JPEG it does nothing.
                drafted = opened.draft(None, (width // scale, height // scale))
                opened.load()
                if drafted is None:
                    return _upright(opened, opened.width, opened.height, 1)
                return _upright(opened, width, height, scale)
            except Exception as error:  # the decoders raise OSError, SyntaxError, ValueError, struct.error ...
                raise invalid(field, f"is a truncated or broken {opened.format} image") from error

    def _check_pixels(self, width: int, height: int, field: str) -> None:
        if width * height > self.max_pixels:
            raise invalid(field, f"is {width} x {height} pixels; at most {self.max_pixels:,} are taken")


def _upright(image: PilImage.Image, width: int, height: int, scale: int) -> _Decoded:
    try:
        orientation = image.getexif().get(_ORIENTATION_TAG, 1)
    except Exception:  # noqa: BLE001 - an image with unreadable EXIF is still an image
        orientation = 1
    transposition = _UPRIGHT.get(orientation)
    if transposition is None:
        return _Decoded(_to_rgb(image), width, height, scale)
    # The decoder rounds a reduced size up; what it adds on the right and below is turned with the rest.
    right, below = image.width - width / scale, image.height - height / scale
    if orientation in _SIDEWAYS:
        width, height, right, below = height, width, below, right
    left = right if orientation in _FROM_THE_RIGHT else 0.0
    top = below if orientation in _FROM_BELOW else 0.0
    return _Decoded(_to_rgb(image.transpose(transposition)), width, height, scale, left, top)


def _to_rgb(image: PilImage.Image) -> PilImage.Image:
    if image.mode == "RGB" and "transparency" not in image.info:
        return image
    if image.mode.startswith("I"):
        # 16 bits of gray; Pillow's own conversion would clip them at 255 instead of scaling.
        gray = np.asarray(image).astype(np.uint32) >> 8
        return PilImage.fromarray(gray.astype(np.uint8)).convert("RGB")
    if image.has_transparency_data:
        white = PilImage.new("RGBA", image.size, "white")
        return PilImage.alpha_composite(white, image.convert("RGBA")).convert("RGB")
    return image.convert("RGB")


def _box(region: Region, width: int, height: int) -> tuple[int, int, int, int]:
    """Every pixel that the region touches; at least one."""
    left = min(int(region.left * width), width - 1)
    top = min(int(region.top * height), height - 1)
    right = max(left + 1, int(np.ceil(region.right * width)))
    bottom = max(top + 1, int(np.ceil(region.bottom * height)))
    return left, top, right, bottom
