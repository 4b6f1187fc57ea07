"""The images of a load test: from a folder or from the server's catalog, as files or as pixels."""

from __future__ import annotations

import io
import random
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import grpc
import numpy as np
from PIL import Image, ImageOps

from lookalike_client.client import Client
from lookalike_client.errors import LookalikeError
from lookalike_client.types import Model, Product
from lookalike_loadtest.cache_busting import around_stamp, stamp

MOST_BYTES = 64 * 1024 * 1024
"""All images together; what does not fit is left out."""

_CHECKED_AT_ONCE = 4


@dataclass(frozen=True, slots=True, eq=False)
class LoadImage:
    """An image to send.

    Attributes:
        name: Its file, or its product's id.
        data: The file's bytes, or pixels as uint8 [height, width, 3].
        category: Its product's; empty where it has none.
    """

    name: str
    data: bytes | np.ndarray
    category: str = ""

    @property
    def size(self) -> int:
        """Bytes."""
        return len(self.data) if isinstance(self.data, bytes) else self.data.nbytes


@dataclass(frozen=True, slots=True)
class LeftOut:
    """An image that cannot be used, and why."""

    name: str
    reason: str


class NoImageError(Exception):
    """A folder has no image to send; `str()` of it is written for the user."""


def of_folder(folder: Path, count: int, seed: int) -> tuple[list[LoadImage], list[LeftOut]]:
    """Some files of a folder and the folders in it, drawn by the seed; hidden ones are left out.

    Raises:
        NoImageError: There is none, or the folder cannot be read.
    """
    try:
        paths = sorted(path for path in folder.rglob("*") if path.is_file() and not _is_hidden(path, folder))
    except OSError as error:
        raise NoImageError(f"{folder} cannot be read: {error.strerror}") from error
    if not paths:
        raise NoImageError(f"{folder} holds no file")
    random.Random(seed).shuffle(paths)  # noqa: S311 - a sample, not a secret
    images: list[LoadImage] = []
    left_out: list[LeftOut] = []
    for path in paths[:count]:
        try:
            images.append(LoadImage(str(path), path.read_bytes()))
        except OSError as error:
            left_out.append(LeftOut(str(path), error.strerror or str(error)))
    return images, left_out


def _is_hidden(path: Path, folder: Path) -> bool:
    return any(part.startswith(".") for part in path.relative_to(folder).parts)


def of_catalog(client: Client, products: Iterable[Product], count: int) -> list[LoadImage]:
    """The images that the server keeps of these products, at most so many; products without one are passed over."""
    images: list[LoadImage] = []
    for product in products:
        if len(images) == count:
            break
        try:
            images.append(LoadImage(product.id, client.image(product.id).data, product.category))
        except LookalikeError as error:
            if error.code is not grpc.StatusCode.NOT_FOUND:
                raise
    return images


def within_budget(images: Sequence[LoadImage]) -> list[LoadImage]:
    """As many as `MOST_BYTES` hold, at least one."""
    kept: list[LoadImage] = []
    size = 0
    for image in images:
        size += image.size
        if kept and size > MOST_BYTES:
            break
        kept.append(image)
    return kept


def accepted(client: Client, images: Sequence[LoadImage], *, unique: bool) -> tuple[list[LoadImage], list[LeftOut]]:
    """Those that the server embeds; it is asked for each once.

    With `unique` each is sent with a stamp of its own, so that the server's cache learns nothing from this.

    Raises:
        LookalikeError: The server does not answer, or rejects for another reason than the image.
    """

    def rejection(image: LoadImage) -> LeftOut | None:
        assert isinstance(image.data, bytes)  # noqa: S101 - pixels are always taken
        try:
            client.embed(stamp(0).join(around_stamp(image.data)) if unique else image.data)
        except LookalikeError as error:
            if error.code is not grpc.StatusCode.INVALID_ARGUMENT:
                raise
            return LeftOut(image.name, error.reason)
        return None

    with ThreadPoolExecutor(_CHECKED_AT_ONCE) as pool:
        rejections = list(pool.map(rejection, images))
    good = [image for image, rejected in zip(images, rejections, strict=True) if rejected is None]
    return good, [rejected for rejected in rejections if rejected is not None]


def decoded(images: Sequence[LoadImage], model: Model) -> tuple[list[LoadImage], list[LeftOut]]:
    """The images as pixels of the model's input size, upright and in RGB."""
    size = (model.input_width, model.input_height)
    how = Image.Resampling.NEAREST if model.resize == "nearest" else Image.Resampling.BILINEAR
    good: list[LoadImage] = []
    left_out: list[LeftOut] = []
    for image in images:
        assert isinstance(image.data, bytes)  # noqa: S101 - nothing is decoded twice
        try:
            with Image.open(io.BytesIO(image.data)) as opened:
                pixels = np.asarray(ImageOps.exif_transpose(opened).convert("RGB").resize(size, how))
        except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
            # as Pillow's decoders fail; it names the buffer rather than the file
            left_out.append(LeftOut(image.name, "is no image that Pillow reads" if "0x" in str(error) else str(error)))
        else:
            good.append(LoadImage(image.name, pixels, image.category))
    return good, left_out
