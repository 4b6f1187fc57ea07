"""The photos of a load test: from a folder or from the server's catalogue, as files or as pixels."""

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
from lookalike_client.load.stamps import around_stamp, stamp
from lookalike_client.types import Model, Product

MOST_BYTES = 64 * 1024 * 1024
"""All photos together; what does not fit is left out."""

_CHECKED_AT_ONCE = 4


@dataclass(frozen=True, slots=True, eq=False)
class Photo:
    """A photo to send.

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
    """A photo that cannot be used, and why."""

    name: str
    reason: str


class NoPhotoError(Exception):
    """A folder has no photo to send; `str()` of it is written for the user."""


def of_folder(folder: Path, count: int, seed: int) -> tuple[list[Photo], list[LeftOut]]:
    """Some files of a folder and the folders in it, drawn by the seed; hidden ones are left out.

    Raises:
        NoPhotoError: There is none, or the folder cannot be read.
    """
    try:
        paths = sorted(path for path in folder.rglob("*") if path.is_file() and not _is_hidden(path, folder))
    except OSError as error:
        raise NoPhotoError(f"{folder} cannot be read: {error.strerror}") from error
    if not paths:
        raise NoPhotoError(f"{folder} holds no file")
    random.Random(seed).shuffle(paths)  # noqa: S311 - a sample, not a secret
    photos: list[Photo] = []
    left_out: list[LeftOut] = []
    for path in paths[:count]:
        try:
            photos.append(Photo(str(path), path.read_bytes()))
        except OSError as error:
            left_out.append(LeftOut(str(path), error.strerror or str(error)))
    return photos, left_out


def _is_hidden(path: Path, folder: Path) -> bool:
    return any(part.startswith(".") for part in path.relative_to(folder).parts)


def of_catalogue(client: Client, products: Iterable[Product], count: int) -> list[Photo]:
    """The pictures that the server keeps of these products, at most so many; products without one are passed over."""
    photos: list[Photo] = []
    for product in products:
        if len(photos) == count:
            break
        try:
            photos.append(Photo(product.id, client.image(product.id).data, product.category))
        except LookalikeError as error:
            if error.code is not grpc.StatusCode.NOT_FOUND:
                raise
    return photos


def within_budget(photos: Sequence[Photo]) -> list[Photo]:
    """As many as `MOST_BYTES` hold, at least one."""
    kept: list[Photo] = []
    size = 0
    for photo in photos:
        size += photo.size
        if kept and size > MOST_BYTES:
            break
        kept.append(photo)
    return kept


def accepted(client: Client, photos: Sequence[Photo], *, unique: bool) -> tuple[list[Photo], list[LeftOut]]:
    """Those that the server embeds; it is asked for each once.

    With `unique` each is sent with a stamp of its own, so that the server's cache learns nothing from this.

    Raises:
        LookalikeError: The server does not answer, or refuses for another reason than the photo.
    """

    def refusal(photo: Photo) -> LeftOut | None:
        assert isinstance(photo.data, bytes)  # noqa: S101 - pixels are always taken
        try:
            client.embed(stamp(0).join(around_stamp(photo.data)) if unique else photo.data)
        except LookalikeError as error:
            if error.code is not grpc.StatusCode.INVALID_ARGUMENT:
                raise
            return LeftOut(photo.name, error.reason)
        return None

    with ThreadPoolExecutor(_CHECKED_AT_ONCE) as pool:
        refusals = list(pool.map(refusal, photos))
    good = [photo for photo, refused in zip(photos, refusals, strict=True) if refused is None]
    return good, [refused for refused in refusals if refused is not None]


def decoded(photos: Sequence[Photo], model: Model) -> tuple[list[Photo], list[LeftOut]]:
    """The photos as pixels of the model's input size, upright and in RGB."""
    size = (model.input_width, model.input_height)
    how = Image.Resampling.NEAREST if model.resize == "nearest" else Image.Resampling.BILINEAR
    good: list[Photo] = []
    left_out: list[LeftOut] = []
    for photo in photos:
        assert isinstance(photo.data, bytes)  # noqa: S101 - nothing is decoded twice
        try:
            with Image.open(io.BytesIO(photo.data)) as opened:
                pixels = np.asarray(ImageOps.exif_transpose(opened).convert("RGB").resize(size, how))
        except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
            # as Pillow's decoders fail; it names the buffer rather than the file
            left_out.append(
                LeftOut(photo.name, "is no picture that Pillow reads" if "0x" in str(error) else str(error))
            )
        else:
            good.append(Photo(photo.name, pixels, photo.category))
    return good, left_out
