"""Arrays of vectors on disk for tests."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike

DIM = 48
"""The dimension of the tiny models."""


def save(folder: Path, name: str, array: ArrayLike) -> Path:
    """Write an .npy file."""
    path = folder / f"{name}.npy"
    np.save(path, np.asarray(array))
    return path


def vectors(count: int, dim: int = DIM) -> np.ndarray:
    """Return different vectors: float32 [count, dim]."""
    return np.random.default_rng(count).normal(size=(count, dim)).astype(np.float32)


def features(folder: Path, ids: Sequence[object], values: ArrayLike | None = None) -> list[str]:
    """Return the options of `lookalike import` for arrays with these ids, without the category."""
    array = vectors(len(ids)) if values is None else values
    return ["--vectors", str(save(folder, "features", array)), "--ids", str(save(folder, "ids", np.array(ids)))]
