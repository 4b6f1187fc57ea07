"""The images an export is made and checked with: generated ones, or a folder's."""

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, UnidentifiedImageError

from lookalike_exporter.errors import ExportError
from lookalike_exporter.image_reader import read_image
from lookalike_exporter.request import Report
from lookalike_exporter.specs import InputSpec

PARITY_IMAGES = 16

Pixels = np.ndarray[Any, np.dtype[np.uint8]]
"""[N, height, width, 3] uint8 RGB."""

_SUFFIXES = {".jpg", ".jpeg", ".png", ".webp", ".avif", ".gif", ".bmp"}
_UNREADABLE = (OSError, SyntaxError, ValueError, UnidentifiedImageError, Image.DecompressionBombError)


@dataclass(frozen=True, slots=True)
class ImageSet:
    """Image files of a folder that can be decoded, and the input that they are resized to."""

    folder: Path
    paths: Sequence[Path]
    spec: InputSpec

    def __len__(self) -> int:
        return len(self.paths)

    @property
    def digest(self) -> str:
        """SHA-256, in hex, over the files' contents in order: independent of where they are stored."""
        whole = hashlib.sha256()
        for path in self.paths:
            whole.update(hashlib.sha256(path.read_bytes()).digest())
        return whole.hexdigest()

    def batches(self, size: int) -> Iterator[Pixels]:
        """Yield all of them in order: [size or less, height, width, 3] uint8 RGB each."""
        for begin in range(0, len(self.paths), size):
            yield np.stack([read_image(path, self.spec) for path in self.paths[begin : begin + size]])


def generate_images(height: int, width: int) -> Pixels:
    """Draw images with smooth light, shapes with edges, and noise, as photographs have; the same on every call.

    Returns:
        [PARITY_IMAGES, height, width, 3] uint8 RGB, reaching both ends of the range.
    """
    rng = np.random.default_rng(20)
    down, across = np.mgrid[0 : 1 : height * 1j, 0 : 1 : width * 1j][..., None]
    images = []
    for _ in range(PARITY_IMAGES):
        corners = rng.uniform(0, 255, (4, 3))
        image = (1 - down) * ((1 - across) * corners[0] + across * corners[1])
        image = image + down * ((1 - across) * corners[2] + across * corners[3])
        for _ in range(6):
            center, radii = rng.uniform(0, 1, 2), rng.uniform(0.05, 0.35, 2)
            distance = ((down - center[0]) / radii[0]) ** 2 + ((across - center[1]) / radii[1]) ** 2
            image = np.where(distance < 1, rng.uniform(0, 255, 3), image)
        noisy = image + rng.normal(0, rng.uniform(2, 25), image.shape)
        images.append(np.clip(noisy, 0, 255).astype(np.uint8))
    return np.stack(images)


def read_parity_images(folder: Path, spec: InputSpec) -> Pixels:
    """Read the images of a parity check, spread evenly over a folder's.

    Args:
        folder: Where to look, as `image_paths` does.
        spec: What to resize to.

    Returns:
        [PARITY_IMAGES, height, width, 3] uint8 RGB.

    Raises:
        ExportError: Fewer than `PARITY_IMAGES` images, or one that cannot be decoded.
    """
    paths = image_paths(folder)
    if len(paths) < PARITY_IMAGES:
        raise ExportError(f"{folder}: the parity check needs {PARITY_IMAGES} images, there are {len(paths)}")
    images = []
    for path in spread(paths, PARITY_IMAGES):
        try:
            images.append(read_image(path, spec))
        except _UNREADABLE as error:
            raise ExportError(f"{path}: cannot be decoded for the parity check") from error
    return np.stack(images)


def find_images(folder: Path, spec: InputSpec, max_images: int, report: Report) -> ImageSet:
    """Find the images of a folder, sub-folders included; spread evenly over it where they are more than `max_images`.

    Args:
        folder: Where to look.
        spec: What they are resized to.
        max_images: How many to take at most.
        report: Takes a line for each image that cannot be decoded and is left out.

    Raises:
        ExportError: There is none.
    """
    paths = [path for path in spread(image_paths(folder), max_images) if _is_readable(path, spec, report)]
    if not paths:
        raise ExportError(f"{folder}: none of its images can be decoded")
    return ImageSet(folder, paths, spec)


def image_paths(folder: Path) -> list[Path]:
    """List the image files of a folder by their suffixes, in order of path, sub-folders included.

    Raises:
        ExportError: There is none.
    """
    paths = sorted(path for path in folder.rglob("*") if path.suffix.lower() in _SUFFIXES)
    if not paths:
        raise ExportError(f"{folder}: it has no image (.jpg, .jpeg, .png, .webp, .avif, .gif or .bmp)")
    return paths


def spread(paths: Sequence[Path], count: int) -> list[Path]:
    """Pick `count` of them, evenly; all where they are fewer."""
    if len(paths) <= count:
        return list(paths)
    return [paths[i * len(paths) // count] for i in range(count)]


def _is_readable(path: Path, spec: InputSpec, report: Report) -> bool:
    try:
        read_image(path, spec)
    except _UNREADABLE:
        report(f"left out: {path} cannot be decoded")
        return False
    return True
