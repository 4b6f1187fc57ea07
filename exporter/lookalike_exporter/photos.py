"""The pictures an export is checked on: generated ones, or a caller's own."""

from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, UnidentifiedImageError

from lookalike_exporter.errors import ExportError

COUNT = 16

Photos = np.ndarray[Any, np.dtype[np.uint8]]

_RESAMPLING = {"bilinear": Image.Resampling.BILINEAR, "nearest": Image.Resampling.NEAREST}


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
    """Pictures spread evenly over a folder's files in order of their path, sub-folders included.

    Args:
        folder: Where to look for `.jpg`, `.jpeg`, `.png` and `.webp`.
        height: To resize to, in pixels.
        width: To resize to, in pixels.
        resize: `bilinear` or `nearest`.

    Returns:
        [COUNT, height, width, 3] uint8 RGB.

    Raises:
        ExportError: Fewer than `COUNT` pictures, or one that cannot be decoded.
    """
    suffixes = {".jpg", ".jpeg", ".png", ".webp"}
    paths = sorted(path for path in folder.rglob("*") if path.suffix.lower() in suffixes)
    if len(paths) < COUNT:
        raise ExportError(f"{folder}: the parity check needs {COUNT} pictures, there are {len(paths)}")
    chosen = [paths[i * len(paths) // COUNT] for i in range(COUNT)]
    photos = []
    for path in chosen:
        try:
            with Image.open(path) as picture:
                resized = picture.convert("RGB").resize((width, height), _RESAMPLING[resize])
        except (OSError, UnidentifiedImageError, Image.DecompressionBombError) as error:
            raise ExportError(f"{path}: cannot be decoded for the parity check") from error
        photos.append(np.asarray(resized, np.uint8))
    return np.stack(photos)
