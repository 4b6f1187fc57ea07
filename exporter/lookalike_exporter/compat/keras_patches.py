"""Keras 3.15: what its public interface lacks. `exporter/requirements.lock` holds the version."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import keras
from keras.src.applications.convnext import LayerScale, StochasticDepth
from keras.src.applications.inception_resnet_v2 import CustomScaleLayer
from keras.src.backend.config import keras_home
from keras.src.utils import file_utils
from keras.src.utils.naming import to_snake_case

__all__ = ["UNLISTED_LAYERS", "intercept_downloads", "to_snake_case", "weights_cache"]

# Keras' own layers, but it does not find them by name in an .h5.
UNLISTED_LAYERS = {
    "LayerScale": LayerScale,
    "StochasticDepth": StochasticDepth,
    "CustomScaleLayer": CustomScaleLayer,
}

Download = tuple[str, str, str | None]
"""File name, URL, and MD5 or SHA-256 in hex (None where Keras states none)."""


def weights_cache() -> Path:
    """Return the folder where Keras keeps the weights it downloads."""
    return Path(keras_home()).expanduser() / "models"


@contextmanager
def intercept_downloads() -> Iterator[list[Download]]:
    """Collect what Keras would download and load: its own download has no time limit and may go unchecked."""
    downloads: list[Download] = []

    def get_file(fname: str, origin: str, *, file_hash: str | None = None, **_: Any) -> str:
        downloads.append((fname, origin, file_hash))
        return fname

    def load_weights(_network: Any, _path: str) -> None:
        pass

    originals = file_utils.get_file, keras.Model.load_weights
    file_utils.get_file, keras.Model.load_weights = get_file, load_weights
    try:
        yield downloads
    finally:
        file_utils.get_file, keras.Model.load_weights = originals
