"""The parity check sees the slips it is there for: each is planted, and refused."""

from typing import Any

import numpy as np
import pytest
from networks import feature_map

from lookalike_exporter.backbone import Backbone
from lookalike_exporter.convert import to_onnx, wrap
from lookalike_exporter.errors import ExportError
from lookalike_exporter.parity import check_parity, compare
from lookalike_exporter.photos import generated_photos


def backbone(preprocess: str, network: Any) -> Backbone:
    """The tiny network as a backbone."""
    return Backbone(network, "tiny", "random(seed=3)", preprocess, 32, 40)


@pytest.mark.parametrize(("said", "meant"), [("none", "tf"), ("torch", "tf"), ("caffe", "none")])
def test_wrong_preprocessing_is_refused(said: str, meant: str) -> None:
    """A graph that preprocesses in another way than the network's mode does not pass."""
    network = feature_map()
    wrong = backbone(said, network)
    embedder = wrap(wrong, pooling="avg", metric="cosine")
    graph = to_onnx(embedder, {})
    photos = generated_photos(32, 40)
    assert check_parity(graph, wrong, embedder, photos).cosine_min > 0.9999
    with pytest.raises(ExportError, match="ONNX Runtime and Keras differ"):
        check_parity(graph, backbone(meant, network), embedder, photos)


def test_swapped_channels_are_refused() -> None:
    """A graph that is given BGR where it takes RGB does not pass."""
    rgb = backbone("caffe", feature_map())
    embedder = wrap(rgb, pooling="avg", metric="cosine")
    graph = to_onnx(embedder, {})
    photos = generated_photos(32, 40)
    flipped = wrap(backbone("none", feature_map()), pooling="avg", metric="cosine")
    with pytest.raises(ExportError, match="differ"):
        check_parity(to_onnx(flipped, {}), rgb, embedder, photos)
    assert check_parity(graph, rgb, embedder, photos).images == len(photos)


def test_wrong_scale_is_refused_though_the_cosine_is_one() -> None:
    """Embeddings that point the same way but have another length are refused."""
    expected = np.random.default_rng(1).normal(size=(4, 8))
    with pytest.raises(ExportError, match="relative difference"):
        compare(expected, expected * 1.01, 4)


def test_one_wrong_image_is_enough() -> None:
    """The smallest cosine decides, not the mean."""
    expected = np.random.default_rng(1).normal(size=(100, 8))
    found = expected.copy()
    found[42] = -found[42]
    with pytest.raises(ExportError, match=r"smallest cosine -1\.0"):
        compare(expected, found, 100)


def test_pictures_are_the_same_each_time() -> None:
    """The generated pictures are deterministic, of the asked size, different, and use the whole range."""
    photos = generated_photos(32, 40)
    assert photos.shape == (16, 32, 40, 3)
    assert np.array_equal(photos, generated_photos(32, 40))
    assert len({photo.tobytes() for photo in photos}) == 16
    assert (photos.min(), photos.max()) == (0, 255)
