"""Files that Keras 2 saved: what Keras 3 can compute loads and gives the same, the rest says how to save it again."""

import json
import zipfile
from pathlib import Path
from typing import Any

import h5py
import keras
import numpy as np
import pytest
from networks import feature_map  # noqa: F401 - first: it sets what Keras reads when it is imported

from lookalike_exporter.compat.keras2_config import migrate
from lookalike_exporter.errors import ExportError
from lookalike_exporter.networks.custom_models import load_network

FORMATS = pytest.mark.parametrize("suffix", ["h5", "keras"])
AGAIN = r"; re-save like this: .* model\.load_weights\('{}'\), model\.save\('.*-keras3\.keras'\)$"


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The files by Keras 2.15 that `keras2/make_files.py` made."""
    folder = tmp_path_factory.mktemp("keras2")
    with zipfile.ZipFile(Path(__file__).parent / "keras2" / "files.zip") as archive:
        archive.extractall(folder)
    return folder


@FORMATS
@pytest.mark.parametrize(
    "name", ["teachable_machine", "fine_tuned", "operations", "other_functions", "old_sequential", "shared"]
)
def test_file_by_keras_2_computes_what_it_did(files: Path, name: str, suffix: str) -> None:
    """Every output is that of Keras 2, whatever differs in the file between the two."""
    loaded = load_network(files / f"{name}.{suffix}", None, None)
    assert loaded.size == (24, 32)
    expected = np.load(files / f"{name}.npy")
    np.testing.assert_allclose(
        loaded.network.predict(np.load(files / "pixels.npy"), verbose=0), expected, rtol=1e-5, atol=1e-6
    )
    assert np.ptp(expected, axis=0).max() > 5e-4  # else any weights would do


@FORMATS
@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("code", "layer 'scale' is a Lambda, which is Python code inside the file and is not run"),
        ("several_axes", "layer 'both' normalizes several axes, which Keras 3 does not"),
        ("foreign_operation", "layer 'tf.math.lgamma' is an operation of TensorFlow that Keras 3 has no layer for"),
    ],
)
def test_what_keras_3_lacks_is_named(files: Path, name: str, reason: str, suffix: str) -> None:
    """The error says which Keras saved the file, the layer, and how to save it again."""
    path = files / f"{name}.{suffix}"
    with pytest.raises(ExportError, match=f"saved by Keras 2.15.0: {reason}.*{AGAIN.format(path.name)}") as rejection:
        load_network(path, None, None)
    assert "\n" not in str(rejection.value)
    assert "a .keras keeps them" not in str(rejection.value)


def change_description(path: Path, change: Any, **attributes: str) -> None:
    """Change the description of the layers in an .h5."""
    with h5py.File(path, "r+") as file:
        config = json.loads(file.attrs["model_config"])
        change(config)
        file.attrs["model_config"] = json.dumps(config)
        for name, value in attributes.items():
            file.attrs[name] = value


def copy(files: Path, name: str, tmp_path: Path) -> Path:
    """Copy one of the files."""
    path = tmp_path / name
    path.write_bytes((files / name).read_bytes())
    return path


def test_file_of_the_first_keras_2(files: Path, tmp_path: Path) -> None:
    """The description may be a Model with a BatchNormalizationV1, a Sequential may be a bare list of layers."""
    path = copy(files, "old_sequential.h5", tmp_path)

    def bare(config: dict[str, Any]) -> None:
        config["config"] = [layer for layer in config["config"]["layers"] if layer["class_name"] != "InputLayer"]

    change_description(path, bare, keras_version="2.1.6-tf")
    pixels = np.load(files / "pixels.npy")
    np.testing.assert_allclose(
        load_network(path, None, None).network(pixels), np.load(files / "old_sequential.npy"), rtol=1e-5
    )

    path = copy(files, "shared.h5", tmp_path)

    def rename(config: dict[str, Any]) -> None:
        config["class_name"] = "Model"
        inner = next(layer for layer in config["config"]["layers"] if layer["class_name"] == "Functional")
        inner["class_name"] = "Model"
        for layer in inner["config"]["layers"]:
            if layer["class_name"] == "BatchNormalization":
                layer["class_name"] = "BatchNormalizationV1"
                layer["config"] |= {"renorm": False, "fused": True}

    change_description(path, rename, keras_version="2.2.4-tf")
    np.testing.assert_allclose(load_network(path, None, None).network(pixels), np.load(files / "shared.npy"), rtol=1e-4)


def test_setting_that_means_something_is_not_dropped(files: Path, tmp_path: Path) -> None:
    """A setting that Keras 3 lacks is harmless at one value alone; at another the layer is named."""
    path = copy(files, "shared.h5", tmp_path)

    def group(config: dict[str, Any]) -> None:
        inner = next(layer for layer in config["config"]["layers"] if layer["class_name"] == "Functional")
        next(layer for layer in inner["config"]["layers"] if layer["name"] == "depthwise")["config"]["groups"] = 2

    change_description(path, group)
    with pytest.raises(ExportError, match=r"saved by Keras 2\.15\.0: layer 'depthwise' has groups=2, which Keras 3"):
        load_network(path, None, None)


def test_class_and_function_that_are_not_here(files: Path, tmp_path: Path) -> None:
    """A layer and an activation of the caller's own are rejected with the version and how to save them again."""
    for change, reason in (
        ({"class_name": "Attend"}, "layer '.*' is of the class 'Attend', which is not one of Keras'"),
        ({"config": {"activation": "mine"}}, "Could not interpret activation function identifier: mine"),
    ):
        path = copy(files, "old_sequential.h5", tmp_path)

        def apply(config: dict[str, Any], change: dict[str, Any] = change) -> None:
            dense = config["config"]["layers"][-1]
            dense["config"] |= change.get("config", {})
            dense["class_name"] = change.get("class_name", dense["class_name"])

        change_description(path, apply)
        with pytest.raises(ExportError, match=f"saved by Keras 2.15.0: {reason}.*re-save like this"):
            load_network(path, None, None)


def test_weights_of_another_order_are_not_loaded(files: Path, tmp_path: Path) -> None:
    """Keras gives weights to layers by their order: where that is not the file's, the file is rejected."""
    path = copy(files, "shared.h5", tmp_path)

    def swap(config: dict[str, Any]) -> None:
        layers = config["config"]["layers"]
        layers.append(layers.pop(1))

    change_description(path, swap)
    with pytest.raises(ExportError, match=r"saved by Keras 2\.15\.0: its layers come in another order"):
        load_network(path, None, None)


def test_functions_that_read_files_are_not_called(files: Path, tmp_path: Path) -> None:
    """An operation is one of a list: a description cannot have TensorFlow read or write a file."""
    path, secret = copy(files, "operations.h5", tmp_path), tmp_path / "written"

    def write(config: dict[str, Any]) -> None:
        layer = next(layer for layer in config["config"]["layers"] if layer["class_name"] == "TFOpLambda")
        layer["config"]["function"] = "io.write_file"
        layer["inbound_nodes"] = [["_CONSTANT_VALUE", -1, str(secret), {"contents": "x"}]]

    change_description(path, write)
    with pytest.raises(ExportError, match="is an operation of TensorFlow that Keras 3 has no layer for"):
        load_network(path, None, None)
    assert not secret.exists()


@pytest.mark.parametrize("description", [{}, {"class_name": "Functional"}, {"class_name": "Sequential", "config": {}},
                                         {"class_name": "Functional", "config": {"layers": [3]}}])  # fmt: skip
def test_description_of_another_form(tmp_path: Path, description: Any) -> None:
    """A description that is not one of Keras 2 is rejected in one line."""
    with h5py.File(tmp_path / "bad.h5", "w") as file:
        file.attrs["model_config"] = json.dumps(description)
    with pytest.raises(ExportError, match=r"saved by Keras 2\.x: its description of the layers is of another form"):
        load_network(tmp_path / "bad.h5", None, None)


def test_re_saving_is_true(files: Path, tmp_path: Path) -> None:
    """What the errors say works: a model built by Keras 3 loads the weights of the whole file."""
    layers = keras.layers
    model = keras.Sequential([keras.Input((24, 32, 3)), layers.Conv2D(4, 3, strides=3, activation="relu"),
                              layers.MaxPooling2D(), layers.Flatten(), layers.Dense(4)])  # fmt: skip
    model.load_weights(files / "old_sequential.h5")
    model.save(tmp_path / "old_sequential-keras3.keras")
    loaded = load_network(tmp_path / "old_sequential-keras3.keras", None, None)
    np.testing.assert_allclose(
        loaded.network(np.load(files / "pixels.npy")), np.load(files / "old_sequential.npy"), rtol=1e-5
    )


def test_migration_leaves_the_description_alone() -> None:
    """`migrate` makes another description, so that the file's can be reported."""
    layer = {"class_name": "BatchNormalization", "config": {"name": "norm", "axis": [3]}}
    description = {"class_name": "Sequential", "config": {"name": "s", "layers": [layer]}}
    before = json.dumps(description)
    assert migrate(description)["config"]["layers"][0]["config"]["axis"] == 3
    assert json.dumps(description) == before
