"""What an export writes, and that it depends on its inputs alone."""

import hashlib
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import keras
import numpy as np
import onnx
import onnxruntime
import pytest
from folders import manifest_of
from networks import Run, feature_map
from PIL import Image

from lookalike_exporter.images import PARITY_IMAGES, find_images, generate_images
from lookalike_exporter.specs import InputSpec


def embed(folder: Path, images: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Embed by ONNX Runtime from a model folder."""
    session = onnxruntime.InferenceSession(folder / "model.onnx", providers=["CPUExecutionProvider"])
    return np.asarray(session.run(["embeddings"], {"images": images})[0])


def test_manifest_is_the_whole_contract(run: Run, tiny: Path, tmp_path: Path) -> None:
    """model.json holds exactly the fields of schema version 3, in order, and the digest of the graph's file."""
    out = tmp_path / "models" / "mine"
    result = run("--model", tiny, "--preprocess", "torch", "--out", out)
    assert result.exit_code == 0, result.output
    assert "MEANINGLESS" not in result.output
    assert sorted(path.name for path in out.iterdir()) == ["model.json", "model.onnx"]
    manifest = manifest_of(out)
    parity, tools = manifest.pop("parity"), manifest.pop("tools")
    assert list(manifest.items()) == [
        ("schema_version", 3),
        ("name", "mine"),
        ("backbone", "tiny"),
        ("weights", f"file:tiny.keras@sha256:{hashlib.sha256(tiny.read_bytes()).hexdigest()[:12]}"),
        ("graph", {
            "file": "model.onnx",
            "sha256": hashlib.sha256((out / "model.onnx").read_bytes()).hexdigest(),
            "opset": 18,
            "input": "images",
            "output": "embeddings",
        }),
        ("input", {
            "height": 32, "width": 40, "layout": "NHWC", "dtype": "uint8", "color": "RGB", "resize": "bilinear",
            "color_management": "srgb",
        }),
        ("preprocess", "torch"),
        ("output", {"dim": 6, "pooling": "avg", "metric": "cosine", "normalized": True}),
        ("precision", "fp32"),
        ("parity_bounds", {"min_cosine": 0.9995, "min_overlap": 0.95}),
        ("projection", None),
        ("variant", None),
        ("runtimes", None),
        ("arguments", ["--model", str(tiny), "--preprocess", "torch"]),
    ]  # fmt: skip
    assert list(parity) == ["images", "cosine_min", "cosine_median", "max_abs_diff"]
    assert parity["images"] == PARITY_IMAGES
    assert 0.999999 < parity["cosine_min"] <= parity["cosine_median"] <= 1.0
    assert list(tools) == ["tensorflow", "keras", "tf2onnx", "onnx", "onnxruntime"]
    assert all(tools.values())


def test_graph_is_self_contained(run: Run, tiny: Path, tmp_path: Path) -> None:
    """One uint8 input [N, H, W, 3], one float32 output [N, dim], the standard operators, the digest's metadata."""
    out = tmp_path / "mine"
    run("--model", tiny, "--preprocess", "caffe", "--resize", "nearest", "--out", out)
    model = onnx.load(out / "model.onnx")
    described = [
        (value.name, value.type.tensor_type.elem_type,
         [side.dim_param or side.dim_value for side in value.type.tensor_type.shape.dim])
        for value in [*model.graph.input, *model.graph.output]
    ]  # fmt: skip
    assert described == [
        ("images", onnx.TensorProto.UINT8, ["N", 32, 40, 3]),
        ("embeddings", onnx.TensorProto.FLOAT, ["N", 6]),
    ]
    assert [(used.domain, used.version) for used in model.opset_import] == [("", 18)]
    assert {entry.key: entry.value for entry in model.metadata_props} == {
        "lookalike.color_management": "srgb",
        "lookalike.height": "32",
        "lookalike.width": "40",
        "lookalike.layout": "NHWC",
        "lookalike.colour": "RGB",  # codespell:ignore
        "lookalike.resize": "nearest",
        "lookalike.preprocess": "caffe",
        "lookalike.pooling": "avg",
        "lookalike.metric": "cosine",
        "lookalike.normalised": "true",  # codespell:ignore
    }


def test_batch_size_changes_no_embedding(run: Run, tiny: Path, tmp_path: Path) -> None:
    """An image has the same embedding alone and in a batch of any size."""
    out = tmp_path / "mine"
    run("--model", tiny, "--preprocess", "tf", "--out", out)
    images = generate_images(32, 40)
    together = embed(out, images)
    for size in (1, 3):
        np.testing.assert_allclose(embed(out, images[:size]), together[:size], atol=1e-6)


@pytest.mark.parametrize("mode", ["caffe", "torch", "tf", "rescale", "none"])
def test_preprocessing_is_that_of_keras(run: Run, tmp_path: Path, mode: str) -> None:
    """Through a network that only averages, an embedding is the image's mean as Keras preprocesses it."""
    image = keras.Input((8, 12, 3))
    keras.Model(image, keras.layers.Activation("linear")(image)).save(tmp_path / "same.keras")
    out = tmp_path / "mine"
    result = run("--model", tmp_path / "same.keras", "--preprocess", mode, "--metric", "euclidean", "--out", out)
    assert result.exit_code == 0, result.output
    images = generate_images(8, 12)
    if mode in {"caffe", "torch", "tf"}:
        pixels = keras.applications.imagenet_utils.preprocess_input(images.astype(np.float32), mode=mode)
    else:
        pixels = images.astype(np.float32) / (255 if mode == "rescale" else 1)
    np.testing.assert_allclose(embed(out, images), pixels.mean(axis=(1, 2)), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("pooling", ["avg", "max", "flatten"])
@pytest.mark.parametrize("metric", ["cosine", "euclidean"])
def test_pooling_and_metric(run: Run, tiny: Path, tmp_path: Path, pooling: str, metric: str) -> None:
    """Pooling and normalization are in the graph, and only what was requested."""
    out = tmp_path / "mine"
    result = run("--model", tiny, "--preprocess", "none", "--pooling", pooling, "--metric", metric, "--out", out)
    assert result.exit_code == 0, result.output
    images = generate_images(32, 40)
    features = keras.models.load_model(tiny).predict(images.astype(np.float32), verbose=0)
    pools = {"avg": lambda: features.mean(axis=(1, 2)), "max": lambda: features.max(axis=(1, 2))}
    expected = pools.get(pooling, lambda: features.reshape(len(features), -1))()
    if metric == "cosine":
        expected = expected / np.linalg.norm(expected, axis=1, keepdims=True)
    # float32 rounds sums by the size of their terms, so what is absolute is measured in lengths of the embedding.
    lengths = np.linalg.norm(expected, axis=1, keepdims=True)
    np.testing.assert_allclose(embed(out, images) / lengths, expected / lengths, rtol=1e-4, atol=1e-6)
    output = manifest_of(out)["output"]
    dim = 6 * 8 * 10 if pooling == "flatten" else 6
    assert output == {"dim": dim, "pooling": pooling, "metric": metric, "normalized": metric == "cosine"}


def test_random_weights(run: Run, tmp_path: Path) -> None:
    """The warning says that their embeddings mean nothing; the seed is 0, and preprocessing may be another."""
    arguments = ["--backbone", "squeezenet", "--weights", "random", "--input-size", "64x64"]
    for name, options in (("default", []), ("other", ["--preprocess", "rescale"])):
        result = run(*arguments, *options, "--out", tmp_path / name)
        assert result.exit_code == 0, result.output
        assert "MEANINGLESS" in result.output
    default, other = manifest_of(tmp_path / "default"), manifest_of(tmp_path / "other")
    assert default["weights"] == other["weights"] == "random(seed=0)"
    assert (default["preprocess"], other["preprocess"]) == ("caffe", "rescale")
    assert default["graph"]["sha256"] != other["graph"]["sha256"]


def test_model_that_ends_in_vectors_keeps_its_own_pooling(run: Run, tmp_path: Path) -> None:
    """A network [N, dim] is taken as it is, and the manifest records that the model pooled; HDF5 files load too."""
    network = feature_map()
    pooled = keras.layers.GlobalMaxPooling2D()(network.output)
    keras.Model(network.input, pooled).save(tmp_path / "vectors.h5")
    out = tmp_path / "mine"
    result = run("--model", tmp_path / "vectors.h5", "--preprocess", "tf", "--out", out)
    assert result.exit_code == 0, result.output
    assert manifest_of(out)["output"]["pooling"] == "model"
    assert manifest_of(out)["output"]["dim"] == 6


def test_same_inputs_give_the_same_digest_in_another_process(run: Run, tmp_path: Path) -> None:
    """The digest identifies the model: a seed gives the same one again, whatever Python's hash seed."""
    arguments = ["--backbone", "squeezenet", "--weights", "random", "--seed", "5", "--input-size", "64x64"]
    assert run(*arguments, "--out", tmp_path / "here").exit_code == 0
    there = [sys.executable, "-m", "lookalike_exporter", "export", *arguments, "--out", str(tmp_path / "there")]
    subprocess.run(there, check=True, capture_output=True, env=os.environ | {"PYTHONHASHSEED": "77"})
    assert manifest_of(tmp_path / "here")["graph"] == manifest_of(tmp_path / "there")["graph"]
    assert manifest_of(tmp_path / "there")["weights"] == "random(seed=5)"


def test_what_changes_an_embedding_changes_the_digest(run: Run, tiny: Path, tmp_path: Path) -> None:
    """Another resize leaves the graph's arithmetic alone, and still is another model; so is any other choice."""
    choices = [
        ("--preprocess", "none"),
        ("--preprocess", "none", "--resize", "nearest"),
        ("--preprocess", "none", "--metric", "euclidean"),
        ("--preprocess", "none", "--pooling", "max"),
        ("--preprocess", "none", "--pooling", "flatten"),
        ("--preprocess", "rescale"),
    ]
    digests = set()
    for number, chosen in enumerate(choices):
        assert run("--model", tiny, *chosen, "--out", tmp_path / str(number)).exit_code == 0
        digests.add(manifest_of(tmp_path / str(number))["graph"]["sha256"])
    assert len(digests) == len(choices)


def test_images_are_seen_upright(tmp_path: Path) -> None:
    """An image that its camera took sideways is turned before it is resized, as the server does."""
    upright = np.zeros((20, 30, 3), np.uint8)
    upright[:, :15] = 255
    turned = Image.fromarray(np.rot90(upright))
    exif = turned.getexif()
    exif[0x0112] = 6  # orientation: to be turned by 90 degrees clockwise
    turned.save(tmp_path / "turned.png", exif=exif)
    image_set = find_images(tmp_path, InputSpec(20, 30, "nearest"), 1, print)
    np.testing.assert_array_equal(next(image_set.batches(1))[0], upright)


def test_parity_on_a_callers_images(run: Run, tiny: Path, tmp_path: Path) -> None:
    """Parity images are read from a folder and its sub-folders, in any color mode and size."""
    images = tmp_path / "images" / "below"
    images.mkdir(parents=True)
    for number, image in enumerate(generate_images(60, 50)):
        Image.fromarray(image).convert("RGB" if number % 2 else "L").save(images / f"{number}.png")
    out = tmp_path / "mine"
    result = run("--model", tiny, "--preprocess", "tf", "--parity-images", tmp_path / "images", "--out", out)
    assert result.exit_code == 0, result.output
    assert manifest_of(out)["parity"]["images"] == PARITY_IMAGES
