"""Folders of drawn images, some of which are more alike than others, and folders of models."""

import json
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image


def draw_images(at: Path, count: int, kinds: int = 8, height: int = 48, width: int = 40) -> Path:
    """Draw `count` images of several kinds: two colors with an edge, shifted and noisy; the same on every call."""
    at.mkdir(parents=True)
    rng = np.random.default_rng(11)
    colors = rng.uniform(0, 255, (kinds, 2, 3))
    for number in range(count):
        left, right = colors[number % kinds]
        edge = rng.integers(width // 4, 3 * width // 4)
        image = np.where((np.arange(width) < edge)[None, :, None], left, right) * np.ones((height, 1, 1))
        noisy = image * rng.uniform(0.8, 1.1) + rng.normal(0, 12, image.shape)
        Image.fromarray(np.clip(noisy, 0, 255).astype(np.uint8)).save(at / f"{number:03}.png")
    return at


def manifest_of(folder: Path) -> dict[str, Any]:
    """Read a model folder's model.json."""
    manifest: dict[str, Any] = json.loads((folder / "model.json").read_text())
    return manifest
