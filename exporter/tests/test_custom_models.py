"""A caller's own model: what is accepted, and what is rejected by the layer's name."""

import json
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
from networks import feature_map

from lookalike_exporter.errors import ExportError
from lookalike_exporter.networks.backbone import load_custom

FORMATS = pytest.mark.parametrize("suffix", [".keras", ".h5"])

PIXELS = np.random.default_rng(2).uniform(0, 255, (1, 32, 40, 3)).astype(np.float32)


class Doubling(keras.layers.Layer):  # type: ignore[misc]
    """A layer of the caller's own, whose code the exporter does not have."""

    def call(self, x: Any) -> Any:
        """Double it."""
        return x * 2


@keras.saving.register_keras_serializable("somewhere")
class Elsewhere(keras.layers.Layer):  # type: ignore[misc]
    """A layer registered where it was trained and not here."""

    def call(self, x: Any) -> Any:
        """Double it."""
        return x * 2


def tripled(x: Any) -> Any:
    """A function of the caller's own."""
    return x * 3


def with_layer(layer: Any, *, nested: bool = False) -> Any:
    """A network that ends in a layer, or whose first layer is a network that does."""
    image = keras.Input((32, 40, 3))
    inner = keras.Model(image, layer(keras.layers.Conv2D(4, 3, name="first")(image)), name="inner")
    if not nested:
        return inner
    outer = keras.Input((32, 40, 3))
    return keras.Model(outer, keras.layers.GlobalAveragePooling2D(name="pooled")(inner(outer)))


def assert_rejected(path: Path, message: str, **options: Any) -> None:
    """The model file is rejected in words that match, its path first."""
    with pytest.raises(ExportError, match=message) as rejection:
        load_custom(path, "none", **options)
    assert str(rejection.value).startswith(f"{path}: ")
    assert "\n" not in str(rejection.value)


@FORMATS
@pytest.mark.parametrize("nested", [False, True])
@pytest.mark.parametrize(
    ("layer", "message"),
    [
        (lambda: keras.layers.Lambda(lambda x: x * 2, name="twice"), "layer 'twice' is a Lambda, .*--preprocess"),
        (lambda: Doubling(name="attend"), "layer 'attend' is of the class 'Doubling', which is not one of Keras'"),
        (lambda: Elsewhere(name="other"), "layer 'other' is of the class '.*Elsewhere', which"),
        (lambda: keras.layers.Activation(tripled, name="act"), "layer 'act' uses the function 'tripled', whose code"),
    ],
)
def test_layer_that_cannot_be_loaded_is_named(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    layer: Callable[[], Any],
    message: str,
    suffix: str,
    *,
    nested: bool,
) -> None:
    """Code in the file, and classes and functions that are not here, are rejected with the layer that needs them."""
    path = tmp_path / f"mine{suffix}"
    with_layer(layer(), nested=nested).save(path)
    monkeypatch.delitem(keras.saving.get_custom_objects(), "somewhere>Elsewhere")
    assert_rejected(path, message)


@pytest.mark.parametrize(
    ("builder", "suffix"), [pytest.param("ConvNeXtTiny", ".keras", marks=pytest.mark.nightly), ("MobileNetV2", ".h5")]
)
def test_fine_tuned_network_loads(tmp_path: Path, builder: str, suffix: str) -> None:
    """A known network with another head, saved whole, embeds as it did; Keras' unlisted layers need no code."""
    build = getattr(keras.applications, builder)
    base = build(include_top=False, weights=None, input_shape=(32, 40, 3), pooling="avg")
    image = keras.Input((32, 40, 3))
    tuned = keras.Model(image, keras.layers.Dense(8, activation="softmax", name="classes")(base(image)))
    tuned.save(tmp_path / f"tuned{suffix}")
    backbone = load_custom(tmp_path / f"tuned{suffix}", "none")
    assert (backbone.name, backbone.preprocess, backbone.height, backbone.width) == ("tuned", "none", 32, 40)
    np.testing.assert_allclose(backbone.network(PIXELS), tuned(PIXELS), rtol=1e-5)


def test_operations_in_an_h5(tmp_path: Path) -> None:
    """Arithmetic beside layers is lost in Keras' older format: the error says that, not that a class is foreign."""
    network = feature_map()
    keras.Model(network.input, network.output + network.output * 2.0).save(tmp_path / "sum.h5")
    assert_rejected(tmp_path / "sum.h5", r"cannot load it as a Keras model: .*a \.keras keeps them")


def test_layer_cuts_the_network(tmp_path: Path) -> None:
    """The output of the named layer is the result and part of the model's name; other names are rejected."""
    network = feature_map()
    head = keras.layers.Dense(4, name="classes")(keras.layers.GlobalAveragePooling2D(name="features")(network.output))
    side = keras.layers.Flatten(name="side")(network.output)
    keras.Model(network.input, [head, side]).save(tmp_path / "two.keras")
    backbone = load_custom(tmp_path / "two.keras", "tf", layer="features")
    assert backbone.name == "two:features"
    pooled = np.asarray(network(PIXELS)).mean(axis=(1, 2))
    np.testing.assert_allclose(backbone.network(PIXELS), pooled, rtol=1e-5)
    last = "the last ones are norm, second, features, classes, side$"
    assert_rejected(tmp_path / "two.keras", f"--layer: there is no layer 'pool'; {last}", layer="pool")
    assert_rejected(tmp_path / "two.keras", "it has 1 and 2; --layer NAME picks one")


def test_nested_network_is_a_layer(tmp_path: Path) -> None:
    """A network within the network is cut off behind, where it stands in the outer one."""
    image = keras.Input((32, 40, 3))
    base = feature_map()
    scaled = base(keras.layers.Rescaling(1 / 127.5, offset=-1, name="scale")(image))
    keras.Model(image, keras.layers.GlobalMaxPooling2D()(scaled)).save(tmp_path / "tuned.keras")
    backbone = load_custom(tmp_path / "tuned.keras", "none", layer=base.name)
    np.testing.assert_allclose(backbone.network(PIXELS), base(PIXELS / 127.5 - 1), rtol=1e-4, atol=1e-5)


def test_layer_used_twice_is_rejected(tmp_path: Path) -> None:
    """A layer with two outputs of its own is ambiguous."""
    image = keras.Input((32, 40, 3))
    shared = keras.layers.Conv2D(3, 3, padding="same", name="shared")
    keras.Model(image, keras.layers.Add(name="sum")([shared(image), shared(shared(image))])).save(tmp_path / "x.keras")
    assert_rejected(tmp_path / "x.keras", "--layer shared: the model has more than one output of it", layer="shared")


def test_open_size_is_closed_by_the_option(tmp_path: Path) -> None:
    """A model that takes any size is exported at the requested one; without one, the error names the option."""
    image = keras.Input((None, None, 3))
    x = keras.layers.Conv2D(4, 3, strides=2, name="first")(image)
    keras.Model(image, keras.layers.MaxPooling2D(3, name="pool")(x)).save(tmp_path / "any.keras")
    backbone = load_custom(tmp_path / "any.keras", "tf", input_size=(48, 32))
    assert (backbone.height, backbone.width) == (48, 32)
    assert_rejected(tmp_path / "any.keras", r"fixed sizes, it is \(None, None, None, 3\); --input-size fixes it")
    assert_rejected(tmp_path / "any.keras", "--input-size 5x48: the model cannot take it: ", input_size=(5, 48))


def test_fixed_size_is_kept(tmp_path: Path) -> None:
    """A fixed size may be passed again, and not changed."""
    feature_map().save(tmp_path / "tiny.keras")
    assert load_custom(tmp_path / "tiny.keras", "tf", input_size=(32, 40)).width == 40
    assert_rejected(tmp_path / "tiny.keras", r"--input-size 40x32: the model's input is fixed, \(None, 32, 40, 3\)",
            input_size=(40, 32))  # fmt: skip


def two_inputs() -> Any:
    """A network of an image and a scalar."""
    image, number = keras.Input((32, 32, 3)), keras.Input((1,))
    return keras.Model([image, number], keras.layers.Concatenate()([keras.layers.Flatten()(image), number]))


def mixed() -> Any:
    """A network trained in mixed precision."""
    image = keras.Input((32, 32, 3))
    return keras.Model(image, keras.layers.Conv2D(4, 3, dtype="mixed_float16", name="narrow")(image))


def grayscale() -> Any:
    """A network of one channel."""
    image = keras.Input((32, 32, 1))
    return keras.Model(image, keras.layers.Conv2D(4, 3)(image))


def unbuilt() -> Any:
    """A network that has not seen an image."""
    return keras.Sequential([keras.layers.Conv2D(3, 3)])


@FORMATS
@pytest.mark.filterwarnings("ignore:.*not.*built:UserWarning")
@pytest.mark.parametrize(
    ("network", "message"),
    [
        (two_inputs, "one input and one output, it has 2 and 1$"),
        (mixed, r"layer 'narrow' does not \(float16\); .*set_dtype_policy"),
        (grayscale, r"must be \[N, height, width, 3\] with fixed sizes, it is \(None, 32, 32, 1\)$"),
        (unbuilt, r"keras\.Input\(\(height, width, 3\)\)"),
    ],
)
def test_model_of_another_form(tmp_path: Path, network: Callable[[], Any], message: str, suffix: str) -> None:
    """What is not one float32 image in, one tensor out, is rejected with what to change."""
    network().save(tmp_path / f"bad{suffix}")
    assert_rejected(tmp_path / f"bad{suffix}", message)


def test_damaged_files(tmp_path: Path) -> None:
    """A text, a zip of something else, a cut-off model and one with a broken description are each called damaged."""
    path = tmp_path / "x.keras"
    path.write_text("not a model")
    assert_rejected(path, "damaged, or not a Keras model: File is not a zip file")
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("notes.txt", "mine")
    assert_rejected(path, "damaged, or not a Keras model: .*config.json")
    for text in ("{", "[]", json.dumps({"class_name": "Functional"})):
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("config.json", text)
        assert_rejected(path, "not a Keras model|cannot load it")
    feature_map().save(path)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    assert_rejected(path, "damaged, or not a Keras model")


def test_files_that_are_no_models(tmp_path: Path) -> None:
    """Weights alone, a folder, another ending and no file are each rejected with what to pass."""
    feature_map().save_weights(tmp_path / "mine.weights.h5")
    assert_rejected(tmp_path / "mine.weights.h5", "it has weights and no model; .*--backbone NAME --weights")
    (tmp_path / "saved_model").mkdir()
    assert_rejected(tmp_path / "saved_model", "a folder is not a model file")
    (tmp_path / "mine.pb").write_bytes(b"")
    assert_rejected(tmp_path / "mine.pb", r"ends in \.keras or \.h5")
    assert_rejected(tmp_path / "none.keras", "no such model file")
