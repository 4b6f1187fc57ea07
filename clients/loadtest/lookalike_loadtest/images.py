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
from lookalike_loadtest.cache_busting import encode_number, split_image

MAX_BYTES = 64 * 1024 * 1024
"""All images together; what does not fit is left out."""

_CHECK_CONCURRENCY = 4


@dataclass(frozen=True, slots=True, eq=False)
class LoadImage:
    """An image to send.

    Attributes:
        name: Its path, or the id of its product.
        data: The file's bytes, or pixels as uint8 [height, width, 3].
        category: The category of its product; empty where it has none.
    """

    name: str
    data: bytes | np.ndarray
    category: str = ""

    @property
    def size(self) -> int:
        """Size in bytes."""
        return len(self.data) if isinstance(self.data, bytes) else self.data.nbytes


@dataclass(frozen=True, slots=True)
class SkippedImage:
    """An image that cannot be sent, and why."""

    name: str
    reason: str


class NoImageError(Exception):
    """A folder has no image to send; `str()` of it is written for the user."""


def from_folder(folder: Path, count: int, seed: int) -> tuple[list[LoadImage], list[SkippedImage]]:
    """Read files of a folder and its subfolders, drawn by the seed; hidden ones are left out.

    Raises:
        NoImageError: The folder has no files, or cannot be read.
    """
    try:
        paths = sorted(path for path in folder.rglob("*") if path.is_file() and not _is_hidden(path, folder))
    except OSError as error:
        raise NoImageError(f"{folder} cannot be read: {error.strerror}") from error
    if not paths:
        raise NoImageError(f"{folder} holds no files")
    random.Random(seed).shuffle(paths)  # noqa: S311 - a sample, not a secret
    images: list[LoadImage] = []
    skipped: list[SkippedImage] = []
    for path in paths[:count]:
        try:
            images.append(LoadImage(str(path), path.read_bytes()))
        except OSError as error:
            skipped.append(SkippedImage(str(path), error.strerror or str(error)))
    return images, skipped


def _is_hidden(path: Path, folder: Path) -> bool:
    return any(part.startswith(".") for part in path.relative_to(folder).parts)


def from_catalog(client: Client, products: Iterable[Product], count: int) -> list[LoadImage]:
    """Fetch the stored images of these products, at most `count`; products without one are skipped."""
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
    """Return as many as `MAX_BYTES` hold, at least one."""
    kept: list[LoadImage] = []
    size = 0
    for image in images:
        size += image.size
        if kept and size > MAX_BYTES:
            break
        kept.append(image)
    return kept


def accepted(
    client: Client, images: Sequence[LoadImage], *, bust_cache: bool
) -> tuple[list[LoadImage], list[SkippedImage]]:
    """Return those that the server embeds; each is sent once.

    With `bust_cache` each carries a number, so that the server's cache learns nothing from this.

    Raises:
        LookalikeError: The server does not answer, or rejects the request for another reason than the image.
    """

    def rejection(image: LoadImage) -> SkippedImage | None:
        assert isinstance(image.data, bytes)  # noqa: S101 - only files are checked
        try:
            client.embed(encode_number(0).join(split_image(image.data)) if bust_cache else image.data)
        except LookalikeError as error:
            if error.code is not grpc.StatusCode.INVALID_ARGUMENT:
                raise
            return SkippedImage(image.name, error.reason)
        return None

    with ThreadPoolExecutor(_CHECK_CONCURRENCY) as pool:
        rejections = list(pool.map(rejection, images))
    good = [image for image, rejected in zip(images, rejections, strict=True) if rejected is None]
    return good, [rejected for rejected in rejections if rejected is not None]


def decoded(images: Sequence[LoadImage], model: Model) -> tuple[list[LoadImage], list[SkippedImage]]:
    """Decode images to pixels of the model's input size, upright and in RGB."""
    size = (model.input_width, model.input_height)
    filter_ = Image.Resampling.NEAREST if model.resize == "nearest" else Image.Resampling.BILINEAR
    good: list[LoadImage] = []
    skipped: list[SkippedImage] = []
    for image in images:
        assert isinstance(image.data, bytes)  # noqa: S101 - nothing is decoded twice
        try:
            with Image.open(io.BytesIO(image.data)) as opened:
                pixels = np.asarray(ImageOps.exif_transpose(opened).convert("RGB").resize(size, filter_))
        except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
            # as Pillow's decoders fail; it names the buffer rather than the file
            skipped.append(
                SkippedImage(image.name, "is not an image that Pillow reads" if "0x" in str(error) else str(error))
            )
        else:
            good.append(LoadImage(image.name, pixels, image.category))
    return good, skipped
