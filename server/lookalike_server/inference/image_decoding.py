"""From an image to the model's input: check the header, decode, then `upright.py`.

Runs in a pool of threads; Pillow releases the GIL while it decodes and resizes. Sizes are checked from the header,
before any pixel is decoded. A large JPEG is decoded at 1/2, 1/4 or 1/8 of its size (docs/adr/0008).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from PIL import Image as PilImage

from lookalike_server.domain.errors import invalid
from lookalike_server.domain.inference import (
    ColorManagement,
    EncodedImage,
    Image,
    Model,
    Pixels,
    RawImage,
    Region,
    Resize,
)
from lookalike_server.inference.color import ToSrgb, profile_mode, to_srgb
from lookalike_server.inference.heif_header import is_heic
from lookalike_server.inference.image_cost import (
    MAX_SCANS,
    MAX_SIDE,
    NO_LIMITS,
    PixelLimits,
    file_decoding_bytes,
    resizing_bytes,
)
from lookalike_server.inference.image_header import (
    BrokenHeaderError,
    ImageHeader,
    ImageKind,
    UnsupportedImageError,
    read_header,
)
from lookalike_server.inference.opening import HEIC_IS_READ, open_image, reason_of
from lookalike_server.inference.other_formats import ACCEPTED, UNREAD_HEIC, name_other
from lookalike_server.inference.upright import DecodedImage

_RESAMPLING = {Resize.BILINEAR: PilImage.Resampling.BILINEAR, Resize.NEAREST: PilImage.Resampling.NEAREST}

_ORIENTATION_TAG = 0x0112

# A JPEG decoded at reduced size keeps at least this many times the model's pixels in each direction, so that the resize
# still averages and the embedding stays within the bound of docs/adr/0008.
_OVERSAMPLING = 2


@dataclass(frozen=True, slots=True)
class ImageDecoder:
    """Turns images into the model's input.

    Attributes:
        height: Rows of the model's input.
        width: Columns of the model's input.
        resize: How images are resized to it.
        max_bytes: The largest image file that is accepted.
        max_pixels: The most pixels that an image may have.
        limits: The lower limits of files that cannot shrink while they are decoded.
        color_management: What becomes of an embedded color profile.
    """

    height: int
    width: int
    resize: Resize
    max_bytes: int
    max_pixels: int
    limits: PixelLimits = NO_LIMITS
    color_management: ColorManagement = ColorManagement.NONE

    @classmethod
    def of_model(cls, model: Model, max_bytes: int, max_pixels: int, limits: PixelLimits = NO_LIMITS) -> ImageDecoder:
        """Make the decoder that a model's folder asks for, with these limits."""
        return cls(model.height, model.width, model.resize, max_bytes, max_pixels, limits, model.color_management)

    def decode(self, image: Image, header: ImageHeader | None = None) -> Pixels:
        """Decode and resize one image to uint8 [height, width, 3] in RGB.

        Raises:
            LookalikeError: INVALID_ARGUMENT with the field, when it is not an image, broken, or too large.
        """
        if isinstance(image, EncodedImage):
            decoded = self._decode_file(image, header or self._header(image))
        elif self.is_model_input(image):
            return image.pixels
        else:
            decoded = self._from_pixels(image)
        return np.asarray(decoded.resize((self.width, self.height), _RESAMPLING[self.resize], image.region))

    def header(self, image: Image) -> ImageHeader | None:
        """Read and check a file's header, for the two that need it; None of raw pixels.

        Raises:
            LookalikeError: As `decode`.
        """
        return self._header(image) if isinstance(image, EncodedImage) else None

    def decoded_bytes(self, image: Image, header: ImageHeader | None = None) -> int:
        """Predict the most memory that `decode` will take at once, in bytes, from the image's header alone.

        Takes microseconds, and memory for nothing. What the image itself takes as it was received is not counted.

        Raises:
            LookalikeError: As `decode`, for all that the header shows.
        """
        if isinstance(image, EncodedImage):
            header = header or self._header(image)
            scale = self._reduction(header, image.region)
            return file_decoding_bytes(header, scale, self.width, len(image.data), image.region)
        if self.is_model_input(image):
            return 0
        height, width, _ = image.pixels.shape
        self._check_pixels(width, height, image.field)
        return resizing_bytes(width, height, self.width, image.region)

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

    def _from_pixels(self, image: RawImage) -> DecodedImage:
        height, width, _ = image.pixels.shape
        self._check_pixels(width, height, image.field)
        return DecodedImage(image.pixels, width, height)

    def _reduction(self, header: ImageHeader, region: Region | None) -> int:
        if header.kind not in (ImageKind.JPEG, ImageKind.PROGRESSIVE_JPEG):
            return 1
        return self.reduction(header.width, header.height, region)

    def _header(self, image: EncodedImage) -> ImageHeader:
        """Read and check a file's header."""
        field = image.field
        if not image.data:
            raise invalid(field, "is empty; send the bytes of an image file")
        if len(image.data) > self.max_bytes:
            raise invalid(field, f"has {len(image.data):,} bytes; send at most {self.max_bytes:,}")
        if not HEIC_IS_READ and is_heic(image.data):
            raise invalid(field, UNREAD_HEIC)
        try:
            header = read_header(image.data)
        except BrokenHeaderError as error:
            raise invalid(field, f"is a broken {error}") from None
        except UnsupportedImageError as error:
            raise invalid(field, str(error)) from None
        if header is None:
            raise invalid(field, name_other(image.data) or f"is not a {ACCEPTED} image")
        self._check_pixels(header.width, header.height, field)
        limit, kind = self.limits.of(header.kind), header.kind.value
        if header.width * header.height > limit:
            raise invalid(
                field,
                f"is {header.width} x {header.height} pixels; send at most {limit:,} as {kind}, "
                f"or up to {self.max_pixels:,} as a JPEG that is not progressive",
            )
        return header

    def _decode_file(self, image: EncodedImage, header: ImageHeader) -> DecodedImage:
        field, scale = image.field, self._reduction(header, image.region)
        if header.kind is ImageKind.PROGRESSIVE_JPEG:
            scans = image.data.count(b"\xff\xda", header.scans_at)
            if scans > MAX_SCANS:
                raise invalid(field, f"is a JPEG of {scans:,} scans; send one of at most {MAX_SCANS}")
        try:
            with open_image(image.data, header) as opened:
                # Decodes at the smallest size that is not below this one; does nothing for formats other than JPEG.
                drafted = opened.draft(None, (header.width // scale, header.height // scale))
                _read_transparent_color(opened, header, image.data)
                opened.load()
                scale = 1 if drafted is None else scale
                width, height = opened.size if header.kind is ImageKind.HEIC else (header.width, header.height)
                return DecodedImage(opened, width, height, scale, _orientation(opened), self._color(opened))
        except Exception as error:  # the decoders raise OSError, SyntaxError, ValueError, struct.error ...
            raise invalid(field, f"is a broken {header.kind.value}: {reason_of(error)}") from error

    def _color(self, opened: PilImage.Image) -> tuple[str, ToSrgb] | None:
        """Return what converts the image's colors to sRGB, and the mode that it takes."""
        profile = opened.info.get("icc_profile")
        if self.color_management is ColorManagement.NONE or not isinstance(profile, bytes):
            return None
        mode, convert = profile_mode(profile), to_srgb(profile)
        return (mode, convert) if mode and convert else None

    def _check_pixels(self, width: int, height: int, field: str) -> None:
        if width * height > self.max_pixels:
            raise invalid(field, f"is {width} x {height} pixels; send at most {self.max_pixels:,}")
        if max(width, height) > MAX_SIDE:
            raise invalid(field, f"is {width} x {height} pixels; send at most {MAX_SIDE:,} in a row or column")


def _read_transparent_color(opened: PilImage.Image, header: ImageHeader, data: bytes) -> None:
    """Let the transparent color of a PNG with 16 bits a channel be that of the 8 bits that Pillow decodes it to."""
    color = opened.info.get("transparency")
    if header.kind in (ImageKind.PNG, ImageKind.INTERLACED_PNG) and data[24] == 16 and isinstance(color, tuple):
        opened.info["transparency"] = tuple(value >> 8 for value in color)


def _orientation(image: PilImage.Image) -> int:
    try:
        return int(image.getexif().get(_ORIENTATION_TAG, 1))
    except Exception:  # noqa: BLE001 - an image with unreadable EXIF is still an image
        return 1
