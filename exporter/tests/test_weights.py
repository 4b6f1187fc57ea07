"""Weights are loaded by layer name, or not at all."""

from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
from networks import feature_map

from lookalike_exporter.errors import ExportError
from lookalike_exporter.networks.weights import load_by_name


def with_classifier(seed: int) -> Any:
    """The tiny network with a layer more at its end."""
    network = feature_map(seed)
    return keras.Model(network.input, keras.layers.Conv2D(9, 1, name="classes")(network.output), name="tiny")


@pytest.mark.parametrize("suffix", [".weights.h5", ".h5"])
def test_every_generation_of_file_loads(tmp_path: Path, suffix: str) -> None:
    """Files with named arrays and with numbered ones both fill the network, a classifier in them left out."""
    stored, network = with_classifier(1), feature_map(2)
    path = tmp_path / f"stored{suffix}"
    if suffix == ".h5":
        stored.save(path)
    else:
        stored.save_weights(path)
    load_by_name(network, path, classifier=("classes",))
    for layer in network.layers[1:]:
        for actual, expected in zip(layer.get_weights(), stored.get_layer(layer.name).get_weights(), strict=True):
            assert np.array_equal(actual, expected)


def test_first_wrong_layer_is_named_and_nothing_is_loaded(tmp_path: Path) -> None:
    """A missing layer, a wrong shape and a layer too many are each rejected by name, the network untouched."""
    image = keras.Input((32, 40, 3))
    x = keras.layers.Conv2D(5, 3, name="first")(image)
    keras.Model(image, x).save_weights(tmp_path / "short.weights.h5")
    x = keras.layers.BatchNormalization(name="norm")(x)
    x = keras.layers.Conv2D(6, 5, name="second")(x)
    keras.Model(image, x).save_weights(tmp_path / "shape.weights.h5")
    with_classifier(1).save_weights(tmp_path / "long.weights.h5")
    network = feature_map(2)
    before = network.get_weights()
    for name, message in [
        ("short", "layer 'norm' is not in the file, which begins with first"),
        ("shape", r"layer 'second' needs shapes \[\(3, 3, 5, 6\), \(6,\)\], the file has \[\(5, 5, 5, 6\)"),
        ("long", "it has no layer 'classes', the file has"),
    ]:
        with pytest.raises(ExportError, match=message):
            load_by_name(network, tmp_path / f"{name}.weights.h5", classifier=())
    assert all(np.array_equal(*pair) for pair in zip(before, network.get_weights(), strict=True))


def test_file_that_is_none(tmp_path: Path) -> None:
    """A missing file and one that is not HDF5 are rejected with their name."""
    path = tmp_path / "weights.h5"
    with pytest.raises(ExportError, match="no such weights file"):
        load_by_name(feature_map(), path, classifier=())
    path.write_text("not HDF5")
    with pytest.raises(ExportError, match="cannot read it as a Keras weights file"):
        load_by_name(feature_map(), path, classifier=())


def numbered(first: int) -> Any:
    """A network of layers without names of their own, which Keras' counter numbers, one nested, one with a dropout."""
    image = keras.Input((32, 40, 3))
    keras.backend.clear_session()
    for _ in range(first):
        keras.layers.Conv2D(1, 1)
        keras.layers.BatchNormalization()
    x = image
    for filters in (2, 3, 3, 3, 3, 3, 3, 3, 3, 3, 3, 3):
        x = keras.layers.Conv2D(filters, 3, padding="same")(x)
    x = keras.layers.Dropout(0.5)(keras.layers.BatchNormalization()(x))
    stem = keras.Sequential([keras.layers.Conv2D(2, 1, name="stem_conv")], name="stem")
    return keras.Model(image, stem(x), name="numbered")


@pytest.mark.slow
@pytest.mark.parametrize("suffix", [".weights.h5", ".h5"])
def test_numbered_layers_go_by_their_order(tmp_path: Path, suffix: str) -> None:
    """Layers that Keras numbered are matched from wherever its counter stood, the tenth behind the second."""
    stored, network = numbered(7), numbered(0)
    stored.compile(optimizer="adam", loss="mse")  # its state is in the file, too
    stored.fit(np.zeros((1, 32, 40, 3)), np.zeros((1, 32, 40, 2)), verbose=0)
    path = tmp_path / f"stored{suffix}"
    if suffix == ".h5":
        stored.save(path)
    else:
        stored.save_weights(path)
    load_by_name(network, path, classifier=())
    for actual, expected in zip(network.get_weights(), stored.get_weights(), strict=True):
        assert np.array_equal(actual, expected)


def test_another_networks_file(tmp_path: Path) -> None:
    """Keras 3's file of another network is rejected by the first layer it lacks."""
    numbered(0).save_weights(tmp_path / "other.weights.h5")
    with pytest.raises(ExportError, match="not the weights of tiny: layer 'first' is not in the file"):
        load_by_name(feature_map(), tmp_path / "other.weights.h5", classifier=())


def test_cut_off_file(tmp_path: Path) -> None:
    """A file cut short anywhere is rejected by its name, and nothing of it is loaded."""
    path = tmp_path / "mine.weights.h5"
    feature_map(1).save_weights(path)
    whole = path.read_bytes()
    network = feature_map(2)
    before = network.get_weights()
    for part in (0.1, 0.5, 0.9):
        path.write_bytes(whole[: int(part * len(whole))])
        with pytest.raises(ExportError, match=r"mine\.weights\.h5: cannot read it as a Keras weights file"):
            load_by_name(network, path, classifier=())
    assert all(np.array_equal(*pair) for pair in zip(before, network.get_weights(), strict=True))


def test_order_of_layers_does_not_count(tmp_path: Path) -> None:
    """Layers of equal shapes that a file lists in another order get their own weights."""

    def branches(order: tuple[str, str], seed: int) -> Any:
        keras.utils.set_random_seed(seed)
        image = keras.Input((32, 40, 3))
        made = {name: keras.layers.Conv2D(4, 3, name=name)(image) for name in order}
        return keras.Model(image, keras.layers.Add(name="sum")([made[name] for name in order]), name="branches")

    stored, network = branches(("right", "left"), 1), branches(("left", "right"), 2)
    stored.save(tmp_path / "stored.h5")
    load_by_name(network, tmp_path / "stored.h5", classifier=())
    for name in ("left", "right"):
        for actual, expected in zip(
            network.get_layer(name).get_weights(), stored.get_layer(name).get_weights(), strict=True
        ):
            assert np.array_equal(actual, expected)
