"""Models that take whole numbers, preprocess inside, or have their channels first."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np
import onnxruntime
import pytest
from networks import Run, feature_map

layers = keras.layers


def of_integers(dtype: str) -> Any:
    """The tiny network behind an input of whole numbers, scaled inside."""
    image = keras.Input((32, 40, 3), dtype=dtype)
    return keras.Model(image, feature_map()(layers.Rescaling(1 / 127.5, offset=-1)(image)))


@pytest.mark.parametrize("suffix", [".keras", ".h5"])
@pytest.mark.parametrize("dtype", ["uint8", "int32"])
def test_model_of_whole_numbers(run: Run, tmp_path: Path, dtype: str, suffix: str) -> None:
    """A model that takes uint8 or other integers and scales them inside is exported, and embeds as Keras does."""
    network = of_integers(dtype)
    network.save(tmp_path / f"mine{suffix}")
    result = run("--model", tmp_path / f"mine{suffix}", "--preprocess", "none", "--metric", "euclidean",
                 "--out", tmp_path / "out")  # fmt: skip
    assert result.exit_code == 0, result.output
    pixels = np.random.default_rng(3).integers(0, 256, (2, 32, 40, 3)).astype(np.uint8)
    session = onnxruntime.InferenceSession(tmp_path / "out" / "model.onnx", providers=["CPUExecutionProvider"])
    expected = np.asarray(network(pixels)).mean(axis=(1, 2))
    np.testing.assert_allclose(session.run(None, {"images": pixels})[0], expected, rtol=1e-4, atol=1e-5)


def test_whole_numbers_are_not_preprocessed(run: Run, tmp_path: Path) -> None:
    """Preprocessed pixels would be rounded on the way into such a model: only `none` is accepted."""
    of_integers("uint8").save(tmp_path / "mine.keras")
    result = run("--model", tmp_path / "mine.keras", "--preprocess", "tf", "--out", tmp_path / "out")
    assert result.exit_code == 1
    assert "--preprocess tf: the model takes whole numbers (uint8), so" in result.stderr.splitlines()[-1]


def test_preprocess_input_inside(run: Run, tmp_path: Path) -> None:
    """A model that calls Keras' own `preprocess_input` is exported with `none`, as the one without it with `caffe`."""
    image = keras.Input((32, 40, 3))
    inside = keras.Model(image, feature_map()(keras.applications.resnet50.preprocess_input(image)))
    inside.save(tmp_path / "inside.keras")
    feature_map().save(tmp_path / "outside.keras")
    pixels = np.random.default_rng(3).integers(0, 256, (2, 32, 40, 3)).astype(np.uint8)
    embeddings = []
    for name, mode in (("inside", "none"), ("outside", "caffe")):
        result = run("--model", tmp_path / f"{name}.keras", "--preprocess", mode, "--out", tmp_path / name)
        assert result.exit_code == 0, result.output
        session = onnxruntime.InferenceSession(tmp_path / name / "model.onnx", providers=["CPUExecutionProvider"])
        embeddings.append(session.run(None, {"images": pixels})[0])
    np.testing.assert_allclose(embeddings[0], embeddings[1], atol=1e-5)


def channels_first(*inside: Any) -> Any:
    """A network that computes with its channels first."""
    image = keras.Input((32, 40, 3))
    x = layers.Permute((3, 1, 2))(image)
    for layer in inside:
        x = layer(x)
    return keras.Model(image, layers.GlobalAveragePooling2D(data_format="channels_first")(x))


NCHW: dict[str, Any] = {"data_format": "channels_first", "name": "first"}


@pytest.mark.parametrize(
    "layer",
    [
        lambda: layers.Conv2D(4, 3, **NCHW),
        lambda: layers.DepthwiseConv2D(3, **NCHW),
        lambda: layers.SeparableConv2D(4, 3, **NCHW),
        lambda: layers.Conv2DTranspose(4, 3, **NCHW),
        lambda: layers.MaxPooling2D(**NCHW),
        lambda: layers.AveragePooling2D(2, **NCHW),
    ],
)
def test_channels_first_is_named(run: Run, tmp_path: Path, layer: Callable[[], Any]) -> None:
    """A layer that TensorFlow does not compute on a CPU is rejected in one line with its name and what to do."""
    channels_first(layer()).save(tmp_path / "mine.keras")
    result = run("--model", tmp_path / "mine.keras", "--preprocess", "none", "--out", tmp_path / "out")
    assert result.exit_code == 1
    error = result.stderr.splitlines()[-1]
    assert error.startswith(f"Error: {tmp_path / 'mine.keras'}: layer 'first' (")
    assert "channels first (NCHW)" in error
    assert "data_format='channels_last'" in error


def test_channels_first_that_can_be_computed(run: Run, tmp_path: Path) -> None:
    """Layers that do not mind are exported."""
    network = channels_first(
        layers.BatchNormalization(axis=1),
        layers.ZeroPadding2D(data_format="channels_first"),
        layers.UpSampling2D(data_format="channels_first"),
    )
    network.save(tmp_path / "mine.keras")
    result = run("--model", tmp_path / "mine.keras", "--preprocess", "none", "--out", tmp_path / "out")
    assert result.exit_code == 0, result.output
