"""Make `files.zip` with Keras 2: tiny models in both formats, and what they compute.

    python -m venv keras2 && keras2/bin/pip install tensorflow-cpu==2.15.1 && keras2/bin/python make_files.py

Each model NAME is NAME.h5 and NAME.keras, and NAME.npy its output, by Keras 2.15,
for `pixels.npy`.
"""

import os
import tempfile
import zipfile
from pathlib import Path
from typing import Any

os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"

import keras
import numpy as np
import tensorflow as tf

SHAPE = (24, 32, 3)
layers = keras.layers


def mobile(name: str = "mobile") -> Any:
    """The layers that MobileNets are made of, with what Keras 2 writes of them: groups, axis in a list."""
    image = keras.Input(SHAPE)
    x = layers.Rescaling(1 / 2048)(image)
    x = layers.Conv2D(4, 3, strides=2, kernel_regularizer="l2", name="Conv1")(x)
    x = layers.ReLU(6.0)(layers.BatchNormalization(name="bn_Conv1")(x))
    x = layers.BatchNormalization(name="Conv/BatchNorm")(layers.DepthwiseConv2D(3, name="depthwise")(x))
    x = layers.SeparableConv2D(4, 3, name="separable")(x)
    return keras.Model(image, layers.Conv2DTranspose(5, 3, name="out")(x), name=name)


def teachable_machine() -> Any:
    """The form of Teachable Machine's keras_model.h5: models in a model, and its names."""
    features = keras.Sequential([mobile("model1"), layers.GlobalAveragePooling2D()], name="sequential_1")
    head = keras.Sequential(
        [
            layers.Dense(6, activation="relu", input_shape=(5,), name="dense_Dense1"),
            layers.Dense(3, activation="softmax", use_bias=False, name="dense_Dense2"),
        ],
        name="sequential_3",
    )
    return keras.Sequential([features, head], name="sequential_4")


def fine_tuned() -> Any:
    """What Keras' guide to transfer learning makes: augmentation, preprocessing, a frozen network, a head."""
    augmentation = keras.Sequential(
        [layers.RandomFlip("horizontal"), layers.RandomRotation(0.1), layers.RandomWidth(0.1)], name="augmentation"
    )
    base = mobile()
    for layer in base.layers[:4]:
        layer.trainable = False
    image = keras.Input(SHAPE)
    x = keras.applications.mobilenet_v2.preprocess_input(augmentation(image)) * 127.5
    x = layers.GlobalAveragePooling2D(name="pooled")(base(x, training=False))
    model = keras.Model(image, layers.Dense(3, name="classes")(layers.Dropout(0.2)(x)))
    model.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    return model


def operations() -> Any:
    """Operators and functions of TensorFlow between layers, a constant before a tensor among them."""
    image = keras.Input(SHAPE)
    x = keras.applications.densenet.preprocess_input(image)
    x = layers.Conv2D(4, 3, name="first")(x)
    x = tf.concat([1.0 - x, tf.nn.relu6(x) * 2.0 + x], -1)
    return keras.Model(image, tf.math.l2_normalize(tf.reduce_mean(x[:, 2:, :, :5], [1, 2]), axis=1))


def other_functions() -> Any:
    """What has the name of something of Keras 3 and is another thing, or has another name there."""
    image = keras.Input(SHAPE)
    x = layers.Conv2D(4, 3, activation="hard_sigmoid")(layers.Rescaling(1 / 256, offset=-1)(image))
    x = layers.SpatialDropout2D(0.3)(layers.Activation("hard_sigmoid")(x))
    x = layers.ThresholdedReLU(0.55)(layers.LeakyReLU(alpha=0.2)(x))
    flat = layers.Reshape((-1, 4))(x)
    return keras.Model(image, layers.GlobalMaxPooling1D()(layers.MultiHeadAttention(2, 3)(flat, flat)))


def old_sequential() -> Any:
    """A Sequential whose first layer says what its input is, regularized."""
    return keras.Sequential(
        [
            layers.Conv2D(4, 3, strides=3, activation="relu", input_shape=SHAPE, kernel_constraint="max_norm"),
            layers.MaxPooling2D(),
            layers.Flatten(),
            layers.Dense(4, kernel_regularizer="l2"),
        ]
    )


def shared() -> Any:
    """Models that are called more than once, and a model that ends in a model."""
    image = keras.Input(SHAPE)
    scale = keras.Sequential([keras.Input(SHAPE), layers.Conv2D(3, 3, padding="same")], name="twice")
    return keras.Model(image, mobile()(scale(scale(layers.Rescaling(1 / 64)(image)))))


def code() -> Any:
    """A model with Python code inside."""
    image = keras.Input(SHAPE)
    return keras.Model(image, layers.Lambda(lambda x: x / 255.0, name="scale")(image))


def several_axes() -> Any:
    """A normalization that Keras 3 does not have."""
    image = keras.Input(SHAPE)
    return keras.Model(image, layers.BatchNormalization(axis=[1, 3], name="both")(image))


def foreign_operation() -> Any:
    """An operation that reads a file would be as foreign as this one."""
    image = keras.Input(SHAPE)
    return keras.Model(image, tf.math.lgamma(image))


MODELS = (
    teachable_machine,
    fine_tuned,
    operations,
    other_functions,
    old_sequential,
    shared,
)
REJECTED = (code, several_axes, foreign_operation)


def main() -> None:
    """Write `files.zip` beside this file."""
    pixels = np.random.default_rng(2).integers(0, 256, (2, *SHAPE)).astype(np.float32)
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        np.save(folder / "pixels.npy", pixels)
        for make in MODELS + REJECTED:
            keras.backend.clear_session()
            keras.utils.set_random_seed(1)
            model = make()
            # Not the values that layers start with, which would hide that one was not loaded.
            rng = np.random.default_rng(3)
            model.set_weights([np.abs(each / 2 + rng.normal(0, 0.05, each.shape)) for each in model.get_weights()])
            if make not in REJECTED:
                np.save(folder / f"{make.__name__}.npy", model.predict(pixels, verbose=0))
            for suffix in ("h5", "keras"):
                model.save(folder / f"{make.__name__}.{suffix}")
        with zipfile.ZipFile(
            Path(__file__).with_name("files.zip"), "w", zipfile.ZIP_DEFLATED, compresslevel=9
        ) as archive:
            for path in sorted(folder.iterdir()):
                archive.write(path, path.name)


if __name__ == "__main__":
    main()
