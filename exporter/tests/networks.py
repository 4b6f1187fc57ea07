"""A tiny Keras network that exports in about a second."""

from collections.abc import Callable
from typing import Any

from click.testing import Result

import lookalike_exporter  # noqa: F401 - first: it sets what Keras and TensorFlow read when they are imported

import keras  # isort: skip

Run = Callable[..., Result]


def feature_map(seed: int = 3) -> Any:
    """A network [N, 32, 40, 3] -> [N, 8, 10, 6]: its height and width differ, so that a swap is noticed."""
    keras.utils.set_random_seed(seed)
    image = keras.Input((32, 40, 3))
    x = keras.layers.Conv2D(5, 3, strides=2, padding="same", activation="relu", name="first")(image)
    x = keras.layers.BatchNormalization(name="norm")(x)
    x = keras.layers.Conv2D(6, 3, strides=2, padding="same", name="second")(x)
    return keras.Model(image, x, name="tiny")
