"""A classifier with its head on is rejected with the layer below it, and no other network is."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
from folders import manifest_of
from networks import Run, feature_map

from lookalike_exporter.networks.backbone import load_custom
from lookalike_exporter.networks.classifier_head import is_classifier, layer_below_head

layers = keras.layers
PIXELS = np.random.default_rng(2).uniform(0, 255, (1, 32, 40, 3)).astype(np.float32)


def on_top(*head: Any) -> Any:
    """The tiny network with layers behind it."""
    network = feature_map()
    x = network.output
    for layer in head:
        x = layer(x)
    return keras.Model(network.input, x)


def nested(*head: Any) -> Any:
    """The tiny network as a layer, with layers behind it."""
    image = keras.Input((32, 40, 3))
    x = feature_map()(image)
    for layer in head:
        x = layer(x)
    return keras.Model(image, x)


def pooled() -> Any:
    """The pooling layer."""
    return layers.GlobalAveragePooling2D(name="pooled")


def classes(**options: Any) -> Any:
    """A last layer of three classes."""
    return layers.Dense(3, name="classes", **{"activation": "softmax"} | options)


def teachable_machine() -> Any:
    """Two Sequentials in one, the second of which is the head."""
    features = keras.Sequential([feature_map(), pooled()], name="features")
    head = keras.Sequential([keras.Input((6,)), layers.Dense(5, activation="relu"), classes()], name="head")
    return keras.Sequential([features, head])


def whole_classifier_nested() -> Any:
    """Preprocessing before a classifier that is a layer."""
    image = keras.Input((32, 40, 3))
    inner = on_top(pooled(), classes())
    inner.name = "inner"
    return keras.Model(image, inner(layers.Rescaling(1 / 255)(image)))


@pytest.mark.parametrize(
    ("network", "below"),
    [
        (lambda: on_top(pooled(), layers.Dropout(0.2), classes()), "pooled"),
        (lambda: on_top(pooled(), classes(activation="sigmoid")), "pooled"),
        (lambda: on_top(pooled(), classes(activation=None), layers.Softmax()), "pooled"),
        (lambda: on_top(pooled(), classes(activation=None), layers.Activation("softmax")), "pooled"),
        (lambda: on_top(pooled(), classes(activation=None), keras.ops.softmax), "pooled"),
        (lambda: on_top(pooled(), layers.Dense(5), layers.BatchNormalization(), layers.ReLU(), classes()), "pooled"),
        (lambda: on_top(layers.ReLU(name="map"), layers.Flatten(), layers.Dense(5), classes()), "map"),
        # As MobileNet and SqueezeNet classify: by a convolution.
        (lambda: on_top(pooled(), layers.Reshape((1, 1, 6)), layers.Conv2D(3, 1), layers.Reshape((3,)),
                        layers.Activation("softmax")), "reshape"),
        (lambda: on_top(layers.Dropout(0.5), layers.Conv2D(3, 1), layers.ReLU(), pooled(), layers.Softmax()), "second"),
        (lambda: nested(classes(activation="softmax")), "tiny"),
        (lambda: nested(pooled(), layers.Dense(9), classes()), "pooled"),
        (teachable_machine, "features"),
        (whole_classifier_nested, "inner/pooled"),
    ],
)  # fmt: skip
def test_layer_below_the_head(tmp_path: Path, network: Callable[[], Any], below: str) -> None:
    """The layer that is named is the last one that was not trained to separate classes, and it can be cut at."""
    keras.utils.clear_session()
    classifier = network()
    assert is_classifier(classifier, "")
    named = layer_below_head(classifier)
    assert named is not None
    assert named.rstrip("_0123456789") == below
    classifier.save(tmp_path / "classes.keras")
    cut = load_custom(tmp_path / "classes.keras", "none", layer=named, allow_classifier=False).network
    features = np.asarray(feature_map()(PIXELS if below != "inner/pooled" else PIXELS / 255))
    expected = np.maximum(features, 0) if below == "map" else features
    actual = np.asarray(cut(PIXELS))
    if actual.shape != expected.shape:
        expected = expected.mean(axis=(1, 2)).reshape(actual.shape)
    np.testing.assert_allclose(actual, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    "network",
    [feature_map, lambda: on_top(pooled()), lambda: on_top(pooled(), layers.Dense(5)),
     lambda: on_top(pooled(), layers.Dense(5), layers.UnitNormalization()),
     lambda: on_top(pooled(), layers.Dense(5, activation="relu")),
     lambda: on_top(layers.Activation("sigmoid"), pooled())],
)  # fmt: skip
def test_embeddings_are_no_classes(network: Callable[[], Any]) -> None:
    """Features, a Dense without the loss of a classifier, and gates inside the network are none."""
    assert not is_classifier(network(), '"mean_squared_error"')


def test_loss_tells_of_logits(run: Run, tmp_path: Path) -> None:
    """A last Dense that was trained with a cross-entropy is of classes; both formats keep the loss."""
    network = on_top(pooled(), classes(activation=None))
    for suffix in (".keras", ".h5"):
        for loss in (keras.losses.SparseCategoricalCrossentropy(from_logits=True), "sparse_categorical_crossentropy"):
            network.compile("sgd", loss)
            network.save(tmp_path / f"logits{suffix}")
            result = run("--model", tmp_path / f"logits{suffix}", "--preprocess", "none", "--out", tmp_path / "out")
            assert result.exit_code == 1
            assert "--layer pooled" in result.stderr


def test_classifier_is_exported_when_allowed(run: Run, tmp_path: Path) -> None:
    """The error says what the model is, where to cut and how to export it as it is: both work."""
    on_top(pooled(), classes()).save(tmp_path / "mine.keras")
    arguments = ("--model", tmp_path / "mine.keras", "--preprocess", "none", "--out", tmp_path / "out")
    result = run(*arguments)
    assert result.exit_code == 1
    assert result.stderr.splitlines()[-1] == (
        f"Error: {tmp_path / 'mine.keras'}: the model is a classifier: it ends in 3 classes, which make poor "
        "embeddings; pass --layer pooled to end below its head, or --allow-classifier to export it as it is"
    )
    assert not (tmp_path / "out").exists()
    assert run(*arguments, "--allow-classifier").exit_code == 0
    assert manifest_of(tmp_path / "out")["output"]["dim"] == 3
    assert "--allow-classifier" in manifest_of(tmp_path / "out")["arguments"]
    assert run(*arguments, "--layer", "pooled", "--force").exit_code == 0
    assert manifest_of(tmp_path / "out")["output"]["dim"] == 6
    result = run(*arguments, "--layer", "classes", "--force")
    assert (result.exit_code, manifest_of(tmp_path / "out")["output"]["dim"]) == (1, 6)


def test_classifier_of_nothing_but_dense_layers(run: Run, tmp_path: Path) -> None:
    """Where there is no layer below the head, none is named."""
    image = keras.Input((8, 8, 3))
    keras.Model(image, layers.Dense(2, activation="softmax")(layers.Flatten()(image))).save(tmp_path / "mine.keras")
    result = run("--model", tmp_path / "mine.keras", "--preprocess", "none", "--out", tmp_path / "out")
    assert result.exit_code == 1
    assert "save it without its last layers" in result.stderr
