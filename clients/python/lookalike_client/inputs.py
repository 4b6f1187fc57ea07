"""The inputs of a call: images, regions of images, vectors, and products to store."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class Region:
    """A box in an upright image (EXIF orientation applied), in fractions of its width and height.

    Attributes:
        left: Left edge, 0 to 1.
        top: Top edge, 0 to 1.
        right: Right edge, greater than `left`, at most 1.
        bottom: Bottom edge, greater than `top`, at most 1.
    """

    left: float
    top: float
    right: float
    bottom: float


@dataclass(frozen=True, slots=True, eq=False)
class Cropped:
    """A region of an image; accepted wherever an image is.

    Attributes:
        image: The whole image, as in `ImageSource`.
        region: The region to embed.
    """

    image: bytes | str | os.PathLike[str] | NDArray[np.uint8]
    region: Region

    def __repr__(self) -> str:
        return f"Cropped(<{type(self.image).__name__}>, {self.region})"


ImageSource = bytes | str | os.PathLike[str] | NDArray[np.uint8] | Cropped
"""An image: the bytes of a JPEG, PNG, WebP, AVIF, GIF or BMP file, the path of one (`str` or `os.PathLike`), or decoded
RGB pixels as a uint8 array of shape [height, width, 3]; or a region of one of these."""

VectorSource = NDArray[np.floating[Any]] | Sequence[float]
"""An embedding from the server's model: finite values of shape [dim], sent as float32."""


@dataclass(frozen=True, slots=True, eq=False)
class ProductInput:
    """A product to store; it replaces the whole product with the same id.

    Attributes:
        id: 1 to 256 bytes of UTF-8 without control characters.
        category: The partition to search it in; limited as an id.
        title: The title to show, at most 4096 bytes.
        image_uri: Where the shop keeps the image, at most 4096 bytes.
        attributes: At most 64; keys of 1 to 256 bytes, values up to 4096 bytes.
        images: One to eight images. Exactly one of `images` and `vectors` must be given.
        vectors: One to eight embeddings of shape [dim], from the same model.
    """

    id: str
    category: str
    title: str = ""
    image_uri: str = ""
    attributes: Mapping[str, str] = field(default_factory=dict)
    images: Sequence[ImageSource] = ()
    vectors: Sequence[VectorSource] = ()

    def __repr__(self) -> str:
        source = f"{len(self.images)} images" if len(self.images) else f"{len(self.vectors)} vectors"
        return f"<ProductInput {self.id!r} in {self.category!r}: {self.title!r}, {source}>"
