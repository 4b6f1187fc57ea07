"""Arrays of features on disk for tests."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike

from support.fake_state import DIM


def save(folder: Path, name: str, array: ArrayLike) -> Path:
    """An .npy file."""
    path = folder / f"{name}.npy"
    np.save(path, np.asarray(array))
    return path


def vectors(count: int, dim: int = DIM) -> np.ndarray:
    """Vectors that differ: float32 [count, dim]."""
    return np.random.default_rng(count).normal(size=(count, dim)).astype(np.float32)


def features(folder: Path, ids: Sequence[object], values: ArrayLike | None = None) -> list[str]:
    """What `lookalike import` is to be told of arrays with these ids, but for the category."""
    array = vectors(len(ids)) if values is None else values
    return ["--vectors", str(save(folder, "features", array)), "--ids", str(save(folder, "ids", np.array(ids)))]
