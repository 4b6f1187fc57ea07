"""The pictures an export is made and checked with: generated ones, or a folder's."""

import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from lookalike_exporter.errors import ExportError
from lookalike_exporter.manifest import Input

COUNT = 16
"""Pictures of a parity check."""

Photos = np.ndarray[Any, np.dtype[np.uint8]]

_SUFFIXES = {".jpg", ".jpeg", ".png", ".webp"}
_RESAMPLING = {"bilinear": Image.Resampling.BILINEAR, "nearest": Image.Resampling.NEAREST}
_UNREADABLE = (OSError, UnidentifiedImageError, Image.DecompressionBombError)


def generated_photos(height: int, width: int) -> Photos:
    """Pictures with what photos have: smooth light, shapes with edges, and noise; the same on every call.

    Returns:
        [COUNT, height, width, 3] uint8 RGB, reaching both ends of the range.
    """
    rng = np.random.default_rng(20)
    down, across = np.mgrid[0 : 1 : height * 1j, 0 : 1 : width * 1j][..., None]
    photos = []
    for _ in range(COUNT):
        corners = rng.uniform(0, 255, (4, 3))
        picture = (1 - down) * ((1 - across) * corners[0] + across * corners[1])
        picture = picture + down * ((1 - across) * corners[2] + across * corners[3])
        for _ in range(6):
            centre, radii = rng.uniform(0, 1, 2), rng.uniform(0.05, 0.35, 2)
            distance = ((down - centre[0]) / radii[0]) ** 2 + ((across - centre[1]) / radii[1]) ** 2
            picture = np.where(distance < 1, rng.uniform(0, 255, 3), picture)
        noisy = picture + rng.normal(0, rng.uniform(2, 25), picture.shape)
        photos.append(np.clip(noisy, 0, 255).astype(np.uint8))
    return np.stack(photos)


def folder_photos(folder: Path, height: int, width: int, resize: str) -> Photos:
    """The pictures of a parity check, spread evenly over a folder's.

    Args:
        folder: Where to look, as `picture_paths` does.
        height: To resize to, in pixels.
        width: To resize to, in pixels.
        resize: `bilinear` or `nearest`.

    Returns:
        [COUNT, height, width, 3] uint8 RGB.

    Raises:
        ExportError: Fewer than `COUNT` pictures, or one that cannot be decoded.
    """
    paths = picture_paths(folder)
    if len(paths) < COUNT:
        raise ExportError(f"{folder}: the parity check needs {COUNT} pictures, there are {len(paths)}")
    photos = []
    for path in spread(paths, COUNT):
        try:
            photos.append(_decoded(path, height, width, resize))
        except _UNREADABLE as error:
            raise ExportError(f"{path}: cannot be decoded for the parity check") from error
    return np.stack(photos)


@dataclass(frozen=True, slots=True)
class Pictures:
    """Picture files that can be decoded, and the input that they are resized to."""

    paths: Sequence[Path]
    given: Input

    def __len__(self) -> int:
        """How many."""
        return len(self.paths)

    @property
    def digest(self) -> str:
        """SHA-256, in hex, over the files' contents in order: the same pictures, wherever they lie."""
        whole = hashlib.sha256()
        for path in self.paths:
            whole.update(hashlib.sha256(path.read_bytes()).digest())
        return whole.hexdigest()

    def batches(self, size: int) -> Iterator[Photos]:
        """All of them in order: [size or less, height, width, 3] uint8 RGB each."""
        given = self.given
        for begin in range(0, len(self.paths), size):
            paths = self.paths[begin : begin + size]
            yield np.stack([_decoded(path, given.height, given.width, given.resize) for path in paths])


def readable_pictures(folder: Path, given: Input, most: int, report: Callable[[str], None]) -> Pictures:
    """The pictures of a folder, sub-folders included; spread evenly over it where they are more than `most`.

    Args:
        folder: Where to look.
        given: What they are resized to.
        most: How many to take.
        report: Told what cannot be decoded and is left out.

    Raises:
        ExportError: There is none.
    """
    paths = [path for path in spread(picture_paths(folder), most) if _is_readable(path, report)]
    if not paths:
        raise ExportError(f"{folder}: none of its pictures can be decoded")
    return Pictures(paths, given)


def picture_paths(folder: Path) -> list[Path]:
    """The files `.jpg`, `.jpeg`, `.png` and `.webp` of a folder in order of their path, sub-folders included.

    Raises:
        ExportError: There is none.
    """
    paths = sorted(path for path in folder.rglob("*") if path.suffix.lower() in _SUFFIXES)
    if not paths:
        raise ExportError(f"{folder}: no picture in it (.jpg, .jpeg, .png or .webp)")
    return paths


def spread(paths: Sequence[Path], count: int) -> list[Path]:
    """So many of them, evenly; all where they are fewer."""
    if len(paths) <= count:
        return list(paths)
    return [paths[i * len(paths) // count] for i in range(count)]


def _is_readable(path: Path, report: Callable[[str], None]) -> bool:
    try:
        with Image.open(path) as picture:
            picture.convert("RGB")
    except _UNREADABLE:
        report(f"left out: {path} cannot be decoded")
        return False
    return True


def _decoded(path: Path, height: int, width: int, resize: str) -> Photos:
    with Image.open(path) as picture:
        # Upright, as the server sees it.
        resized = ImageOps.exif_transpose(picture).convert("RGB").resize((width, height), _RESAMPLING[resize])
    return np.asarray(resized, np.uint8)
