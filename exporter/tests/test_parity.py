"""The parity check notices the mistakes it is there for: each is planted, and rejected."""

from typing import Any

import numpy as np
import pytest
from networks import feature_map

from lookalike_exporter.errors import ExportError
from lookalike_exporter.evaluation.parity import check_parity, compare_embeddings
from lookalike_exporter.graph.convert import to_onnx, wrap
from lookalike_exporter.images import generate_images
from lookalike_exporter.networks.backbone import Backbone


def backbone(preprocess: str, network: Any) -> Backbone:
    """The tiny network as a backbone."""
    return Backbone(network, "tiny", "random(seed=3)", preprocess, 32, 40)


@pytest.mark.parametrize(("used", "trained"), [("none", "tf"), ("torch", "tf"), ("caffe", "none")])
def test_wrong_preprocessing_is_rejected(used: str, trained: str) -> None:
    """A graph that preprocesses in another way than the network's mode does not pass."""
    network = feature_map()
    wrong = backbone(used, network)
    embedder = wrap(wrong, pooling="avg", metric="cosine")
    graph = to_onnx(embedder, {})
    images = generate_images(32, 40)
    assert check_parity(graph, wrong, embedder, images).cosine_min > 0.9999
    with pytest.raises(ExportError, match="ONNX Runtime and Keras differ"):
        check_parity(graph, backbone(trained, network), embedder, images)


def test_swapped_channels_are_rejected() -> None:
    """A graph that gets BGR where it takes RGB does not pass."""
    rgb = backbone("caffe", feature_map())
    embedder = wrap(rgb, pooling="avg", metric="cosine")
    graph = to_onnx(embedder, {})
    images = generate_images(32, 40)
    flipped = wrap(backbone("none", feature_map()), pooling="avg", metric="cosine")
    with pytest.raises(ExportError, match="differ"):
        check_parity(to_onnx(flipped, {}), rgb, embedder, images)
    assert check_parity(graph, rgb, embedder, images).images == len(images)


def test_wrong_scale_is_rejected_though_the_cosine_is_one() -> None:
    """Embeddings that point the same way but have another length are rejected."""
    expected = np.random.default_rng(1).normal(size=(4, 8))
    with pytest.raises(ExportError, match="relative difference"):
        compare_embeddings(expected, expected * 1.01, 4)


def test_one_wrong_image_is_enough() -> None:
    """The smallest cosine decides, not the mean."""
    expected = np.random.default_rng(1).normal(size=(100, 8))
    actual = expected.copy()
    actual[42] = -actual[42]
    with pytest.raises(ExportError, match=r"smallest cosine -1\.0"):
        compare_embeddings(expected, actual, 100)


def test_generated_images_are_the_same_each_time() -> None:
    """The generated images are deterministic, of the requested size, different, and use the whole range."""
    images = generate_images(32, 40)
    assert images.shape == (16, 32, 40, 3)
    assert np.array_equal(images, generate_images(32, 40))
    assert len({image.tobytes() for image in images}) == 16
    assert (images.min(), images.max()) == (0, 255)
