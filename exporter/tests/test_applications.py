"""The networks of keras.applications: the table about them holds, and small ones of all kinds become graphs."""

import hashlib
import importlib
from pathlib import Path
from types import ModuleType
from typing import Any

import keras
import numpy as np
import pytest
from keras.src.applications.convnext import ConvNeXt
from networks import feature_map  # noqa: F401 - first: it sets what Keras reads when it is imported

from lookalike_exporter.errors import EX_UNAVAILABLE, ExportError
from lookalike_exporter.evaluation.parity import check_parity
from lookalike_exporter.graph.convert import to_onnx, wrap
from lookalike_exporter.graph.preprocess import MODES
from lookalike_exporter.images import generate_images
from lookalike_exporter.networks import backbone as backbones
from lookalike_exporter.networks.applications import APPLICATIONS, PublishedWeights, build_application
from lookalike_exporter.networks.backbone import build_known
from lookalike_exporter.networks.backbone_names import BACKBONES


def module_of(name: str) -> ModuleType:
    """Return the module of Keras that defines a network, `preprocess_input` beside it."""
    return importlib.import_module(getattr(keras.applications, APPLICATIONS[name].builder).__module__)


def test_names_are_the_networks() -> None:
    """The command line offers all of keras.applications but its largest network, and squeezenet."""
    assert set(BACKBONES) == {*APPLICATIONS, "squeezenet"}
    assert BACKBONES[:2] == ("resnet50", "squeezenet")
    assert len(set(BACKBONES)) == len(BACKBONES)
    offered = {name for name in dir(keras.applications) if name[0].isupper()}
    assert {each.builder for each in APPLICATIONS.values()} == offered - {"ConvNeXtXLarge"}


@pytest.mark.parametrize("name", APPLICATIONS)
def test_mode_is_what_keras_does(name: str) -> None:
    """A network's mode gives the pixels its own `preprocess_input` gives."""
    pixels = np.random.default_rng(5).integers(0, 256, (2, 3, 4, 3)).astype(np.float32)
    expected = module_of(name).preprocess_input(pixels.copy())
    mode = MODES[APPLICATIONS[name].preprocess]
    actual = (pixels[..., ::-1] if mode.bgr else pixels) * np.array(mode.scale) + np.array(mode.offset)
    np.testing.assert_allclose(actual, expected, rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize("name", [name for name in APPLICATIONS if not name.startswith("mobilenetv3")])
def test_size_is_the_published_one(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A network's default input is the one that Keras gives it with its classifier."""

    class DefaultSize(Exception):  # noqa: N818 - it ends the building, and is not an error
        pass

    def obtain_input_shape(_shape: object, default_size: int, **_: object) -> None:
        raise DefaultSize(default_size)

    monkeypatch.setattr("keras.src.applications.imagenet_utils.obtain_input_shape", obtain_input_shape)
    with pytest.raises(DefaultSize) as size:
        getattr(keras.applications, APPLICATIONS[name].builder)(weights=None)
    assert size.value.args == (APPLICATIONS[name].size,)


def test_published_file_is_that_of_the_size() -> None:
    """A MobileNet has a file for each of several sizes; one without its own takes that of 224."""
    _, at_96 = build_application("mobilenetv2", (96, 96))
    _, at_100 = build_application("mobilenetv2", (100, 100))
    assert "_96_" in at_96.name
    assert "_224_" in at_100.name
    assert at_96.digest is None
    assert at_96.url.endswith(at_96.name)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "size", "dim"),
    [
        ("mobilenetv2", (96, 64), 1280),
        pytest.param("mobilenetv3small", (64, 64), 576, marks=pytest.mark.nightly),
        ("efficientnetb0", (64, 64), 1280),
        pytest.param("densenet121", (64, 64), 1024, marks=pytest.mark.nightly),
        pytest.param("convnexttiny", (64, 96), 768, marks=pytest.mark.nightly),
    ],
)
def test_network_becomes_a_graph(name: str, size: tuple[int, int], dim: int) -> None:
    """A network of another size than its own converts, and its graph agrees with Keras."""
    backbone = build_known(name, "random", 7, size)
    assert (backbone.height, backbone.width) == size
    assert (backbone.name, backbone.preprocess) == (name, APPLICATIONS[name].preprocess)
    embedder = wrap(backbone, pooling="avg", metric="cosine")
    assert embedder.output.dim == dim
    parity = check_parity(to_onnx(embedder, {}), backbone, embedder, generate_images(*size)[:4])
    assert parity.cosine_min > 0.99999


@pytest.mark.parametrize(
    "size", [(32, 64), pytest.param((64, 32), marks=pytest.mark.slow), pytest.param((32, 96), marks=pytest.mark.slow)]
)
def test_map_of_one_row(size: tuple[int, int]) -> None:
    """A ConvNeXt whose last map is one row becomes a graph, where tf2onnx makes one of shapes that do not fit."""
    keras.utils.set_random_seed(1)
    network = ConvNeXt(depths=[1] * 4, projection_dims=[8, 16, 24, 32], include_top=False, weights=None,
                       input_shape=(*size, 3), name="small")  # fmt: skip
    assert network.output_shape[1:3] == (size[0] // 32, size[1] // 32)
    backbone = backbones.Backbone(network, "small", "random(seed=1)", "none", *size)
    embedder = wrap(backbone, pooling="avg", metric="cosine")
    assert check_parity(to_onnx(embedder, {}), backbone, embedder, generate_images(*size)[:4]).cosine_min > 0.99999


@pytest.mark.parametrize("name", ["mobilenetv2", "inceptionv3", "mobilenetv3large", "squeezenet"])
def test_too_small_a_size(name: str) -> None:
    """A size the network cannot take is rejected by the option's name."""
    with pytest.raises(ExportError, match=f"--input-size 16x224: {name} .*at least"):
        build_known(name, "random", 0, (16, 224))


def test_efficientnet_is_the_network_of_its_imagenet_weights() -> None:
    """EfficientNetB0 has the rescaling that Keras puts in for ImageNet weights alone."""
    rescalings = [layer for layer in build_application("efficientnetb0", (32, 32))[0].layers
                  if isinstance(layer, keras.layers.Rescaling)]  # fmt: skip
    assert len(rescalings) == 2


def set_mean(network: Any, mean: tuple[float, float, float]) -> None:
    """Give the normalization at the network's beginning a mean, as ImageNet's weights do."""
    layer = next(layer for layer in network.layers if isinstance(layer, keras.layers.Normalization))
    layer.set_weights([np.array(mean), np.array([0.229, 0.224, 0.225]), np.array(0)])
    layer.finalize_state()


@pytest.mark.slow
def test_efficientnet_file_brings_its_normalization(tmp_path: Path) -> None:
    """A file saved at one size embeds at another as the network it was saved from, what it normalizes by included."""
    stored, _ = build_application("efficientnetb0", (32, 32))
    set_mean(stored, (0.485, 0.456, 0.406))
    stored.save_weights(tmp_path / "mine.weights.h5")
    loaded = build_known("efficientnetb0", str(tmp_path / "mine.weights.h5"), 0, (64, 48)).network
    pixels = np.random.default_rng(1).uniform(0, 255, (1, 64, 48, 3)).astype(np.float32)
    same, _ = build_application("efficientnetb0", (64, 48))
    for ours, theirs in zip(same.layers, stored.layers, strict=True):
        ours.set_weights(theirs.get_weights())
    set_mean(same, (0.485, 0.456, 0.406))
    np.testing.assert_allclose(loaded(pixels), same(pixels), rtol=1e-4, atol=1e-6)


@pytest.mark.slow
def test_efficientnet_of_the_other_arrangement_is_rejected(tmp_path: Path) -> None:
    """Weights that did not start as ImageNet's belong to a network with one layer less, and are rejected."""
    other = keras.applications.EfficientNetB0(include_top=False, weights=None, input_shape=(32, 32, 3))
    other.save_weights(tmp_path / "other.weights.h5")
    with pytest.raises(ExportError, match=r"layer 'normalization.*--model with --preprocess none"):
        build_known("efficientnetb0", str(tmp_path / "other.weights.h5"), 0, (32, 32))


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder for Keras to keep weights in."""
    monkeypatch.setattr("lookalike_exporter.compat.keras_patches.keras_home", lambda: str(tmp_path))
    (tmp_path / "models").mkdir()
    return tmp_path / "models"


def test_cached_imagenet_weights_need_no_network(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file where Keras keeps them is used as it is; the network has exactly its weights."""
    stored, published = build_application("mobilenetv2", (96, 96))
    stored.save(home / published.name)
    monkeypatch.delattr(backbones, "download_url")
    backbone = build_known("mobilenetv2", "imagenet", 0, (96, 96))
    assert backbone.weights == "imagenet"
    for actual, expected in zip(backbone.network.get_weights(), stored.get_weights(), strict=True):
        assert np.array_equal(actual, expected)


def test_damaged_cached_weights_are_named(home: Path) -> None:
    """A file where Keras keeps them, without a published digest and cut short, is rejected with what to do."""
    _, published = build_application("mobilenetv2", (96, 96))
    (home / published.name).write_bytes(b"\x89HDF\r\n\x1a\n" + bytes(100))
    with pytest.raises(ExportError, match=r"no_top\.h5: cannot load .* delete it"):
        build_known("mobilenetv2", "imagenet", 0, (96, 96))


@pytest.mark.usefixtures("home")
@pytest.mark.parametrize("name", ["mobilenetv2", pytest.param("convnexttiny", marks=pytest.mark.nightly)])
def test_unreachable_host_says_what_to_do(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without Keras' host any network's ImageNet weights end with status 69 and the three alternatives."""
    urls: list[str] = []

    def download_url(url: str, _target: Path, **_: str | None) -> None:
        urls.append(url)
        raise ExportError("no answer in 12 s", exit_code=EX_UNAVAILABLE)

    monkeypatch.setattr(backbones, "download_url", download_url)
    with pytest.raises(
        ExportError, match=f"weights of {name} could not be downloaded .*--weights FILE.*squeezenet.*random"
    ) as no:
        build_known(name, "imagenet", 0, (96, 96))
    assert no.value.exit_code == EX_UNAVAILABLE
    assert urls == [build_application(name, (96, 96))[1].url]


def test_published_file_is_known_by_its_digest(tmp_path: Path) -> None:
    """Keras gives digests of both kinds; a file with another content, or without a digest, is not certain."""
    (tmp_path / "file").write_bytes(b"weights")
    assert not PublishedWeights("file", "", None).is_at(tmp_path / "file")
    assert not PublishedWeights("file", "", "0" * 64).is_at(tmp_path / "file")
    assert PublishedWeights("file", "", hashlib.md5(b"weights", usedforsecurity=False).hexdigest()).is_at(
        tmp_path / "file"
    )
    assert PublishedWeights("file", "", hashlib.sha256(b"weights").hexdigest()).is_at(tmp_path / "file")
