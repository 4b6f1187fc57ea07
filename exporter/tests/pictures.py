"""Folders of drawn pictures in which some look more like each other than others do."""

from pathlib import Path

import numpy as np
from PIL import Image


def picture_folder(at: Path, count: int, kinds: int = 8, height: int = 48, width: int = 40) -> Path:
    """So many pictures of so many kinds: two colours with an edge, moved and noisy; the same on every call."""
    at.mkdir(parents=True)
    rng = np.random.default_rng(11)
    colours = rng.uniform(0, 255, (kinds, 2, 3))
    for number in range(count):
        left, right = colours[number % kinds]
        edge = rng.integers(width // 4, 3 * width // 4)
        picture = np.where((np.arange(width) < edge)[None, :, None], left, right) * np.ones((height, 1, 1))
        noisy = picture * rng.uniform(0.8, 1.1) + rng.normal(0, 12, picture.shape)
        Image.fromarray(np.clip(noisy, 0, 255).astype(np.uint8)).save(at / f"{number:03}.png")
    return at
