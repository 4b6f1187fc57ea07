"""Compute features with Keras alone, as users of the recipes would: `load_img`, `preprocess_input`, `predict`.

Run with the exporter's Python, which has TensorFlow: `keras_features.py JOBS.json`. A job has the network (a seed for
ResNet50 with random weights, or a Keras file), whether it is pooled, the preprocessing, the images, and the file to
write their features to. None of our code is imported, so that none of it can be wrong on both sides.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import keras
import numpy as np

SIDE = 224


def main() -> None:
    """Run every job."""
    for job in json.loads(Path(sys.argv[1]).read_text(encoding="utf-8")):
        network = _network(job)
        images = np.stack([_read(path) for path in job["images"]])
        if job["preprocess"] == "rescale":
            images = images / 255.0
        else:
            images = keras.applications.resnet50.preprocess_input(images)
        features = network.predict(images, batch_size=8, verbose=0)
        np.save(job["out"], features.reshape(len(images), -1))


def _network(job: dict[str, Any]) -> Any:
    if job["model"] is not None:
        return keras.models.load_model(job["model"])
    keras.utils.set_random_seed(job["seed"])
    return keras.applications.ResNet50(
        include_top=False, weights=None, input_shape=(SIDE, SIDE, 3), pooling="avg" if job["pooled"] else None
    )


def _read(path: str) -> np.ndarray[Any, np.dtype[np.float32]]:
    image = keras.utils.load_img(path, target_size=(SIDE, SIDE))
    pixels: np.ndarray[Any, np.dtype[np.float32]] = keras.utils.img_to_array(image)
    return pixels


if __name__ == "__main__":
    main()
