"""From a photo to the model's input: decode, upright, RGB on white, crop, resize.

Runs in a worker pool; Pillow releases the GIL while it decodes and resizes. Sizes are checked from the header, before
any pixel is decoded.
"""

from __future__ import annotations

import io
import warnings
from dataclasses import dataclass

import numpy as np
from PIL import Image

from lookalike_server.domain import EncodedPhoto, Photo, Pixels, RawPhoto, Region, Resize
from lookalike_server.errors import invalid

FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP")

# `PhotoReader` has a limit of its own, checked at the same point; Pillow's would warn instead of refuse.
Image.MAX_IMAGE_PIXELS = None

# Pillow warns of a photo's faults in words that hold the caller's numbers; Python would print each and never forget it.
warnings.filterwarnings("ignore", category=UserWarning, module=r"PIL\.")

_RESAMPLING = {Resize.BILINEAR: Image.Resampling.BILINEAR, Resize.NEAREST: Image.Resampling.NEAREST}

_ORIENTATION_TAG = 0x0112
# What makes a photo upright, by the value of EXIF's orientation tag (EXIF 2.32, section 4.6.4); 1 is upright already.
_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


@dataclass(frozen=True, slots=True)
class PhotoReader:
    """Turns photos into model input.

    Attributes:
        height: Rows of the model's input.
        width: Columns of the model's input.
        resize: How a photo comes to that size.
        max_bytes: The largest picture file taken.
        max_pixels: The most pixels a photo may have.
    """

    height: int
    width: int
    resize: Resize
    max_bytes: int
    max_pixels: int

    def read(self, photo: Photo) -> Pixels:
        """Decode and resize one photo to uint8 [height, width, 3] RGB.

        Raises:
            LookalikeError: INVALID_ARGUMENT naming the field, when it is no picture, broken, or too large.
        """
        if isinstance(photo, EncodedPhoto):
            image = self._decode(photo)
        elif self.is_input(photo):
            return photo.pixels
        else:
            image = self._from_pixels(photo)
        if photo.region is not None:
            image = image.crop(_box(photo.region, image.width, image.height))
        return np.asarray(image.resize((self.width, self.height), _RESAMPLING[self.resize]))

    def is_input(self, photo: RawPhoto) -> bool:
        """Whether these pixels are the model's input as they are."""
        return photo.region is None and photo.pixels.shape == (self.height, self.width, 3)

    def _from_pixels(self, photo: RawPhoto) -> Image.Image:
        height, width, _ = photo.pixels.shape
        self._check_pixels(width, height, f"{photo.field}.rgb")
        return Image.fromarray(photo.pixels)

    def _decode(self, photo: EncodedPhoto) -> Image.Image:
        field = f"{photo.field}.encoded"
        if not photo.data:
            raise invalid(field, "is empty; send the bytes of a picture file")
        if len(photo.data) > self.max_bytes:
            raise invalid(field, f"holds {len(photo.data):,} bytes; at most {self.max_bytes:,} are taken")
        try:
            image = Image.open(io.BytesIO(photo.data), formats=FORMATS)
        except Exception as error:  # a broken header raises whatever the format's parser happens to
            raise invalid(field, "is not a JPEG, PNG, WebP, GIF or BMP picture") from error
        with image:
            self._check_pixels(image.width, image.height, field)
            try:
                return _to_rgb(_upright(image))
            except Exception as error:  # the decoders raise OSError, SyntaxError, ValueError, struct.error ...
                raise invalid(field, f"is a truncated or broken {image.format} picture") from error

    def _check_pixels(self, width: int, height: int, field: str) -> None:
        if width * height > self.max_pixels:
            raise invalid(field, f"is {width} x {height} pixels; at most {self.max_pixels:,} are taken")


def _upright(image: Image.Image) -> Image.Image:
    image.load()
    try:
        orientation = image.getexif().get(_ORIENTATION_TAG, 1)
    except Exception:  # noqa: BLE001 - a photo with unreadable EXIF is still a photo
        return image
    transposition = _UPRIGHT.get(orientation)
    return image if transposition is None else image.transpose(transposition)


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode == "RGB" and "transparency" not in image.info:
        return image
    if image.mode.startswith("I"):
        # 16 bits of grey; Pillow's own conversion would clip them at 255 instead of scaling.
        grey = np.asarray(image).astype(np.uint32) >> 8
        return Image.fromarray(grey.astype(np.uint8)).convert("RGB")
    if image.has_transparency_data:
        white = Image.new("RGBA", image.size, "white")
        return Image.alpha_composite(white, image.convert("RGBA")).convert("RGB")
    return image.convert("RGB")


def _box(region: Region, width: int, height: int) -> tuple[int, int, int, int]:
    """Every pixel that the region touches; at least one."""
    left = min(int(region.left * width), width - 1)
    top = min(int(region.top * height), height - 1)
    right = max(left + 1, int(np.ceil(region.right * width)))
    bottom = max(top + 1, int(np.ceil(region.bottom * height)))
    return left, top, right, bottom
